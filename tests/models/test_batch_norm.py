import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.models import computing_in
from stml_tf.models.batch_norm import BatchNormalization


def both(**options):
    layers = [
        kind(momentum=0.9, epsilon=1e-3, **options) for kind in (BatchNormalization, keras.layers.BatchNormalization)
    ]
    for layer in layers:
        layer.build((None, None, None, 5))
        for weight, value in zip(
            layer.weights, ([1.5, -1, 0, 2, 1], [0, 3, 1, -2, 0.5], [1] * 5, [2] * 5), strict=False
        ):
            weight.assign(np.asarray(value, np.float32))
    return layers


def trained(layer, images, upstream):
    """Outputs, gradients of images, scale and offset, and what the statistics become."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images, training=True)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * upstream)
    gradients = tape.gradient(loss, [images, *(weight.value for weight in layer.trainable_weights)])
    return [np.asarray(each, np.float32) for each in (outputs, *gradients, *layer.non_trainable_weights)]


@pytest.mark.parametrize("shape", [(4, 6, 3, 5), (2, 1, 1, 5)])
def test_training_is_keras_up_to_rounding(random, shape):
    images, upstream = (random.normal(2.0, 3.0, shape).astype(np.float32) for _ in range(2))
    for ours, theirs in zip(*(trained(layer, images, upstream) for layer in both()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * max(1, np.abs(theirs).max()))


def test_half_precision_keeps_statistics_in_float32(random):
    images, upstream = (random.normal(2.0, 3.0, (4, 6, 3, 5)).astype(np.float32) for _ in range(2))
    with computing_in("mixed_bfloat16"):
        layer, _ = both()
    outputs, *_, mean, variance = trained(layer, images, upstream)
    assert layer(images, training=True).dtype == tf.bfloat16
    expected, *_, expected_mean, expected_variance = trained(both()[1], images, upstream)
    np.testing.assert_allclose(outputs, expected, atol=0.1)
    np.testing.assert_allclose(mean, expected_mean, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(variance, expected_variance, rtol=0.02)


@pytest.mark.parametrize("options", [{}, {"trainable": False}])
def test_all_else_is_keras(random, options):
    images = random.normal(2.0, 3.0, (4, 6, 3, 5)).astype(np.float32)
    ours, theirs = both(**options)
    training = not options.get("trainable", True)
    np.testing.assert_array_equal(ours(images, training=training), theirs(images, training=training))
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_saved_one_loads_weights_of_keras_and_itself(tmp_path, random):
    images = random.normal(size=(2, 4, 4, 3)).astype(np.float32)
    ours, theirs = (
        keras.Sequential([keras.Input((4, 4, 3)), kind()])
        for kind in (BatchNormalization, keras.layers.BatchNormalization)
    )
    theirs.layers[0].set_weights(np.array([[1, 2, 3], [0, 1, 0], [0.5, 0, 1], [1, 2, 1]]))
    theirs.save_weights(tmp_path / "keras.weights.h5")
    ours.load_weights(tmp_path / "keras.weights.h5")
    ours.save(tmp_path / "ours.keras")
    loaded = keras.saving.load_model(tmp_path / "ours.keras")
    assert isinstance(loaded.layers[0], BatchNormalization)
    np.testing.assert_array_equal(loaded(images), theirs(images))
