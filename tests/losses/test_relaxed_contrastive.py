import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.losses import RelaxedContrastiveLoss, relaxed_contrastive_loss
from tests import slow_forms

GOLDEN_BATCHES = [f"stml_loss_{i}" for i in range(6)]


@pytest.mark.parametrize("name", GOLDEN_BATCHES)
@pytest.mark.parametrize("head", ["f", "g"])
def test_loss_equals_the_authors(golden, name, head):
    batch = golden(name)
    loss = relaxed_contrastive_loss(batch[f"student_{head}"], batch["similarity"], delta=float(batch["delta"]))
    np.testing.assert_allclose(loss, batch[f"relaxed_contrastive_{head}"], rtol=1e-5)


@pytest.mark.parametrize("delta", [0.5, 1.0])
def test_loss_equals_the_slow_form(random, delta):
    embeddings = random.normal(size=(14, 5)).astype(np.float32)
    similarity = random.uniform(size=(14, 14)).astype(np.float32)
    expected = slow_forms.relaxed_contrastive(embeddings, similarity, delta)
    np.testing.assert_allclose(relaxed_contrastive_loss(embeddings, similarity, delta=delta), expected, rtol=1e-5)


def test_loss_ignores_order_scale_and_rotation(random):
    embeddings = random.normal(size=(10, 4)).astype(np.float32)
    similarity = random.uniform(size=(10, 10)).astype(np.float32)
    rotation, _ = np.linalg.qr(random.normal(size=(4, 4)))
    order = random.permutation(10)
    loss = relaxed_contrastive_loss(embeddings, similarity, delta=1.0)
    turned = relaxed_contrastive_loss(7.0 * embeddings @ rotation.astype(np.float32), similarity, delta=1.0)
    permuted = relaxed_contrastive_loss(embeddings[order], similarity[np.ix_(order, order)], delta=1.0)
    np.testing.assert_allclose([turned, permuted], loss, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("rows", [np.zeros((6, 3)), np.ones((6, 3)), np.repeat([[1, 2], [3, 5], [0, 1]], 2, axis=0)])
def test_collapsed_and_repeated_rows_are_finite(rows, dtype):
    embeddings = tf.Variable(rows.astype(dtype))
    with tf.GradientTape() as tape:
        loss = relaxed_contrastive_loss(embeddings, np.eye(len(rows), dtype=np.float32), delta=1.0)
    assert loss.dtype == tf.float32
    assert np.isfinite(loss)
    assert np.all(np.isfinite(tape.gradient(loss, embeddings)))


def test_keras_class_equals_the_function_and_survives_serialisation(random):
    embeddings = random.normal(size=(6, 3)).astype(np.float32)
    similarity = random.uniform(size=(6, 6)).astype(np.float32)
    loss = keras.losses.deserialize(keras.losses.serialize(RelaxedContrastiveLoss(delta=0.7)))
    expected = relaxed_contrastive_loss(embeddings, similarity, delta=0.7)
    np.testing.assert_allclose(loss(similarity, embeddings), expected, rtol=1e-6)
