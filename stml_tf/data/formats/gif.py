"""Decodes the first frame of GIF files (GIF89a specification).

TensorFlow's decoder unpacks all frames, paints transparent pixels black and forgets the canvas around a smaller frame.
So it is handed a file of one frame, in whose palette the transparent colour is the background.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from stml_tf.data.formats.reading import part, read_bytes, read_number, require, require_size
from stml_tf.data.formats.rule import Decoding
from stml_tf.tensor import Tensor

_MOST_BLOCKS = 2**18  # Of at most 255 bytes.
_IMAGE, _EXTENSION, _CONTROL = 0x2C, 0x21, 0xF9
_INTERLACED = 0x40
_COLORS = 256


class _Scene(NamedTuple):
    """What comes before a frame: its position, int64, -1 while it is not found, and its transparent colour or -1."""

    frame: Tensor
    transparent: Tensor


def decode_gif(content: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """Decode a GIF file, a string.

    Returns:
        RGB, the canvas over the background, uint8 `[height, width, 3]`; and -1, for there are no Exif data.
    """
    canvas_width, canvas_height = (read_number(content, start, 2) for start in (6, 8))
    content = require_size(content, canvas_height, canvas_width)
    has_palette, palette_size = _palette(read_number(content, 10, 1))
    scene = _find_frame(content, 13 + palette_size)
    content = require(content, scene.frame >= 0, "it is damaged: it holds no frame")
    left, top, width, height = (read_number(content, scene.frame + start, 2) for start in (1, 3, 5, 7))
    content = require_size(content, height, width)
    inside = (left + width <= canvas_width) & (top + height <= canvas_height)
    content = require(content, inside, "it is damaged: its first frame lies outside of its canvas")

    flags = read_number(content, scene.frame + 9, 1)
    has_own_palette, own_size = _palette(flags)
    content = require(content, has_palette | has_own_palette, "it is damaged: it has no palette")
    palette = tf.where(has_own_palette, part(content, scene.frame + 10, own_size), part(content, 13, palette_size))
    colors = tf.reshape(tf.io.decode_raw(palette, tf.uint8, fixed_length=3 * _COLORS), [_COLORS, 3])
    background = tf.constant(decoding.background, tf.uint8)
    is_transparent = tf.range(_COLORS, dtype=tf.int64)[:, None] == scene.transparent
    colors = tf.where(is_transparent, background, colors)

    data = scene.frame + 10 + own_size
    end = _end_of_blocks(content, data + 1)
    content = require(content, end >= 0, "it is cut off")
    size = part(content, scene.frame + 5, 4)
    one_frame = tf.strings.join(
        [
            b"GIF89a",
            size,
            b"\0\0\0",
            b"\x2c\0\0\0\0",
            size,
            tf.where(flags // _INTERLACED % 2 == 1, b"\xc7", b"\x87"),  # A palette of 256 colours follows.
            _to_string(colors),
            part(content, data, end - data),
            b"\x3b",
        ]
    )
    pixels = tf.io.decode_gif(one_frame)[0]
    around = [[top, canvas_height - top - height], [left, canvas_width - left - width], [0, 0]]

    def on_canvas() -> Tensor:
        inside = tf.pad(tf.ones_like(pixels[..., :1], tf.bool), around)
        return tf.where(inside, tf.pad(pixels, around), background)

    fills = (width == canvas_width) & (height == canvas_height)
    return tf.cond(fills, lambda: pixels, on_canvas), tf.constant(-1, tf.int64)


def _palette(flags: Tensor) -> tuple[Tensor, Tensor]:
    """Read whether there is a palette, and how many bytes it has."""
    exists = flags >= 128
    size = 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), flags % 8)
    return exists, tf.where(exists, size, 0)


def _find_frame(content: Tensor, start: Tensor) -> _Scene:
    def goes_on(position: Tensor, scene: _Scene) -> Tensor:
        return (scene.frame < 0) & (position >= 0) & (position < tf.cast(tf.strings.length(content), tf.int64))

    def step(position: Tensor, scene: _Scene) -> tuple[Tensor, _Scene]:
        block = tf.cast(read_bytes(content, position, 8), tf.int64)
        is_extension = block[0] == _EXTENSION
        # Packed flags, a delay of two bytes, and the transparent colour where the lowest flag is set.
        control = tf.where(block[3] % 2 == 1, block[6], -1)
        transparent = tf.where(is_extension & (block[1] == _CONTROL), control, scene.transparent)
        frame = tf.where(block[0] == _IMAGE, position, -1)
        after = tf.cond(is_extension, lambda: _end_of_blocks(content, position + 2), lambda: tf.constant(-1, tf.int64))
        return after, _Scene(frame, transparent)

    nothing = tf.constant(-1, tf.int64)
    _, scene = tf.while_loop(goes_on, step, (start, _Scene(nothing, nothing)), maximum_iterations=1000)
    return scene


def _end_of_blocks(content: Tensor, start: Tensor) -> Tensor:
    """Find the end of a chain of data blocks, after its empty last one; -1 if the file ends before it."""
    limit = tf.cast(tf.strings.length(content), tf.int64)

    def goes_on(position: Tensor, size: Tensor) -> Tensor:
        return (size > 0) & (position < limit)

    def step(position: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        del size
        size = read_number(content, position, 1)
        return position + 1 + size, size

    position, size = tf.while_loop(
        goes_on, step, (start, tf.constant(1, tf.int64)), maximum_iterations=_MOST_BLOCKS, parallel_iterations=1
    )
    return tf.where((size == 0) & (position <= limit), position, -1)


def _to_string(numbers: Tensor) -> Tensor:
    """Convert bytes, uint8 of any shape, to a string."""
    letters = tf.constant([bytes([number]) for number in range(256)])
    return tf.strings.reduce_join(tf.gather(letters, tf.reshape(tf.cast(numbers, tf.int32), [-1])))
