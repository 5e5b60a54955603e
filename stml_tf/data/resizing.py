"""Resizing with antialiasing, twice as fast as `tf.image.resize` and equal to it to the last bit.

TensorFlow's kernel works through the columns of a row pixel by pixel, and through the rows with vector instructions. So
a row is given to it as one pixel of many channels, and for the columns the image is turned first.
"""

import tensorflow as tf

from stml_tf.tensor import Tensor

_SMALL = 64 * 64  # New pixels; up to here, more operations cost what their vector instructions save.


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize as `tf.image.resize` with `antialias=True`.

    Args:
        images: `[height, width, 3]`, or several images of one size, `[images, height, width, 3]`; any numeric dtype.
        size: The new height and width.

    Returns:
        `[*size, 3]`, or `[images, *size, 3]`, float32.
    """
    scale = tf.constant(size, tf.float32) / tf.cast(tf.shape(images)[-3:-1], tf.float32)
    return scale_and_translate(images, size=size, scale=scale, translation=tf.zeros([2]))


def scale_and_translate(images: Tensor, *, size: tuple[int, int], scale: Tensor, translation: Tensor) -> Tensor:
    """Resample images so that what was at `x` is at `scale * x + translation`; smoothed where they become smaller.

    Args:
        images: `[height, width, 3]`, or several images of one size, `[images, height, width, 3]`; any numeric dtype.
        size: The new height and width.
        scale: `[2]` float32, along height and width.
        translation: `[2]` float32, in new pixels.

    Returns:
        `[*size, 3]`, or `[images, *size, 3]`, float32.
    """
    several = images[None] if len(images.shape) == 3 else images
    if size[0] * size[1] <= _SMALL:
        resampled = _resample(several, size, scale, translation)
    else:
        turned = tf.transpose(_resample_rows(several, size[0], scale[0], translation[0]), [0, 2, 1, 3])
        resampled = tf.transpose(_resample_rows(turned, size[1], scale[1], translation[1]), [0, 2, 1, 3])
    return tf.ensure_shape(resampled if several is images else resampled[0], [*images.shape[:-3], *size, 3])


def _resample_rows(images: Tensor, size: int, scale: Tensor, translation: Tensor) -> Tensor:
    """Resample `[images, height, width, channels]` along the height alone."""
    count, height, width, channels = tf.unstack(tf.shape(images))
    rows = tf.reshape(images, [count, height, 1, width * channels])
    rows = _resample(rows, (size, 1), tf.stack([scale, 1.0]), tf.stack([translation, 0.0]))
    return tf.reshape(rows, [count, size, width, channels])


def _resample(images: Tensor, size: tuple[int, int], scale: Tensor, translation: Tensor) -> Tensor:
    return tf.raw_ops.ScaleAndTranslate(
        images=images, size=size, scale=scale, translation=translation, kernel_type="triangle", antialias=True
    )
