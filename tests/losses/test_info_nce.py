import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.losses import InfoNCELoss, info_nce_loss
from tests import slow_forms


@pytest.fixture
def batch(random):
    return [random.normal(size=(rows, 5)).astype(np.float32) for rows in (7, 7, 20)]


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_loss_equals_the_slow_form(batch, temperature):
    expected = slow_forms.info_nce(*batch, temperature)
    np.testing.assert_allclose(info_nce_loss(*batch, temperature=temperature), expected, rtol=1e-4)


def test_loss_ignores_lengths_rotation_and_the_order_of_negatives(random, batch):
    queries, keys, negatives = batch
    loss = info_nce_loss(*batch, temperature=0.2)
    rotation = np.linalg.qr(random.normal(size=(5, 5)))[0].astype(np.float32)
    turned = info_nce_loss(3.0 * queries @ rotation, 0.5 * keys @ rotation, negatives @ rotation, temperature=0.2)
    shuffled = info_nce_loss(queries, keys, negatives[random.permutation(20)], temperature=0.2)
    np.testing.assert_allclose([turned, shuffled], loss, rtol=1e-4)


def test_loss_falls_from_the_logarithm_of_all_candidates_to_zero():
    same = np.ones((4, 3), np.float32)
    loss = info_nce_loss(same, same, np.ones((9, 3), np.float32), temperature=0.07)
    np.testing.assert_allclose(loss, np.log(10), rtol=1e-5)
    np.testing.assert_allclose(info_nce_loss(same, same, -np.ones((9, 3), np.float32), temperature=0.07), 0, atol=1e-6)


def test_the_queries_alone_learn(batch):
    queries, keys, negatives = (tf.Variable(each) for each in batch)
    with tf.GradientTape() as tape:
        loss = info_nce_loss(queries, keys, negatives, temperature=0.07)
    of_queries, of_keys, of_negatives = tape.gradient(loss, [queries, keys, negatives])
    expected = slow_forms.gradient(lambda x: slow_forms.info_nce(x, batch[1], batch[2], temperature=0.07), batch[0])
    np.testing.assert_allclose(of_queries, expected, rtol=1e-4, atol=1e-6)
    assert of_keys is None
    assert of_negatives is None


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_empty_rows_are_finite(dtype):
    queries = tf.Variable(np.zeros((3, 2), dtype))
    with tf.GradientTape() as tape:
        loss = info_nce_loss(queries, np.zeros((3, 2), dtype), np.zeros((4, 2), np.float32), temperature=0.07)
    assert loss.dtype == tf.float32
    assert np.isfinite(loss)
    assert np.all(np.isfinite(tape.gradient(loss, queries)))


def test_keras_class_equals_the_function_and_survives_serialisation(batch):
    queries, keys, negatives = batch
    loss = keras.losses.deserialize(keras.losses.serialize(InfoNCELoss(temperature=0.3)))
    expected = info_nce_loss(queries, keys, negatives, temperature=0.3)
    np.testing.assert_allclose(loss((keys, negatives), queries), expected, rtol=1e-6)
