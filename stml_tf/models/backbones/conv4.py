"""Four small convolutions: the usual network of few-shot learning, for small images of simple objects."""

import keras
from keras import layers

from stml_tf.models.batch_norm import BatchNormalization
from stml_tf.tensor import Tensor


def build_conv4() -> keras.Model:
    """Build four blocks of 3x3 convolution (32, 64, 128, 256 channels), BatchNorm, ReLU and 2x2 max pooling.

    Returns:
        A model from `[batch, height, width, 3]` to `[batch, height / 16, width / 16, 256]`.
    """
    inputs = keras.Input((None, None, 3), name="images")
    x = inputs
    for block, channels in enumerate((32, 64, 128, 256), start=1):
        # No bias, as BatchNorm has an offset. The initial scale is PyTorch's: BatchNorm makes the output independent
        # of it, but not the effective learning rate.
        initializer = keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")
        x = layers.Conv2D(
            channels, 3, padding="same", use_bias=False, kernel_initializer=initializer, name=f"conv{block}"
        )(x)
        x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{block}")(x)
        x = layers.ReLU(name=f"relu{block}")(x)
        x = layers.MaxPooling2D(name=f"pool{block}")(x)
    return keras.Model(inputs, x, name="conv4")


def preprocess_conv4(images: Tensor) -> Tensor:
    """Scale images to the range that the backbone expects.

    Args:
        images: `[..., height, width, 3]` float32, RGB, 0 to 255.

    Returns:
        The same shape, -1 to 1.
    """
    return images / 127.5 - 1.0
