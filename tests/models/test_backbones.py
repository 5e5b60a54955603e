import keras
import numpy as np

from stml_tf.models import preprocessing


def test_conv4_takes_pixels_between_minus_one_and_one():
    pixels = np.array([0.0, 127.5, 255.0], np.float32).reshape(1, 1, 3)
    np.testing.assert_allclose(preprocessing("conv4")(pixels).ravel(), [-1, 0, 1])


def test_a_keras_application_takes_pixels_by_its_own_convention(random):
    pixels = random.uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    expected = keras.applications.resnet.preprocess_input(pixels.copy())
    np.testing.assert_allclose(preprocessing("ResNet50")(pixels.copy()), expected)
    assert not np.allclose(expected, pixels)
