"""ResNet-18, 34 and 50 as in torchvision.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385, table 1. The bottleneck
block has its stride in the 3x3 convolution, not in the first 1x1 convolution as in the paper and `keras.applications`.
"""

from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from stml_tf.tensor import Tensor

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build_resnet18() -> keras.Model:
    """Build ResNet-18, from `[batch, height, width, 3]` to `[batch, height / 32, width / 32, 512]`, rounded up."""
    return _build((2, 2, 2, 2), _basic_block, "resnet18")


def build_resnet34() -> keras.Model:
    """Build ResNet-34, from `[batch, height, width, 3]` to `[batch, height / 32, width / 32, 512]`, rounded up."""
    return _build((3, 4, 6, 3), _basic_block, "resnet34")


def build_resnet50() -> keras.Model:
    """Build ResNet-50, from `[batch, height, width, 3]` to `[batch, height / 32, width / 32, 2048]`, rounded up."""
    return _build((3, 4, 6, 3), _bottleneck_block, "resnet50")


def preprocess_resnet(images: Tensor) -> Tensor:
    """Standardise images by ImageNet's channel means and deviations.

    Args:
        images: `[..., height, width, 3]` float32, RGB, 0 to 255.

    Returns:
        The same shape, about -2.1 to 2.6.
    """
    mean, deviation = (np.array(values, np.float32) * 255 for values in (_MEAN, _DEVIATION))
    return (images - mean) / deviation


def _build(num_blocks: tuple[int, ...], block: Callable[..., Tensor], name: str) -> keras.Model:
    """Build a ResNet whose layers have the names of torchvision's modules; see `load_pytorch_weights`."""
    inputs = keras.Input((None, None, 3), name="images")
    x = _conv_norm(inputs, 64, 7, "conv1", "bn1", strides=2)
    x = layers.ReLU(name="relu")(x)
    # Padding with zeros is right, as no feature is negative.
    x = layers.ZeroPadding2D(1, name="maxpool.pad")(x)
    x = layers.MaxPooling2D(3, 2, name="maxpool")(x)
    for stage, count in enumerate(num_blocks, start=1):
        for index in range(count):
            strides = 2 if stage > 1 and index == 0 else 1
            x = block(x, 32 * 2**stage, f"layer{stage}.{index}", strides=strides)
    return keras.Model(inputs, x, name=name)


def _basic_block(x: Tensor, channels: int, name: str, *, strides: int) -> Tensor:
    shortcut = _shortcut(x, channels, name, strides=strides)
    x = _conv_norm(x, channels, 3, f"{name}.conv1", f"{name}.bn1", strides=strides)
    x = layers.ReLU(name=f"{name}.relu1")(x)
    x = _conv_norm(x, channels, 3, f"{name}.conv2", f"{name}.bn2")
    x = layers.Add(name=f"{name}.add")([x, shortcut])
    return layers.ReLU(name=f"{name}.relu2")(x)


def _bottleneck_block(x: Tensor, channels: int, name: str, *, strides: int) -> Tensor:
    shortcut = _shortcut(x, 4 * channels, name, strides=strides)
    x = _conv_norm(x, channels, 1, f"{name}.conv1", f"{name}.bn1")
    x = layers.ReLU(name=f"{name}.relu1")(x)
    x = _conv_norm(x, channels, 3, f"{name}.conv2", f"{name}.bn2", strides=strides)
    x = layers.ReLU(name=f"{name}.relu2")(x)
    x = _conv_norm(x, 4 * channels, 1, f"{name}.conv3", f"{name}.bn3")
    x = layers.Add(name=f"{name}.add")([x, shortcut])
    return layers.ReLU(name=f"{name}.relu3")(x)


def _shortcut(x: Tensor, channels: int, name: str, *, strides: int) -> Tensor:
    if strides == 1 and x.shape[-1] == channels:
        return x
    return _conv_norm(x, channels, 1, f"{name}.downsample.0", f"{name}.downsample.1", strides=strides)


def _conv_norm(x: Tensor, channels: int, size: int, conv: str, norm: str, *, strides: int = 1) -> Tensor:
    # PyTorch pads both sides equally, whereas "same" with a stride pads more on the right and at the bottom.
    if size > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{conv}.pad")(x)
    initializer = keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
    x = layers.Conv2D(channels, size, strides, use_bias=False, kernel_initializer=initializer, name=conv)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm)(x)
