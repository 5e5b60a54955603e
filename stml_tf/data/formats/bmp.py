"""Decodes BMP files: palettes of 1, 4 and 8 bits, and true colour of 16, 24 and 32; not the compressed ones."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from stml_tf.data.formats.blending import by_strips, to_rgb
from stml_tf.data.formats.reading import part, read_number, require, require_size
from stml_tf.data.formats.rule import Decoding
from stml_tf.tensor import Tensor

_OLD_HEADER = 12  # That of OS/2.
_UNCOMPRESSED, _BIT_FIELDS = 0, 3
_FIVE_BITS_EACH = (0x7C00, 0x3E0, 0x1F, 0)


class _Header(NamedTuple):
    height: Tensor
    width: Tensor
    bits: Tensor
    compression: Tensor
    top_down: Tensor


def decode_bmp(content: Tensor, decoding: Decoding) -> Tensor:
    """Decode a BMP file, a string, to uint8 `[height, width, 3]`: RGB over the background."""
    size = read_number(content, 14, 4)
    header = tf.cond(size == _OLD_HEADER, lambda: _old_header(content), lambda: _new_header(content))
    content = require_size(content, header.height, header.width)
    is_plain = header.compression == _UNCOMPRESSED
    has_fields = (header.compression == _BIT_FIELDS) & ((header.bits == 16) | (header.bits == 32))
    content = require(
        content, is_plain | has_fields, "it is a compressed BMP, which is not read: save it uncompressed or as PNG"
    )

    stride = (header.width * header.bits + 31) // 32 * 4
    pixels = part(content, read_number(content, 10, 4), stride * header.height)
    whole = tf.cast(tf.strings.length(pixels), tf.int64) == stride * header.height
    pixels = require(pixels, whole, "it is cut off")
    rows = tf.reshape(tf.io.decode_raw(pixels, tf.uint8), [header.height, stride])
    rows = tf.cond(header.top_down, lambda: rows, lambda: tf.reverse(rows, [0]))

    def through_palette(bits: int) -> Tensor:
        per_byte = 8 // bits
        shifts = tf.constant([8 - bits * (place + 1) for place in range(per_byte)], tf.uint8)
        entry = tf.where(size == _OLD_HEADER, 3, 4)
        colors = tf.io.decode_raw(part(content, 14 + size, 1024), tf.uint8)
        count = tf.minimum(2**bits, tf.shape(colors)[0] // entry)
        palette = tf.reshape(colors[: count * entry], [count, entry])[:, 2::-1]
        palette = tf.ensure_shape(tf.pad(palette, [[0, 256 - count], [0, 0]]), [256, 3])

        def look_up(strip: Tensor) -> Tensor:
            indices = tf.bitwise.bitwise_and(
                tf.bitwise.right_shift(strip[..., None], shifts), tf.constant(2**bits - 1, tf.uint8)
            )
            indices = tf.reshape(indices, [tf.shape(strip)[0], -1])[:, : header.width]
            return tf.gather(palette, tf.cast(indices, tf.int32))

        return by_strips(look_up, rows)

    def true_color() -> Tensor:
        return tf.reshape(rows[:, : header.width * 3], [header.height, header.width, 3])[..., ::-1]

    def without_alpha() -> Tensor:
        # The fourth byte is meant to be unused, and often 0.
        return tf.reshape(rows, [header.height, header.width, 4])[..., 2::-1]

    def in_fields(bits: int, masks: Tensor) -> Tensor:
        places = tf.constant([256**place for place in range(bits // 8)], tf.int64)
        one = tf.constant(1, tf.int64)
        lowest = tf.maximum(one, tf.bitwise.bitwise_and(masks, -masks))

        def pick(strip: Tensor) -> Tensor:
            strip = tf.reshape(strip[:, : header.width * (bits // 8)], [-1, header.width, bits // 8])
            numbers = tf.reduce_sum(tf.cast(strip, tf.int64) * places, axis=-1, keepdims=True)
            values = tf.bitwise.bitwise_and(numbers, masks) // lowest * 255 // tf.maximum(one, masks // lowest)
            values = tf.where(masks == 0, tf.constant(255, tf.int64), values)  # No mask of alpha: opaque.
            return to_rgb(tf.ensure_shape(tf.cast(values, tf.uint8), [None, None, 4]), decoding)

        return by_strips(pick, rows)

    fields = tf.stack([read_number(content, start, 4) for start in (54, 58, 62)])
    alpha = tf.where(size >= 56, read_number(content, 66, 4), 0)
    fields = tf.concat([fields, alpha[None]], axis=0)
    supported = (
        (header.bits == 1, lambda: through_palette(1)),
        (header.bits == 4, lambda: through_palette(4)),
        (header.bits == 8, lambda: through_palette(8)),
        (header.bits == 24, true_color),
        ((header.bits == 32) & is_plain, without_alpha),
        ((header.bits == 16) & is_plain, lambda: in_fields(16, tf.constant(_FIVE_BITS_EACH, tf.int64))),
        (header.bits == 16, lambda: in_fields(16, fields)),
        (header.bits == 32, lambda: in_fields(32, fields)),
    )
    matches = tf.stack([tf.cast(condition, tf.int32) for condition, _ in supported])
    reason = tf.strings.format("it is a BMP of {} bits a pixel, which is not read: save it as PNG", header.bits)
    matches = require(matches, tf.reduce_max(matches) == 1, reason)
    pixels = tf.switch_case(tf.argmax(matches, output_type=tf.int32), [branch for _, branch in supported])
    return tf.ensure_shape(pixels, [None, None, 3])


def _old_header(content: Tensor) -> _Header:
    width, height, _, bits = (read_number(content, start, 2) for start in (18, 20, 22, 24))
    return _Header(height, width, bits, tf.constant(_UNCOMPRESSED, tf.int64), tf.constant(False))


def _new_header(content: Tensor) -> _Header:
    width, height = (_signed(read_number(content, start, 4)) for start in (18, 22))
    bits, compression = read_number(content, 28, 2), read_number(content, 30, 4)
    return _Header(tf.abs(height), width, bits, compression, height < 0)


def _signed(number: Tensor) -> Tensor:
    return tf.where(number >= 2**31, number - 2**32, number)
