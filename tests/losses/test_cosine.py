import numpy as np
import pytest
import tensorflow as tf

from stml_tf.losses.cosine import cosine_similarities, unit_rows


def test_rows_have_unit_length_and_keep_their_direction(random):
    x = random.normal(size=(5, 3)).astype(np.float32)
    expected = [row / np.sqrt(np.sum(row**2)) for row in x.astype(np.float64)]
    np.testing.assert_allclose(unit_rows(x), expected, rtol=1e-6)


def test_similarities_equal_a_loop(random):
    x, y = random.normal(size=(4, 3)), random.normal(size=(2, 3))
    expected = [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in y] for a in x]
    np.testing.assert_allclose(cosine_similarities(x, y), expected, rtol=1e-5)
    np.testing.assert_allclose(np.diag(cosine_similarities(x)), 1.0, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_row_of_zeros_stays_with_a_gradient_of_zero(dtype):
    x = tf.Variable(np.array([[0, 0], [3, 4]], dtype))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(unit_rows(x) * [[1.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(total, 0.6, rtol=1e-6)
    gradient = np.asarray(tape.gradient(total, x))
    np.testing.assert_array_equal(gradient[0], 0.0)
    np.testing.assert_allclose(gradient[1], [0.128, -0.096], rtol=2e-3)
