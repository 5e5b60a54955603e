import numpy as np
import pytest
import tensorflow as tf

from stml_tf.losses.geometry import distances, relative_distances, squared_distances
from tests import slow_forms


def test_squared_distances_equal_a_loop(random):
    x = random.normal(size=(7, 5)).astype(np.float32)
    expected = [[np.sum((a - b) ** 2) for b in x.astype(np.float64)] for a in x.astype(np.float64)]
    np.testing.assert_allclose(squared_distances(x), expected, rtol=1e-5, atol=1e-6)


def test_relative_distances_equal_a_loop(random):
    x = random.normal(size=(9, 4)).astype(np.float32)
    np.testing.assert_allclose(relative_distances(x), slow_forms.relative_distances(x), rtol=1e-5, atol=1e-6)


def test_relative_distances_have_mean_one_and_ignore_scale(random):
    x = random.normal(size=(9, 4)).astype(np.float32)
    relative = np.asarray(relative_distances(x))
    np.testing.assert_allclose(relative.mean(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(relative_distances(100.0 * x), relative, rtol=1e-4, atol=1e-6)


def test_far_from_the_origin_small_distances_survive(random):
    x = random.normal(size=(6, 3)).astype(np.float32)
    near, far = np.asarray(distances(x)), np.asarray(distances(x + np.float32(1000.0)))
    # Adding 1000 rounds the inputs to 6e-5; the plain expansion of the square would be off by whole units.
    np.testing.assert_allclose(far, near, atol=1e-3)


@pytest.mark.parametrize("rows", [np.zeros((5, 3)), np.ones((5, 3)), [[1, 2], [1, 2], [3, 4]]])
def test_coinciding_rows_have_finite_gradients(rows):
    x = tf.Variable(np.asarray(rows, np.float32))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(relative_distances(x))
    assert np.isfinite(total)
    assert np.all(np.isfinite(tape.gradient(total, x)))


def test_a_nan_is_not_hidden():
    assert np.isnan(np.asarray(relative_distances(np.array([[1.0], [np.nan], [2.0]])))).any()


def test_the_gradient_of_distances_equals_finite_differences(random):
    x = random.normal(size=(7, 4)).astype(np.float32)
    x[3] = x[2]  # at a distance of 0, where the gradient is 0 by agreement
    weights = random.normal(size=(7, 7))
    weights[2, 3] = weights[3, 2] = 0.0
    variable = tf.Variable(x)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(weights.astype(np.float32) * distances(variable))
    expected = np.empty_like(x)
    for place in np.ndindex(*x.shape):
        up, down = (
            x.astype(np.float64) + step * (np.arange(28).reshape(7, 4) == np.ravel_multi_index(place, x.shape))
            for step in (1e-5, -1e-5)
        )
        up, down = (np.sum(weights * np.linalg.norm(y[:, None] - y, axis=2)) for y in (up, down))
        expected[place] = (up - down) / 2e-5
    np.testing.assert_allclose(tape.gradient(total, variable), expected, rtol=1e-3, atol=1e-4)
