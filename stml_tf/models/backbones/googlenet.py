"""GoogLeNet (Inception v1) with local response normalisation, as Caffe trained it, without its classifiers.

Szegedy et al.: Going Deeper with Convolutions, CVPR 2015, arXiv 1409.4842, table 1.
"""

import keras
import numpy as np
from keras import layers

from stml_tf.models.backbones.local_response_norm import LocalResponseNorm
from stml_tf.tensor import Tensor

# 1x1; 3x3_reduce, 3x3; 5x5_reduce, 5x5; pool_proj
_MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_POOLED_AFTER = {"3b": "pool3", "4e": "pool4"}


def build_googlenet() -> keras.Model:
    """Build GoogLeNet: nine Inception modules behind two convolutions.

    Layers have the names of the PyTorch modules; see `load_pytorch_weights`.

    Returns:
        A model from `[batch, height, width, 3]`, as `preprocess_inception` returns it, to
        `[batch, about height / 32, about width / 32, 1024]`.
    """
    inputs = keras.Input((None, None, 3), name="images")
    x = layers.ZeroPadding2D(3, name="conv1.pad")(inputs)
    x = _conv(x, 64, 7, "conv1.7x7_s2", strides=2, padding="valid")
    x = ceil_max_pool(x, "conv1.pool1")
    x = LocalResponseNorm(name="conv1.lrn1")(x)
    x = _conv(x, 64, 1, "conv2.3x3_reduce")
    x = _conv(x, 192, 3, "conv2.3x3")
    x = LocalResponseNorm(name="conv2.lrn2")(x)
    x = ceil_max_pool(x, "conv2.pool2")
    for module, widths in _MODULES.items():
        x = _inception(x, widths, f"inception_{module}")
        if module in _POOLED_AFTER:
            x = ceil_max_pool(x, _POOLED_AFTER[module])
    return keras.Model(inputs, x, name="googlenet")


def preprocess_inception(images: Tensor) -> Tensor:
    """Subtract Caffe's mean pixel from images, and turn them into BGR.

    Args:
        images: `[..., height, width, 3]` float32, RGB, 0 to 255.

    Returns:
        The same shape, BGR, about -128 to 151.
    """
    return images[..., ::-1] - np.array([104.0, 117.0, 128.0], np.float32)


def ceil_max_pool(x: Tensor, name: str) -> Tensor:
    """Apply 3x3 max pooling of stride 2 whose last window may overlap the right and bottom edges by one.

    This rounds sizes like Caffe and PyTorch's `ceil_mode`. Padding with zeros is right only for features that are not
    negative.

    Args:
        x: `[batch, height, width, channels]`, 0 or more.
        name: Name of the layer.

    Returns:
        `[batch, height', width', channels]`.
    """
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}.pad")(x)
    return layers.MaxPooling2D(3, 2, name=name)(x)


def _inception(x: Tensor, widths: tuple[int, ...], name: str) -> Tensor:
    conv1, reduce3, conv3, reduce5, conv5, projection = widths
    pooled = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}.pool")(x)
    branches = [
        _conv(x, conv1, 1, f"{name}.1x1"),
        _conv(_conv(x, reduce3, 1, f"{name}.3x3_reduce"), conv3, 3, f"{name}.3x3"),
        _conv(_conv(x, reduce5, 1, f"{name}.5x5_reduce"), conv5, 5, f"{name}.5x5"),
        _conv(pooled, projection, 1, f"{name}.pool_proj"),
    ]
    return layers.Concatenate(name=name)(branches)


def _conv(x: Tensor, channels: int, size: int, name: str, *, strides: int = 1, padding: str = "same") -> Tensor:
    initializer = keras.initializers.VarianceScaling(2.0, mode="fan_in", distribution="untruncated_normal")
    x = layers.Conv2D(channels, size, strides, padding=padding, kernel_initializer=initializer, name=name)(x)
    return layers.ReLU(name=f"{name}.relu")(x)
