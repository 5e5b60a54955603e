"""The orientation that cameras write into a file: which way its pixels have to be turned to be upright.

Exif 2.32, section 4.6.4: tag 0x0112 of the first directory, whose layout is that of TIFF.
"""

from __future__ import annotations

import tensorflow as tf

from stml_tf.data.formats.reading import part, read_number
from stml_tf.tensor import Tensor

UPRIGHT = 1
_ORIENTATION = 0x0112
_ENTRY = 12
_BIG_ENDIAN = 0x4D4D  # "MM"


def read_orientation(content: Tensor, start: Tensor) -> Tensor:
    """Read the orientation in the Exif data of a file, int64, 1 to 8; 1 where there is none or it makes no sense.

    Args:
        content: The file, a string.
        start: Where its Exif data begin, with the order of bytes; negative if there are none.
    """
    upright = tf.constant(UPRIGHT, tf.int64)

    def read() -> Tensor:
        big_endian = read_number(content, start, 2) == _BIG_ENDIAN

        def number(position: Tensor, count: int) -> Tensor:
            return tf.where(
                big_endian,
                read_number(content, position, count, big_endian=True),
                read_number(content, position, count),
            )

        directory = start + number(start + 4, 4)
        entries = tf.io.decode_raw(part(content, directory + 2, number(directory, 2) * _ENTRY), tf.uint8)
        whole = tf.shape(entries)[0] // _ENTRY
        entries = tf.cast(tf.reshape(entries[: whole * _ENTRY], [-1, _ENTRY]), tf.int64)
        places = tf.where(big_endian, tf.constant([256, 1], tf.int64), tf.constant([1, 256], tf.int64))
        tags, values = (tf.reduce_sum(entries[:, at : at + 2] * places, axis=-1) for at in (0, 8))
        return tf.concat([values[tags == _ORIENTATION], [upright]], axis=0)[0]

    orientation = tf.cond(start >= 0, read, lambda: upright)
    return tf.where((orientation >= 1) & (orientation <= 8), orientation, upright)


def turn_upright(pixels: Tensor, orientation: Tensor) -> Tensor:
    """Turn and mirror an image `[height, width, channels]` the way its orientation says."""

    def turn() -> Tensor:
        turned = tf.transpose(pixels, tf.where(orientation >= 5, [1, 0, 2], [0, 1, 2]))
        rows, columns = (tf.reduce_any(orientation == mirrored) for mirrored in ((3, 4, 7, 8), (2, 3, 6, 7)))
        return tf.reverse(turned, tf.boolean_mask([0, 1], [rows, columns]))

    return tf.cond(orientation == UPRIGHT, lambda: pixels, turn)
