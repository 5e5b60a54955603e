import numpy as np
import pytest

from stml_tf.models.backbones.bn_inception import build_bn_inception


@pytest.fixture(scope="module")
def network():
    return build_bn_inception()


@pytest.mark.parametrize(("shape", "expected"), [((112, 112), (4, 4)), ((113, 79), (4, 3)), ((64, 96), (2, 3))])
def test_sizes_that_are_odd_halfway_fit_together(network, random, shape, expected):
    images = random.normal(size=(1, *shape, 3)).astype(np.float32)
    assert network(images).shape == (1, *expected, 1024)


def test_batch_norm_keeps_a_tenth_of_its_statistics(network, random):
    norm = network.get_layer("conv1_7x7_s2_bn")
    x = random.normal(5.0, 1.0, (4, 8, 8, 64)).astype(np.float32)
    norm.moving_mean.assign(np.full(64, 20.0))
    norm(x, training=True)
    np.testing.assert_allclose(norm.moving_mean, 0.1 * 20.0 + 0.9 * x.mean(axis=(0, 1, 2)), rtol=1e-5)


def test_the_average_pool_counts_zeros_beyond_the_edge(network):
    """As PyTorch's `count_include_pad`: a corner of ones has four of nine."""
    pad, pool = (network.get_layer(f"inception_3a_pool{suffix}") for suffix in (".pad", ""))
    pooled = np.asarray(pool(pad(np.ones((1, 5, 5, 192), np.float32))))
    np.testing.assert_allclose(pooled[0, :, 0, 0], np.array([4, 6, 6, 6, 4]) / 9, rtol=1e-6)


def test_modules_are_as_wide_as_in_the_paper(network):
    names = [f"inception_{module}_output" for module in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]
    widths = [network.get_layer(name).output.shape[-1] for name in names]
    assert widths == [256, 320, 576, 576, 576, 608, 608, 1056, 1024, 1024]
