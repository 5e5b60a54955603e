"""Transparency shows a background, in strips of rows that bound the memory of the arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from stml_tf.tensor import Tensor

_STRIP = 2**20  # Pixels.


def blend(pixels: Tensor, background: tuple[int, int, int], *, color_shift: Tensor | int = 0) -> Tensor:
    """Lay an image over a background.

    Args:
        pixels: `[height, width, 4]`, RGBA, not premultiplied, uint8 or uint16.
        background: RGB, 0 to 255 each.
        color_shift: Of uint16, by how many bits colours are shifted down to 8; what is still beyond 255 becomes 255.
            Alpha always uses all 16, for it is a share and no measurement.

    Returns:
        uint8 `[height, width, 3]`, rounded. Colours hidden under full transparency do not matter.
    """
    opaque = tf.constant(255, tf.uint16)

    def blend_strip(strip: Tensor) -> Tensor:
        colors, alpha = tf.cast(strip[..., :3], tf.uint16), tf.cast(strip[..., 3:], tf.uint16)
        if strip.dtype == tf.uint16:
            colors = tf.minimum(tf.bitwise.right_shift(colors, tf.cast(color_shift, tf.uint16)), opaque)
            alpha = tf.bitwise.right_shift(alpha, tf.constant(8, tf.uint16))
        # None of the sums is beyond 16 bits.
        blended = colors * alpha + tf.constant(background, tf.uint16) * (opaque - alpha)
        return tf.cast((blended + tf.constant(127, tf.uint16)) // opaque, tf.uint8)

    return by_strips(blend_strip, pixels)


def by_strips(function: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Apply a function to an image's rows, uint8 `[height, width, 3]`, some rows at a time, and join the results."""
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
