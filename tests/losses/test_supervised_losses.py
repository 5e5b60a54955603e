"""What all supervised losses have in common, and what two other libraries make of the same batches."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf import losses, registry
from stml_tf.losses import build_loss
from tests.losses.supervised_batch import DIM, LABELS, NUM_CLASSES, embeddings, proxies

FUNCTIONS = {
    "contrastive": losses.contrastive_loss,
    "lifted_structure": losses.lifted_structure_loss,
    "multi_similarity": losses.multi_similarity_loss,
    "multi_similarity_unmined": partial(losses.multi_similarity_loss, mining_margin=None),
    "n_pairs": losses.n_pairs_loss,
    "normalized_softmax": partial(losses.normalized_softmax_loss, proxies=proxies()),
    "proxy_anchor": partial(losses.proxy_anchor_loss, proxies=proxies()),
    "supervised_contrastive": losses.supervised_contrastive_loss,
    "triplet_all": partial(losses.triplet_loss, mining="all"),
    "triplet_hard": partial(losses.triplet_loss, mining="hard"),
    "triplet_semi_hard": partial(losses.triplet_loss, mining="semi_hard"),
}
WITH_PROXIES = {"normalized_softmax", "proxy_anchor"}
NOT_NORMALISED = {"contrastive", "lifted_structure", "n_pairs"}

every_loss = pytest.mark.parametrize("name", FUNCTIONS)


def value_and_gradient(function, labels, x):
    x = tf.Variable(x)
    with tf.GradientTape() as tape:
        loss = function(labels, x)
    return np.asarray(loss), np.asarray(tf.convert_to_tensor(tape.gradient(loss, x)))


def golden_cases():
    of_addons = ["contrastive", "triplet_semi_hard", "triplet_semi_hard_plain", "triplet_hard", "lifted_structure"]
    of_pytorch = ["triplet_all", "multi_similarity", "multi_similarity_unmined", "lifted_structure"]
    of_pytorch += ["supervised_contrastive", "proxy_anchor", "normalized_softmax"]
    for library, names in (("tensorflow_addons", of_addons), ("pytorch_metric_learning", of_pytorch)):
        yield from ((library, name, batch) for name in names for batch in ("even", "uneven", "pairs"))
        yield library, "n_pairs", "pairs"


@pytest.mark.parametrize(("library", "name", "batch"), list(golden_cases()))
def test_value_and_gradient_equal_another_library(golden, library, name, batch):
    arrays = golden(f"supervised_losses_{library}")
    function = {
        **FUNCTIONS,
        "contrastive": partial(losses.contrastive_loss, margin=2.0),
        "n_pairs": partial(losses.n_pairs_loss, norm_weight=0.0),
        "triplet_semi_hard_plain": partial(losses.triplet_loss, squared=False),
        "normalized_softmax": partial(losses.normalized_softmax_loss, proxies=arrays["proxies"]),
        "proxy_anchor": partial(losses.proxy_anchor_loss, proxies=arrays["proxies"]),
    }[name]
    loss, gradient = value_and_gradient(function, arrays[f"{batch}_labels"], arrays[f"{batch}_embeddings"])
    np.testing.assert_allclose(loss, arrays[f"{name}_{batch}"], rtol=1e-5)
    expected = arrays[f"{name}_{batch}_gradient"]
    assert np.linalg.norm(gradient - expected) < 1e-5 * np.linalg.norm(expected)


@every_loss
def test_order_of_the_rows_does_not_matter(random, name):
    order = random.permutation(len(LABELS))
    if name == "n_pairs":
        # Its pairs are made in the order of the rows of a class: whole classes move.
        order = np.argsort(random.permutation(NUM_CLASSES)[LABELS], kind="stable")
    loss = FUNCTIONS[name](LABELS, embeddings())
    np.testing.assert_allclose(FUNCTIONS[name](LABELS[order], embeddings()[order]), loss, rtol=1e-5)
    assert loss > 0.01


@every_loss
def test_names_of_the_classes_do_not_matter(random, name):
    names = random.permutation(NUM_CLASSES)
    function = FUNCTIONS[name]
    renamed = partial(function, proxies=proxies()[np.argsort(names)]) if name in WITH_PROXIES else function
    expected = function(LABELS, embeddings())
    np.testing.assert_allclose(renamed(names[LABELS], embeddings()), expected, rtol=1e-5)


@every_loss
def test_rotation_does_not_matter_and_scale_only_without_normalisation(random, name):
    rotation, _ = np.linalg.qr(random.normal(size=(DIM, DIM)))
    rotation = rotation.astype(np.float32)
    loss = FUNCTIONS[name](LABELS, embeddings())
    turned = partial(FUNCTIONS[name], proxies=proxies() @ rotation) if name in WITH_PROXIES else FUNCTIONS[name]
    np.testing.assert_allclose(turned(LABELS, embeddings() @ rotation), loss, rtol=1e-4)
    scaled = FUNCTIONS[name](LABELS, 3.0 * embeddings())
    assert np.isclose(scaled, loss, rtol=1e-4) == (name not in NOT_NORMALISED)


@every_loss
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [0, 1, 2, 3, 4, 5], [3] * 6], ids=["pairs", "apart", "one"])
@pytest.mark.parametrize("kind", ["zeros", "ones", "repeated", "random"])
def test_value_and_gradient_are_finite(random, name, dtype, labels, kind):
    rows = {
        "zeros": np.zeros((6, DIM)),
        "ones": np.ones((6, DIM)),
        "repeated": np.repeat(random.normal(size=(3, DIM)), 2, axis=0),
        "random": random.normal(size=(6, DIM)),
    }[kind]
    loss, gradient = value_and_gradient(FUNCTIONS[name], np.array(labels), rows.astype(dtype))
    assert loss.dtype == np.float32
    assert np.isfinite(loss)
    assert np.all(np.isfinite(gradient))


@every_loss
def test_one_row_is_a_batch(name):
    loss, gradient = value_and_gradient(FUNCTIONS[name], np.array([2]), embeddings()[:1])
    assert np.isfinite(loss)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - WITH_PROXIES - {"contrastive", "n_pairs"}))
def test_without_positives_there_is_nothing_to_learn(name):
    loss, gradient = value_and_gradient(FUNCTIONS[name], np.arange(len(LABELS)), embeddings())
    if name == "multi_similarity_unmined":  # Negatives count without positives there.
        assert loss > 0.0
    else:
        assert loss == 0.0
        assert np.all(gradient == 0.0)


@every_loss
def test_a_nan_is_not_hidden(name):
    x = embeddings()
    x[[0, 2]] = np.nan
    assert np.isnan(FUNCTIONS[name](LABELS, x))


@every_loss
def test_labels_may_be_a_column_or_floats(name):
    loss = FUNCTIONS[name](LABELS, embeddings())
    np.testing.assert_allclose(FUNCTIONS[name](LABELS[:, None], embeddings()), loss, rtol=1e-6)
    np.testing.assert_allclose(FUNCTIONS[name](LABELS.astype(np.float32), embeddings()), loss, rtol=1e-6)


@every_loss
def test_a_batch_may_have_any_size_in_a_graph(name):
    signature = [tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, None], tf.float32)]
    # A wrapper, as TensorFlow cannot read the signature of a partial function.
    graph = tf.function(lambda labels, x: FUNCTIONS[name](labels, x), input_signature=signature)
    for rows in (5, len(LABELS)):
        expected = FUNCTIONS[name](LABELS[:rows], embeddings()[:rows])
        np.testing.assert_allclose(graph(LABELS[:rows], embeddings()[:rows]), expected, rtol=1e-5)


@pytest.mark.parametrize("name", registry.losses)
def test_built_loss_equals_the_function_and_survives_serialisation(name):
    loss = build_loss(name, num_classes=NUM_CLASSES, dim=DIM)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    function = {**FUNCTIONS, "triplet": losses.triplet_loss}[name]
    if name in WITH_PROXIES:
        for each in (loss, copy):
            each.proxies.assign(proxies())
    expected = function(LABELS, embeddings())
    np.testing.assert_allclose(loss(LABELS, embeddings()), expected, rtol=1e-6)
    np.testing.assert_allclose(copy(LABELS, embeddings()), expected, rtol=1e-6)


def test_a_loss_compiles_into_a_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(DIM)])
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=build_loss("multi_similarity"))
    history = model.fit(embeddings(), LABELS, epochs=15, batch_size=len(LABELS), verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
