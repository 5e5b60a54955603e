import keras
import numpy as np
import pytest

from stml_tf.models.backbones.googlenet import build_googlenet, ceil_max_pool, preprocess_inception


def test_pixels_become_bgr_minus_the_mean():
    rgb = np.array([200.0, 100.0, 50.0], np.float32).reshape(1, 1, 3)
    np.testing.assert_array_equal(preprocess_inception(rgb).ravel(), [50 - 104, 100 - 117, 200 - 128])


@pytest.mark.parametrize("shape", [(3, 4), (5, 8), (11, 14), (15, 6)])
def test_windows_may_hang_over_the_edge(random, shape):
    x = random.uniform(0, 1, (1, *shape, 2)).astype(np.float32)
    inputs = keras.Input((None, None, 2))
    pooled = np.asarray(keras.Model(inputs, ceil_max_pool(inputs, "pool"))(x))
    # PyTorch's rule: as many windows as reach the last pixel, rounded up.
    rows, columns = (-(-(side - 3) // 2) + 1 for side in shape)
    expected = [
        [x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(1, 2)) for j in range(columns)] for i in range(rows)
    ]
    np.testing.assert_array_equal(pooled, np.moveaxis(np.array(expected), 2, 0))


def test_modules_are_as_wide_as_in_the_paper():
    network = build_googlenet()
    names = [f"inception_{module}" for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]
    widths = [network.get_layer(name).output.shape[-1] for name in names]
    assert widths == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
