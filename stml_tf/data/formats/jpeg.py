"""Decodes JPEG files (ISO/IEC 10918-1), and of MPO files the first picture."""

from __future__ import annotations

import tensorflow as tf

from stml_tf.data.formats.reading import read_bytes, require, require_size
from stml_tf.data.formats.rule import Decoding
from stml_tf.tensor import Tensor

_MOST_SEGMENTS = 1000
_CMYK = 4
_EXIF, _ADOBE = 0xE1, 0xEE  # The application segments that hold them, with a name of their own.


def decode_jpeg(content: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """Decode a JPEG file, a string.

    Returns:
        RGB, uint8 `[height, width, 3]`; and where its Exif data begin, int64, or -1.
    """
    del decoding  # Neither transparency nor 16 bits.
    height, width, channels = tf.unstack(tf.image.extract_jpeg_shape(content, tf.int64))
    content = require_size(content, height, width)
    content = require(
        content,
        tf.cond(channels == _CMYK, lambda: _find_segment(content, _ADOBE, b"Adobe") >= 0, lambda: tf.constant(True)),
        "it is a CMYK JPEG without the marker of Adobe, so that its colours may mean two things: save it as RGB",
    )
    # The accurate transform gives libjpeg-turbo's pixels, which are Pillow's; TensorFlow's default is off by up to 12.
    pixels = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
    return pixels, _find_segment(content, _EXIF, b"Exif\0\0")


def _find_segment(content: Tensor, marker: int, name: bytes) -> Tensor:
    """Find where the data behind a name begin in the first such leading segment, int64; -1 if there is none.

    Leading segments are those of applications and comments, before the tables and the picture.
    """
    wanted = tf.constant([0xFF, marker, 0, 0, *name], tf.int64)
    compared = tf.constant([True, True, False, False, *[True] * len(name)])

    def goes_on(position: Tensor, found: Tensor) -> Tensor:
        return (position >= 0) & (found < 0)

    def step(position: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        start = tf.cast(read_bytes(content, position, 4 + len(name)), tf.int64)
        found = tf.where(tf.reduce_all((start == wanted) | ~compared), position + 4 + len(name), found)
        is_leading = (start[0] == 0xFF) & ((start[1] >= 0xE0) & (start[1] <= 0xEF) | (start[1] == 0xFE))
        # A marker may be preceded by any number of 0xFF.
        is_fill = (start[0] == 0xFF) & (start[1] == 0xFF)
        after = tf.where(is_leading, position + 2 + start[2] * 256 + start[3], tf.where(is_fill, position + 1, -1))
        return after, found

    start = (tf.constant(2, tf.int64), tf.constant(-1, tf.int64))
    return tf.while_loop(goes_on, step, start, maximum_iterations=_MOST_SEGMENTS)[1]
