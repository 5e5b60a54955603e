"""Random changes of an image's colours and sharpness, each off at 0.

They teach a network to look past lighting and focus. Where colour tells things apart, greyscale and hue take that away.
"""

import math

import tensorflow as tf

from stml_tf.tensor import Tensor

# Weights of red, green and blue in the lightness of a pixel: ITU-R BT.601, as in PIL and JPEG.
_LIGHTNESS = (0.299, 0.587, 0.114)


def random_colors(
    view: Tensor,
    seed: Tensor,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    greyscale: float = 0.0,
    blur: float = 0.0,
) -> Tensor:
    """Change a view by chance, in the order of the arguments.

    Args:
        view: `[height, width, 3]` float32, 0 to 255.
        seed: `[2]` integers; the same seed gives the same view.
        brightness: Pixels are multiplied by a factor between 1 - brightness and 1 + brightness.
        contrast: Their differences from the mean lightness are, likewise.
        saturation: Their differences from their own lightness are, likewise.
        hue: Largest turn of the colour circle, either way, as a share of it; at most 0.5.
        greyscale: How often colours are taken away, from 0 to 1.
        blur: Largest standard deviation, in pixels, of a Gaussian blur; each from 0 to it is as likely.

    Returns:
        `[height, width, 3]` float32, 0 to 255.
    """
    draws = tf.random.stateless_uniform([6], seed)

    def factor(draw: Tensor, largest: float) -> Tensor:
        return 1.0 + largest * (2.0 * draw - 1.0)

    if brightness:
        view = _within(view * factor(draws[0], brightness))
    if contrast:
        mean = tf.reduce_mean(_lightness(view))
        view = _within(mean + (view - mean) * factor(draws[1], contrast))
    if saturation:
        grey = _lightness(view)
        view = _within(grey + (view - grey) * factor(draws[2], saturation))
    if hue:
        view = tf.image.adjust_hue(view / 255.0, hue * (2.0 * draws[3] - 1.0)) * 255.0
    if greyscale:
        view = tf.where(draws[4] < greyscale, tf.broadcast_to(_lightness(view), tf.shape(view)), view)
    if blur:
        view = _blur(view, blur * draws[5], radius=math.ceil(3 * blur))
    return view


def _within(view: Tensor) -> Tensor:
    return tf.clip_by_value(view, 0.0, 255.0)


def _lightness(view: Tensor) -> Tensor:
    return tf.reduce_sum(view * tf.constant(_LIGHTNESS), axis=-1, keepdims=True)


def _blur(view: Tensor, deviation: Tensor, *, radius: int) -> Tensor:
    """Convolve with a Gaussian along either side; the border's pixels stand for what lies beyond."""
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    # Where the deviation is 0, the limit: the pixel alone.
    weights = tf.exp(-0.5 * tf.square(offsets / tf.maximum(deviation, 1e-3)))
    weights /= tf.reduce_sum(weights)
    height, width = tf.shape(view)[0], tf.shape(view)[1]
    rows = tf.clip_by_value(tf.range(-radius, height + radius), 0, height - 1)
    columns = tf.clip_by_value(tf.range(-radius, width + radius), 0, width - 1)
    padded = tf.gather(tf.gather(view, rows), columns, axis=1)[None]
    kernel = tf.tile(weights[:, None, None, None], [1, 1, 3, 1])
    blurred = tf.nn.depthwise_conv2d(padded, kernel, [1, 1, 1, 1], "VALID")
    blurred = tf.nn.depthwise_conv2d(blurred, tf.transpose(kernel, [1, 0, 2, 3]), [1, 1, 1, 1], "VALID")
    return tf.ensure_shape(blurred[0], view.shape)
