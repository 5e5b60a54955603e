"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6, for small devices.

Tan, Le: EfficientNet, ICML 2019, arXiv 1905.11946, table 1; Lite0 as in the TensorFlow TPU models, trained by Google.
"""

import keras
from keras import layers

from stml_tf.tensor import Tensor

# blocks, kernel size, stride of the first block, expansion, channels
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def build_efficientnet_lite0() -> keras.Model:
    """Build EfficientNet-Lite0: sixteen inverted residual blocks between a strided and a 1x1 convolution.

    Layers have the names of the PyTorch modules without leading underscores; see `load_pytorch_weights`.

    Returns:
        A model from `[batch, height, width, 3]` to `[batch, height / 32, width / 32, 1280]`, rounded up.
    """
    inputs = keras.Input((None, None, 3), name="images")
    x = _conv(inputs, 32, 3, "conv_stem", strides=2)
    x = _norm_relu6(x, "bn0")
    index = 0
    for count, size, stride, expansion, channels in _STAGES:
        for strides in (stride, *[1] * (count - 1)):
            x = _block(x, channels, size, f"blocks.{index}", strides=strides, expansion=expansion)
            index += 1
    x = _conv(x, 1280, 1, "conv_head")
    x = _norm_relu6(x, "bn1")
    return keras.Model(inputs, x, name="efficientnet_lite0")


def preprocess_efficientnet_lite(images: Tensor) -> Tensor:
    """Scale images to the range that the backbone expects.

    Args:
        images: `[..., height, width, 3]` float32, RGB, 0 to 255.

    Returns:
        The same shape, about -1 to 1.
    """
    return (images - 127.0) / 128.0


def _block(x: Tensor, channels: int, size: int, name: str, *, strides: int, expansion: int) -> Tensor:
    """Expand, convolve each channel, project; add the input if the shape is the same.

    Unlike in Google's training from scratch, blocks are not dropped at random.
    """
    inputs = x
    if expansion > 1:
        x = _conv(x, expansion * x.shape[-1], 1, f"{name}.expand_conv")
        x = _norm_relu6(x, f"{name}.bn0")
    x = layers.DepthwiseConv2D(
        size,
        strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{name}.depthwise_conv",
    )(x)
    x = _norm_relu6(x, f"{name}.bn1")
    x = _conv(x, channels, 1, f"{name}.project_conv")
    x = _norm(x, f"{name}.bn2")
    if strides == 1 and inputs.shape[-1] == channels:
        x = layers.Add(name=f"{name}.add")([x, inputs])
    return x


def _conv(x: Tensor, channels: int, size: int, name: str, *, strides: int = 1) -> Tensor:
    # These weights were trained with TensorFlow's padding: with a stride, it is larger on the right and at the bottom.
    return layers.Conv2D(
        channels, size, strides, padding="same", use_bias=False, kernel_initializer=_initializer(), name=name
    )(x)


def _norm_relu6(x: Tensor, name: str) -> Tensor:
    return layers.ReLU(max_value=6.0, name=f"{name}.relu6")(_norm(x, name))


def _norm(x: Tensor, name: str) -> Tensor:
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
