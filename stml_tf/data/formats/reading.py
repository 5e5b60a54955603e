"""Numbers inside the bytes of a file, read in the graph; and the refusal of a file, with its reason."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from stml_tf.tensor import Tensor

# 8,192 x 8,192. Bounds the memory of one image: 3 bytes a pixel, 14 while 16 bits with alpha are read.
MAX_PIXELS = 2**26


def read_bytes(content: Tensor, start: Tensor | int, count: int) -> Tensor:
    """Read `count` bytes of a file from `start` on, uint8 `[count]`; beyond its end they are 0."""
    start = tf.cast(tf.clip_by_value(tf.cast(start, tf.int64), 0, length(content)), tf.int32)
    return tf.io.decode_raw(tf.strings.substr(content, start, count), tf.uint8, fixed_length=count)


def read_number(content: Tensor, start: Tensor | int, count: int, *, big_endian: bool = False) -> Tensor:
    """Read the whole number in `count` bytes from `start` on, int64, unsigned."""
    places = 256 ** np.arange(count, dtype=np.int64)
    digits = tf.cast(read_bytes(content, start, count), tf.int64)
    return tf.reduce_sum(digits * (places[::-1] if big_endian else places))


def length(content: Tensor) -> Tensor:
    """Count the bytes of a file, int64."""
    return tf.cast(tf.strings.length(content), tf.int64)


def part(content: Tensor, start: Tensor | int, count: Tensor | int) -> Tensor:
    """Cut at most `count` bytes out of a file, from `start` on, as a string."""
    start = tf.clip_by_value(tf.cast(start, tf.int64), 0, length(content))
    count = tf.clip_by_value(tf.cast(count, tf.int64), 0, length(content) - start)
    return tf.strings.substr(content, tf.cast(start, tf.int32), tf.cast(count, tf.int32))


def require(content: Tensor, condition: Tensor, reason: Tensor | str) -> Tensor:
    """Return the same file, once the condition is known to hold.

    What is computed from the returned tensor waits for the check, so that nothing is decoded, and no memory taken, for
    a file that is refused.

    Raises:
        tf.errors.InvalidArgumentError: If the condition does not hold; the message is "assertion failed: [reason]".
    """
    # tf.debugging.Assert wraps the same operation in a tf.cond, and there are dozens of these in a SavedModel.
    with tf.control_dependencies([tf.raw_ops.Assert(condition=condition, data=[reason])]):
        return tf.identity(content)


def require_size(content: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Return the same file, once its header is known to promise at least one pixel and at most `MAX_PIXELS`."""
    height, width = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
    content = require(content, (height > 0) & (width > 0), "it is damaged: its header says that it has no pixels")
    # Sides of 32 bits each, multiplied, overflow 64.
    few = (height <= MAX_PIXELS) & (width <= MAX_PIXELS // tf.clip_by_value(height, 1, MAX_PIXELS))
    reason = tf.strings.format(f"{{}} x {{}} pixels are more than the {MAX_PIXELS:,} allowed", (width, height))
    return require(content, few, reason)
