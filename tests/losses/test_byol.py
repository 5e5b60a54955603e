import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.losses import BYOLLoss, byol_loss
from tests import slow_forms


@pytest.fixture
def batch(random):
    return [random.normal(size=(7, 5)).astype(np.float32) for _ in range(2)]


def test_loss_equals_the_slow_form(batch):
    np.testing.assert_allclose(byol_loss(*batch), slow_forms.byol(*batch), rtol=1e-5)


def test_loss_is_zero_in_one_direction_and_four_in_opposite_ones(batch):
    predictions, _ = batch
    np.testing.assert_allclose(byol_loss(predictions, 3.0 * predictions), 0.0, atol=1e-5)
    np.testing.assert_allclose(byol_loss(predictions, -predictions), 4.0, rtol=1e-5)


def test_the_predictions_alone_learn(batch):
    predictions, targets = (tf.Variable(each) for each in batch)
    with tf.GradientTape() as tape:
        loss = byol_loss(predictions, targets)
    of_predictions, of_targets = tape.gradient(loss, [predictions, targets])
    expected = slow_forms.gradient(lambda x: slow_forms.byol(x, batch[1]), batch[0])
    np.testing.assert_allclose(of_predictions, expected, rtol=1e-4, atol=1e-6)
    assert of_targets is None


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_empty_rows_are_finite(dtype):
    predictions = tf.Variable(np.zeros((3, 2), dtype))
    with tf.GradientTape() as tape:
        loss = byol_loss(predictions, np.ones((3, 2), dtype))
    assert loss.dtype == tf.float32
    assert np.isfinite(loss)
    assert np.all(np.isfinite(tape.gradient(loss, predictions)))


def test_keras_class_equals_the_function_and_survives_serialisation(batch):
    predictions, targets = batch
    loss = keras.losses.deserialize(keras.losses.serialize(BYOLLoss()))
    np.testing.assert_allclose(loss(targets, predictions), byol_loss(predictions, targets), rtol=1e-6)
