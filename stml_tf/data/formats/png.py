"""Decodes PNG files (W3C Recommendation, third edition), and of animated ones the default image."""

from __future__ import annotations

import tensorflow as tf

from stml_tf.data.formats.blending import to_rgb
from stml_tf.data.formats.exif import read_orientation, turn_upright
from stml_tf.data.formats.reading import read_bytes, read_number, require_size
from stml_tf.data.formats.rule import Decoding
from stml_tf.tensor import Tensor

_MOST_CHUNKS = 1000
_GREY_AND_ALPHA, _RGBA = 4, 6


def decode_png(content: Tensor, decoding: Decoding) -> Tensor:
    """Decode a PNG file, a string, to uint8 `[height, width, 3]`: RGB over the background, turned upright."""
    width, height = (read_number(content, start, 4, big_endian=True) for start in (16, 20))
    content = require_size(content, height, width)
    color_type = read_number(content, 25, 1)
    transparency, exif = _find_chunks(content)
    has_alpha = (color_type == _GREY_AND_ALPHA) | (color_type == _RGBA) | (transparency >= 0)

    def decode(channels: int, dtype: tf.DType) -> Tensor:
        return to_rgb(tf.io.decode_png(content, channels=channels, dtype=dtype), decoding)

    # Asked for alpha where there is none, libpng fills it wrongly in files of 1, 2 and 4 bits.
    kinds = [lambda c=channels, d=dtype: decode(c, d) for dtype in (tf.uint8, tf.uint16) for channels in (3, 4)]
    is_16_bit = read_number(content, 24, 1) == 16
    pixels = tf.switch_case(2 * tf.cast(is_16_bit, tf.int32) + tf.cast(has_alpha, tf.int32), kinds)
    return turn_upright(pixels, read_orientation(content, exif))


def _find_chunks(content: Tensor) -> tuple[Tensor, Tensor]:
    """Where the data of the chunks tRNS and eXIf begin, int64; -1 for one that is not there before the pixels."""

    def goes_on(position: Tensor, ended: Tensor, transparency: Tensor, exif: Tensor) -> Tensor:
        del position, transparency, exif
        return ~ended

    def step(
        position: Tensor, ended: Tensor, transparency: Tensor, exif: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        size = read_number(content, position, 4, big_endian=True)
        name = tf.cast(read_bytes(content, position + 4, 4), tf.int32)

        def is_called(chunk: bytes) -> Tensor:
            return tf.reduce_all(name == list(chunk))

        ended = is_called(b"IDAT") | is_called(b"\0\0\0\0")
        return (
            position + 12 + size,
            ended,
            tf.where(is_called(b"tRNS"), position + 8, transparency),
            tf.where(is_called(b"eXIf"), position + 8, exif),
        )

    nowhere = tf.constant(-1, tf.int64)
    _, _, transparency, exif = tf.while_loop(
        goes_on,
        step,
        (tf.constant(8, tf.int64), tf.constant(False), nowhere, nowhere),
        maximum_iterations=_MOST_CHUNKS,
    )
    return transparency, exif
