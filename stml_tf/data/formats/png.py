"""Decodes PNG files (W3C Recommendation, third edition), and of animated ones the default image."""

from __future__ import annotations

import tensorflow as tf

from stml_tf.data.formats.blending import blend
from stml_tf.data.formats.reading import read_bytes, read_number, require_size
from stml_tf.data.formats.rule import Decoding
from stml_tf.tensor import Tensor

_MOST_CHUNKS = 1000
_GREY_AND_ALPHA, _RGBA = 4, 6


def decode_png(content: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """Decode a PNG file, a string.

    Returns:
        RGB over the background, uint8 `[height, width, 3]`; and where its Exif data begin, int64, or -1.
    """
    width, height = (read_number(content, start, 4, big_endian=True) for start in (16, 20))
    content = require_size(content, height, width)
    bits, color_type = (read_number(content, start, 1) for start in (24, 25))
    transparency, exif = _find_chunks(content)
    has_alpha = (color_type == _GREY_AND_ALPHA) | (color_type == _RGBA) | (transparency >= 0)

    def with_alpha_or_16_bits() -> Tensor:
        # Files of 8 bits come stretched to 16.
        pixels = tf.io.decode_png(content, channels=4, dtype=tf.uint16)
        return blend(pixels, decoding.background, color_shift=tf.where(bits == 16, decoding.bit_depth - 8, 8))

    # Asked for alpha where there is none, libpng fills it wrongly in files of 1, 2 and 4 bits.
    pixels = tf.cond(has_alpha | (bits == 16), with_alpha_or_16_bits, lambda: tf.io.decode_png(content, channels=3))
    return pixels, exif


def _find_chunks(content: Tensor) -> tuple[Tensor, Tensor]:
    """Find where the data of the chunks tRNS and eXIf begin, int64; -1 for one that is not there before the pixels."""

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
