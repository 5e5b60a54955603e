import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.losses import MeanShiftLoss, byol_loss, mean_shift_loss
from tests import slow_forms


@pytest.fixture
def batch(random):
    return [random.normal(size=(rows, 5)).astype(np.float32) for rows in (7, 7, 20)]


@pytest.mark.parametrize("top_k", [1, 4, 20])
def test_loss_equals_the_slow_form(batch, top_k):
    expected = slow_forms.mean_shift(*batch, top_k)
    np.testing.assert_allclose(mean_shift_loss(*batch, top_k=top_k), expected, rtol=1e-5)


def test_with_one_neighbor_and_the_targets_in_memory_it_is_byol(batch):
    predictions, targets, memory = batch
    loss = mean_shift_loss(predictions, targets, np.concatenate([memory, targets]), top_k=1)
    np.testing.assert_allclose(loss, byol_loss(predictions, targets), rtol=1e-5)


def test_loss_ignores_lengths_rotation_and_the_order_of_the_memory(random, batch):
    predictions, targets, memory = batch
    loss = mean_shift_loss(*batch, top_k=3)
    rotation = np.linalg.qr(random.normal(size=(5, 5)))[0].astype(np.float32)
    lengths = random.uniform(0.5, 2, (20, 1)).astype(np.float32)
    turned = mean_shift_loss(2 * predictions @ rotation, targets @ rotation, lengths * memory @ rotation, top_k=3)
    shuffled = mean_shift_loss(predictions, targets, memory[random.permutation(20)], top_k=3)
    np.testing.assert_allclose([turned, shuffled], loss, rtol=1e-4)


def test_the_predictions_alone_learn(batch):
    predictions, targets, memory = (tf.Variable(each) for each in batch)
    with tf.GradientTape() as tape:
        loss = mean_shift_loss(predictions, targets, memory, top_k=2)
    of_predictions, of_targets, of_memory = tape.gradient(loss, [predictions, targets, memory])
    expected = slow_forms.gradient(lambda x: slow_forms.mean_shift(x, batch[1], batch[2], top_k=2), batch[0])
    np.testing.assert_allclose(of_predictions, expected, rtol=1e-4, atol=1e-6)
    assert of_targets is None
    assert of_memory is None


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_empty_rows_are_finite(dtype):
    predictions = tf.Variable(np.zeros((3, 2), dtype))
    with tf.GradientTape() as tape:
        loss = mean_shift_loss(predictions, np.zeros((3, 2), dtype), np.zeros((4, 2), np.float32), top_k=2)
    assert loss.dtype == tf.float32
    assert np.isfinite(loss)
    assert np.all(np.isfinite(tape.gradient(loss, predictions)))


def test_keras_class_equals_the_function_and_survives_serialisation(batch):
    predictions, targets, memory = batch
    loss = keras.losses.deserialize(keras.losses.serialize(MeanShiftLoss(top_k=3)))
    expected = mean_shift_loss(predictions, targets, memory, top_k=3)
    np.testing.assert_allclose(loss((targets, memory), predictions), expected, rtol=1e-6)
