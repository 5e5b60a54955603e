"""BN-Inception (Inception v2): Inception modules with BatchNorm, and two 3x3 convolutions in place of a 5x5.

Ioffe, Szegedy: Batch Normalization, ICML 2015, arXiv 1502.03167, appendix.
"""

import keras
from keras import layers

from stml_tf.models.backbones.googlenet import ceil_max_pool
from stml_tf.tensor import Tensor

# 1x1; 3x3_reduce, 3x3; double_3x3_reduce, double_3x3 (both); pool_proj. Modules with three paths halve the size.
_MODULES = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (None, 128, 160, 64, 96, None),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (None, 128, 192, 192, 256, None),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}


def build_bn_inception() -> keras.Model:
    """Build BN-Inception: ten Inception modules behind two convolutions.

    Layers have the names of the PyTorch modules; see `load_pytorch_weights`.

    Returns:
        A model from `[batch, height, width, 3]`, as `preprocess_inception` returns it, to
        `[batch, about height / 32, about width / 32, 1024]`.
    """
    inputs = keras.Input((None, None, 3), name="images")
    x = _conv(inputs, 64, 7, "conv1_7x7_s2", strides=2)
    x = ceil_max_pool(x, "pool1_3x3_s2")
    x = _conv(x, 64, 1, "conv2_3x3_reduce")
    x = _conv(x, 192, 3, "conv2_3x3")
    x = ceil_max_pool(x, "pool2_3x3_s2")
    for module, widths in _MODULES.items():
        build = _inception if all(widths) else _halving_inception
        x = build(x, widths, f"inception_{module}")
    return keras.Model(inputs, x, name="bn_inception")


def _inception(x: Tensor, widths: tuple[int, ...], name: str) -> Tensor:
    conv1, *_, projection = widths
    if name == "inception_5b":
        pooled = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    else:
        # The zeros at the edge count in the average; "same" would leave them out.
        padded = layers.ZeroPadding2D(1, name=f"{name}_pool.pad")(x)
        pooled = layers.AveragePooling2D(3, 1, name=f"{name}_pool")(padded)
    branches = [
        _conv(x, conv1, 1, f"{name}_1x1"),
        *_convolved(x, widths, name, strides=1),
        _conv(pooled, projection, 1, f"{name}_pool_proj"),
    ]
    return layers.Concatenate(name=f"{name}_output")(branches)


def _halving_inception(x: Tensor, widths: tuple[int | None, ...], name: str) -> Tensor:
    # "same" equals PyTorch for even sizes. For odd ones, PyTorch's pool would come out smaller than its convolutions.
    pooled = layers.MaxPooling2D(3, 2, padding="same", name=f"{name}_pool")(x)
    return layers.Concatenate(name=f"{name}_output")([*_convolved(x, widths, name, strides=2), pooled])


def _convolved(x: Tensor, widths: tuple[int | None, ...], name: str, *, strides: int) -> list[Tensor]:
    """Return the paths with one and with two 3x3 convolutions."""
    _, reduce, conv, reduce_double, double, _ = widths
    single = _conv(x, reduce, 1, f"{name}_3x3_reduce")
    single = _conv(single, conv, 3, f"{name}_3x3", strides=strides)
    twice = _conv(x, reduce_double, 1, f"{name}_double_3x3_reduce")
    twice = _conv(twice, double, 3, f"{name}_double_3x3_1")
    twice = _conv(twice, double, 3, f"{name}_double_3x3_2", strides=strides)
    return [single, twice]


def _conv(x: Tensor, channels: int, size: int, name: str, *, strides: int = 1) -> Tensor:
    if strides > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}.pad")(x)
    padding = "valid" if strides > 1 else "same"
    initializer = keras.initializers.VarianceScaling(2.0, mode="fan_in", distribution="untruncated_normal")
    x = layers.Conv2D(channels, size, strides, padding=padding, kernel_initializer=initializer, name=name)(x)
    # The authors set PyTorch's momentum to 0.9, the share of the new statistics; in Keras it is that of the old ones.
    x = layers.BatchNormalization(momentum=0.1, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}.relu")(x)
