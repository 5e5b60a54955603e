"""Decodes BMP files: palettes of 1, 4 and 8 bits, and true colour of 16, 24 and 32; not the compressed ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from stml_tf.data.formats.blending import blend, by_strips
from stml_tf.data.formats.reading import part, read_number, require, require_size
from stml_tf.data.formats.rule import Decoding
from stml_tf.tensor import Tensor

_OLD_HEADER = 12  # That of OS/2.
_UNCOMPRESSED, _BIT_FIELDS = 0, 3
_BITS = np.array([1, 4, 8, 16, 24, 32])
_FIVE_BITS_EACH = np.array([0x7C00, 0x3E0, 0x1F, 0])
_EIGHT_BITS_EACH = np.array([0xFF0000, 0xFF00, 0xFF, 0])  # The fourth byte of 32 bits is unused, and often 0.


class _Header(NamedTuple):
    height: Tensor
    width: Tensor
    bits: Tensor
    compression: Tensor
    top_down: Tensor


def decode_bmp(content: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """Decode a BMP file, a string.

    Returns:
        RGB over the background, uint8 `[height, width, 3]`; and -1, for there are no Exif data.
    """
    size = read_number(content, 14, 4)
    header = tf.cond(size == _OLD_HEADER, lambda: _old_header(content), lambda: _new_header(content))
    content = require_size(content, header.height, header.width)
    bits = header.bits
    is_plain = header.compression == _UNCOMPRESSED
    has_fields = (header.compression == _BIT_FIELDS) & ((bits == 16) | (bits == 32))
    content = require(
        content, is_plain | has_fields, "it is a compressed BMP, which is not read: save it uncompressed or as PNG"
    )
    reason = tf.strings.format("it is a BMP of {} bits a pixel, which is not read: save it as PNG", bits)
    content = require(content, tf.reduce_any(bits == _BITS), reason)

    stride = (header.width * bits + 31) // 32 * 4
    pixels = part(content, read_number(content, 10, 4), stride * header.height)
    whole = tf.cast(tf.strings.length(pixels), tf.int64) == stride * header.height
    pixels = require(pixels, whole, "it is cut off")
    rows = tf.reshape(tf.io.decode_raw(pixels, tf.uint8), [header.height, stride])
    rows = tf.cond(header.top_down, lambda: rows, lambda: tf.reverse(rows, [0]))

    def through_palette() -> Tensor:
        entry = tf.where(size == _OLD_HEADER, 3, 4)
        colors = tf.io.decode_raw(part(content, 14 + size, 1024), tf.uint8)
        count = tf.minimum(tf.bitwise.left_shift(1, tf.cast(bits, tf.int32)), tf.shape(colors)[0] // entry)
        palette = tf.reshape(colors[: count * entry], [count, entry])[:, 2::-1]
        palette = tf.ensure_shape(tf.pad(palette, [[0, 256 - count], [0, 0]]), [256, 3])
        shifts = tf.cast(tf.range(8 - bits, -1, -bits), tf.uint8)  # The first pixel of a byte is in its upper bits.
        mask = tf.cast(tf.bitwise.left_shift(tf.constant(1, tf.int64), bits) - 1, tf.uint8)

        def look_up(strip: Tensor) -> Tensor:
            indices = tf.bitwise.bitwise_and(tf.bitwise.right_shift(strip[..., None], shifts), mask)
            indices = tf.reshape(indices, [tf.shape(strip)[0], -1])[:, : header.width]
            return tf.gather(palette, tf.cast(indices, tf.int32))

        return by_strips(look_up, rows)

    def true_color() -> Tensor:
        one = tf.constant(1, tf.int64)
        masks = tf.where(has_fields, _masks(content, size), tf.where(bits == 16, _FIVE_BITS_EACH, _EIGHT_BITS_EACH))
        lowest = tf.maximum(one, tf.bitwise.bitwise_and(masks, -masks))
        places = tf.bitwise.left_shift(one, 8 * tf.range(bits // 8))

        def pick(strip: Tensor) -> Tensor:
            strip = tf.reshape(strip[:, : header.width * (bits // 8)], [-1, header.width, bits // 8])
            numbers = tf.reduce_sum(tf.cast(strip, tf.int64) * places, axis=-1, keepdims=True)
            values = tf.bitwise.bitwise_and(numbers, masks) // lowest * 255 // tf.maximum(one, masks // lowest)
            values = tf.where(masks == 0, tf.constant(255, tf.int64), values)  # No mask of alpha: opaque.
            return blend(tf.ensure_shape(tf.cast(values, tf.uint8), [None, None, 4]), decoding.background)

        return by_strips(pick, rows)

    return tf.cond(bits <= 8, through_palette, true_color), tf.constant(-1, tf.int64)


def _masks(content: Tensor, header_size: Tensor) -> Tensor:
    """Read which bits of a pixel's number are red, green, blue and alpha, int64 `[4]`."""
    masks = [read_number(content, start, 4) for start in (54, 58, 62)]
    return tf.stack([*masks, tf.where(header_size >= 56, read_number(content, 66, 4), 0)])


def _old_header(content: Tensor) -> _Header:
    width, height, _, bits = (read_number(content, start, 2) for start in (18, 20, 22, 24))
    return _Header(height, width, bits, tf.constant(_UNCOMPRESSED, tf.int64), tf.constant(False))


def _new_header(content: Tensor) -> _Header:
    width, height = (_signed(read_number(content, start, 4)) for start in (18, 22))
    bits, compression = read_number(content, 28, 2), read_number(content, 30, 4)
    return _Header(tf.abs(height), width, bits, compression, height < 0)


def _signed(number: Tensor) -> Tensor:
    return tf.where(number >= 2**31, number - 2**32, number)
