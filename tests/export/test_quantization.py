import keras
import numpy as np
import pytest

from stml_tf.export.quantization import Int8Network, require_same_directions
from stml_tf.models import computing_in

DIM = 12


def build_network():
    """Every kind of kernel: convolution, depthwise convolution, dense; and what is kept as it is."""
    keras.utils.set_random_seed(3)
    images = keras.Input((8, 8, 3))
    features = keras.layers.Conv2D(16, 3)(images)
    features = keras.layers.BatchNormalization()(features)
    features = keras.layers.DepthwiseConv2D(3)(features)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(features))
    network = keras.Model(images, keras.layers.Dense(DIM)(pooled))
    random = np.random.default_rng(0)
    network.set_weights([random.standard_normal(value.shape) ** 2 + 0.1 for value in network.get_weights()])
    return network


def rounded_channel_by_channel(kernel, axis):
    """The slow form: each channel on its own is rounded to 127 steps of its largest weight, either way."""
    channels = []
    for channel in np.moveaxis(kernel, axis, 0):
        step = np.abs(channel).max() / 127
        channels.append(np.round(channel / step) * step)
    return np.moveaxis(np.array(channels), 0, axis)


def test_equals_a_network_whose_kernels_were_rounded_channel_by_channel(random):
    network, rounded = build_network(), build_network()
    for layer in rounded.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            axis = 2 if isinstance(layer, keras.layers.DepthwiseConv2D) else -1
            kernel.assign(rounded_channel_by_channel(keras.ops.convert_to_numpy(kernel), axis))
    images = random.standard_normal((5, 8, 8, 3)).astype(np.float32)
    int8_network = Int8Network(network)
    assert int8_network.output_shape == (None, DIM)
    embeddings = int8_network(images)
    np.testing.assert_allclose(embeddings, rounded(images), rtol=1e-4)
    assert not np.allclose(embeddings, network(images), rtol=1e-4)


def test_a_network_of_half_precision_computes_in_float32(random):
    with computing_in("mixed_bfloat16"):
        half = Int8Network(build_network())
    images = random.standard_normal((5, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(half(images), Int8Network(build_network())(images))


def test_the_network_stays_as_it_is():
    network = build_network()
    before = network.get_weights()
    Int8Network(network)(np.ones((1, 8, 8, 3), np.float32))
    for value, expected in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_kernel_of_zeros_gives_zeros():
    network = build_network()
    network.layers[-1].set_weights([np.zeros((16, DIM)), np.zeros(DIM)])
    embeddings = Int8Network(network)(np.ones((1, 8, 8, 3), np.float32))
    np.testing.assert_array_equal(embeddings, np.zeros((1, DIM)))


def test_cannot_be_trained():
    with pytest.raises(ValueError, match="cannot be trained: train first, then export"):
        Int8Network(build_network())(np.ones((1, 8, 8, 3), np.float32), training=True)


def test_the_least_cosine_of_all_images_decides():
    angles = np.array([0.0, 0.05, 0.1])
    embeddings = np.array([[2.0, 0.0]] * 3)
    turned = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert require_same_directions(embeddings, turned) == pytest.approx(np.cos(0.1))
    turned[1] = [0.9, 0.5]
    with pytest.raises(ValueError, match=r"falls to 0\.8742 .* over 3 images\), and must stay above 0\.99"):
        require_same_directions(embeddings, turned)
    turned[1] = np.nan
    with pytest.raises(ValueError, match="8-bit weights change this network too much"):
        require_same_directions(embeddings, turned)
