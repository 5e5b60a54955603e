from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.distribution.accumulation import embed_in_pieces, forward
from stml_tf.methods import SelfTaughtModel
from stml_tf.optimizers import AdamP
from tests.methods.tiny_student import batches_of_views, tiny_student, weights_of


def loss_over_all_pairs(embeddings):
    """Which cannot be put together from the losses of pieces."""
    f, g = embeddings
    return tf.reduce_sum(tf.tanh(f @ tf.transpose(f)) ** 3) + tf.reduce_sum(tf.sin(g @ tf.transpose(g)))


def gradients_in_pieces(student, images, pieces):
    embeddings, backpropagate = forward(student, images, pieces=pieces)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        loss = loss_over_all_pairs(embeddings)
    return loss, backpropagate(tape.gradient(loss, embeddings), student.trainable_variables)


@pytest.fixture
def images(random):
    return random.normal(size=(8, 16, 16, 3)).astype(np.float32)


@pytest.mark.parametrize("pieces", [1, 2, 8])
def test_gradients_of_pieces_are_those_of_the_batch(images, pieces):
    student = tiny_student()
    with tf.GradientTape() as tape:
        loss = loss_over_all_pairs(student(images, training=True))
    expected = tape.gradient(loss, student.trainable_variables)
    found_loss, found = tf.function(gradients_in_pieces)(student, images, pieces)
    np.testing.assert_allclose(found_loss, loss, rtol=1e-5)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


def test_both_passes_draw_the_same_dropout_and_move_statistics_once(images):
    """As one tape over the pieces, each normalised by itself, would have it."""
    twins = []
    for _ in range(2):
        keras.utils.set_random_seed(4)
        twins.append(tiny_student(batch_norm="plain", dropout=0.5))
    student, twin = twins
    loss, found = gradients_in_pieces(student, images, 2)
    with tf.GradientTape() as tape:
        embedded = [twin(piece, training=True) for piece in tf.split(images, 2)]
        expected_loss = loss_over_all_pairs([tf.concat(parts, axis=0) for parts in zip(*embedded, strict=True)])
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for a, b in zip(found, tape.gradient(expected_loss, twin.trainable_variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())
    for a, b in zip(student.variables, twin.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=a.path)


def test_a_batch_in_pieces_trains_as_the_whole_one_does():
    trained = []
    for accumulate in (1, 4):
        keras.utils.set_random_seed(1)
        model = SelfTaughtModel(tiny_student(), num_neighbors=2, momentum=0.9, accumulate=accumulate)
        model.compile(AdamP(1e-3), head_optimizer=keras.optimizers.SGD(0.1))
        trained.append((model.fit(batches_of_views(10), shuffle=False, verbose=0).history, weights_of(model)))
    (whole_logs, whole), (piece_logs, pieces) = trained
    for a, b in zip(pieces, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
    for name, values in whole_logs.items():
        np.testing.assert_allclose(piece_logs[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def waits_for(op, other):
    """Whether an operation of a graph cannot begin before another has ended."""
    seen, waiting = set(), [op]
    while waiting:
        op = waiting.pop()
        if op is other:
            return True
        if op.name not in seen:
            seen.add(op.name)
            waiting += [*op.control_inputs, *(tensor.op for tensor in op.inputs)]
    return False


def test_pieces_come_one_after_another(images):
    """A piece begins when the one before has ended, its gradients too: memory holds the activations of one."""
    student = tiny_student()

    @tf.function
    def step(images):
        embeddings, backpropagate = forward(student, images, pieces=4)
        return backpropagate([tf.ones_like(each) for each in embeddings], student.trainable_variables)

    ops = step.get_concrete_function(tf.TensorSpec(images.shape)).graph.get_operations()
    first_layer = [op for op in ops if op.type == "Conv2D" and op.inputs[0].op.type == "Split"]
    assert len(first_layer) == 8  # four pieces, twice
    for before, after in pairwise(first_layer[:4]):
        assert waits_for(after, before)
        assert not waits_for(before, after)
    gradients = [op for op in ops if op.type == "Conv2DBackpropFilter"]
    for number, after in enumerate(first_layer[5:], start=1):
        of_piece_before = [op for op in gradients if waits_for(op, first_layer[3 + number])]
        assert of_piece_before
        assert any(waits_for(after, op) for op in of_piece_before)


@pytest.mark.parametrize("function", [forward, embed_in_pieces])
def test_unequal_pieces_are_refused(images, function):
    with pytest.raises(ValueError, match=r"8 rows on a device cannot be divided into 3 equal pieces: choose another"):
        function(tiny_student(), images, pieces=3)


def test_no_pieces_are_refused():
    with pytest.raises(ValueError, match="accumulate=0 must be 1 or more pieces"):
        SelfTaughtModel(tiny_student(), accumulate=0)
