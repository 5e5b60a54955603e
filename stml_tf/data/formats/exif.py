"""The orientation that cameras write into a file: which way its pixels have to be turned to be upright.

Exif 2.32, section 4.6.4: tag 0x0112 of the first directory, whose layout is that of TIFF.
"""

from __future__ import annotations

import tensorflow as tf

from stml_tf.data.formats.reading import part, read_bytes, read_number
from stml_tf.tensor import Tensor

UPRIGHT = 1
_ORIENTATION = 0x0112
_ENTRY = 12


def read_orientation(content: Tensor, start: Tensor) -> Tensor:
    """The orientation in the Exif data of a file, int64, 1 to 8; 1 where there is none or it makes no sense.

    Args:
        content: The file, a string.
        start: Where its Exif data begin, with the order of bytes; negative if there are none.
    """
    upright = tf.constant(UPRIGHT, tf.int64)

    def read(*, big_endian: bool) -> Tensor:
        directory = start + read_number(content, start + 4, 4, big_endian=big_endian)
        count = read_number(content, directory, 2, big_endian=big_endian)
        entries = tf.io.decode_raw(part(content, directory + 2, count * _ENTRY), tf.uint8)
        whole = tf.shape(entries)[0] // _ENTRY
        entries = tf.cast(tf.reshape(entries[: whole * _ENTRY], [-1, _ENTRY]), tf.int64)
        high, low = (0, 1) if big_endian else (1, 0)
        tags = entries[:, high] * 256 + entries[:, low]
        values = entries[:, 8 + high] * 256 + entries[:, 8 + low]
        found = values[tags == _ORIENTATION]
        return tf.cond(tf.size(found) > 0, lambda: found[0], lambda: upright)

    def order() -> Tensor:
        mark = tf.cast(read_bytes(content, start, 2), tf.int32)
        intel, motorola = (tf.reduce_all(mark == list(letters)) for letters in (b"II", b"MM"))
        return tf.case(
            [(intel, lambda: read(big_endian=False)), (motorola, lambda: read(big_endian=True))], lambda: upright
        )

    orientation = tf.cond(start >= 0, order, lambda: upright)
    return tf.where((orientation >= 1) & (orientation <= 8), orientation, upright)


def turn_upright(pixels: Tensor, orientation: Tensor) -> Tensor:
    """Turn and mirror an image `[height, width, channels]` the way its orientation says."""

    def is_any_of(*orientations: int) -> Tensor:
        return tf.reduce_any(orientation == orientations)

    def turn() -> Tensor:
        turned = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
        turned = tf.cond(is_any_of(2, 3, 6, 7), lambda: tf.reverse(turned, [1]), lambda: turned)
        return tf.cond(is_any_of(3, 4, 7, 8), lambda: tf.reverse(turned, [0]), lambda: turned)

    return tf.cond(orientation == UPRIGHT, lambda: pixels, turn)
