import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from stml_tf.data.resizing import resize, scale_and_translate

side = st.integers(1, 90)  # below and above the size from which on rows are pixels


def pixels(shape, dtype=np.uint8):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape).astype(dtype)


@settings(max_examples=60, deadline=None)
@given(side, side, side, side)
def test_resizing_equals_tensorflow(height, width, new_height, new_width):
    image, size = pixels((height, width, 3)), (new_height, new_width)
    np.testing.assert_array_equal(resize(image, size), tf.image.resize(image, size, antialias=True))


@pytest.mark.parametrize("size", [(9, 40), (90, 80)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_several_images_are_resized_as_each_alone(dtype, size):
    images = pixels((4, 30, 20, 3), dtype)
    resized = tf.function(resize)(images, size)
    assert (resized.dtype, resized.shape) == (tf.float32, (4, *size, 3))
    np.testing.assert_array_equal(resized, [resize(image, size) for image in images])


@settings(max_examples=60, deadline=None)
@given(side, side, side, st.floats(0.1, 5), st.floats(0.1, 5), st.floats(-20, 20), st.floats(-20, 20))
def test_scaling_and_translating_equal_tensorflow(height, width, new_side, down, right, by_rows, by_columns):
    image = pixels((height, width, 3))
    arguments = {"size": (new_side, 70), "scale": [down, right], "translation": [by_rows, by_columns]}
    (expected,) = tf.raw_ops.ScaleAndTranslate(images=image[None], kernel_type="triangle", antialias=True, **arguments)
    found = scale_and_translate(image, **arguments)
    np.testing.assert_array_equal(found, expected)
