"""From what a file holds to 8-bit RGB: 16 bits become 8, and transparency shows a background."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from stml_tf.data.formats.rule import Decoding
from stml_tf.tensor import Tensor

_STRIP = 2**20  # Pixels that are blended at once: the arithmetic takes several times the memory of the result.


def to_rgb(pixels: Tensor, decoding: Decoding) -> Tensor:
    """Reduce the channels of an image to 8-bit RGB.

    Args:
        pixels: `[height, width, 3 or 4]`, uint8 or uint16, RGB or RGBA, not premultiplied.
        decoding: What they become.

    Returns:
        uint8 `[height, width, 3]`. Of 16 bits, the upper 8 of those that are used are kept. Colours hidden under full
        transparency do not matter.
    """
    if pixels.dtype == tf.uint8 and pixels.shape[-1] == 3:
        return pixels
    return by_strips(lambda strip: _blend(_to_8_bits(strip, decoding.bit_depth), decoding.background), pixels)


def by_strips(function: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """What `function` makes of an image's rows, uint8 `[height, width, 3]`, some rows at a time to bound memory."""
    height = tf.shape(image)[0]
    rows = tf.maximum(1, _STRIP // tf.maximum(1, tf.shape(image)[1]))
    count = (height + rows - 1) // rows
    strips = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=[None, None, 3])
    _, strips = tf.while_loop(
        lambda number, _: number < count,
        lambda number, strips: (
            number + 1,
            strips.write(number, function(image[number * rows : (number + 1) * rows])),
        ),
        (0, strips),
        parallel_iterations=1,
    )
    return strips.concat()


def _to_8_bits(pixels: Tensor, bit_depth: int) -> Tensor:
    if pixels.dtype == tf.uint8:
        return pixels
    colors, alpha = pixels[..., :3], pixels[..., 3:]
    # Alpha is a share, which cameras do not write: it always uses all bits.
    colors = tf.minimum(tf.bitwise.right_shift(colors, tf.constant(bit_depth - 8, tf.uint16)), 255)
    return tf.cast(tf.concat([colors, tf.bitwise.right_shift(alpha, tf.constant(8, tf.uint16))], axis=-1), tf.uint8)


def _blend(pixels: Tensor, background: tuple[int, int, int]) -> Tensor:
    if pixels.shape[-1] == 3:
        return pixels
    # Rounded to the nearest level; none of the sums is beyond 16 bits.
    pixels = tf.cast(pixels, tf.uint16)
    colors, alpha = pixels[..., :3], pixels[..., 3:]
    opaque = tf.constant(255, tf.uint16)
    blended = colors * alpha + tf.constant(background, tf.uint16) * (opaque - alpha)
    return tf.cast((blended + tf.constant(127, tf.uint16)) // opaque, tf.uint8)
