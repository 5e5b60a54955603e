"""Decodes WebP files (RFC 9649), and of animated ones the first frame.

TensorFlow's decoder has to be told whether there is alpha, and takes animations in one shape alone. So it is handed a
file of one picture, made of the parts that were found.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from stml_tf.data.formats.blending import blend
from stml_tf.data.formats.reading import part, read_bytes, read_number, require, require_size
from stml_tf.data.formats.rule import Decoding
from stml_tf.tensor import Tensor

_MOST_CHUNKS = 1000
_HEADER = 8  # A chunk's name and the size of its data.


class _Parts(NamedTuple):
    """Where the chunks of a file are, int64; -1 for one that is not there."""

    extended: Tensor
    frame: Tensor
    alpha: Tensor
    lossy: Tensor
    lossless: Tensor
    exif: Tensor


def decode_webp(content: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """Decode a WebP file, a string.

    Returns:
        RGB over the background, uint8 `[height, width, 3]`; and where its Exif data begin, int64, or -1.
    """
    parts = _find_parts(content)
    content = require(content, (parts.lossy >= 0) | (parts.lossless >= 0), "it is damaged: it holds no picture")
    height, width = _sides(content, parts)
    content = require_size(content, height, width)
    is_lossy = parts.lossy >= 0
    # Bit 28 of the lossless header: alpha is used.
    has_alpha = tf.where(
        is_lossy, parts.alpha >= 0, read_number(content, parts.lossless + _HEADER + 4, 1) // 16 % 2 == 1
    )
    picture = _chunk(content, tf.where(is_lossy, parts.lossy, parts.lossless))

    def with_alpha() -> Tensor:
        height, width = _lossy_sides(content, parts)  # Of the frame, which may be smaller than the canvas.
        flags = tf.strings.join([b"VP8X\x0a\0\0\0\x10\0\0\0", _little_endian(width - 1), _little_endian(height - 1)])
        chunks = tf.where(is_lossy, tf.strings.join([flags, _chunk(content, parts.alpha), picture]), picture)
        return tf.io.decode_image(_file(chunks), channels=4, expand_animations=False)

    def opaque() -> Tensor:
        pixels = tf.io.decode_image(_file(picture), channels=3, expand_animations=False)
        return tf.pad(pixels, [[0, 0], [0, 0], [0, 1]], constant_values=255)

    def on_background() -> Tensor:
        pixels = tf.ensure_shape(tf.cond(has_alpha, with_alpha, opaque), [None, None, 4])
        return blend(_on_canvas(content, pixels, parts), decoding.background)

    pixels = tf.cond(
        has_alpha | (parts.frame >= 0),
        on_background,
        lambda: tf.io.decode_image(_file(picture), channels=3, expand_animations=False),
    )
    return pixels, parts.exif


def _find_parts(content: Tensor) -> _Parts:
    """Go from chunk to chunk; into the first frame of an animation, over the others."""

    def goes_on(position: Tensor, parts: _Parts) -> Tensor:
        # Exif data follow the picture, where the flags say so.
        wanted = ((parts.lossy < 0) & (parts.lossless < 0)) | (parts.exif < 0)
        return wanted & (position < tf.cast(tf.strings.length(content), tf.int64))

    def step(position: Tensor, parts: _Parts) -> tuple[Tensor, _Parts]:
        name = tf.cast(read_bytes(content, position, 4), tf.int32)
        size = read_number(content, position + 4, 4)
        searching = (parts.lossy < 0) & (parts.lossless < 0)

        def first(chunk: bytes, known: Tensor, wanted: Tensor) -> Tensor:
            return tf.where(tf.reduce_all(name == list(chunk)) & wanted & (known < 0), position, known)

        frame = first(b"ANMF", parts.frame, searching)
        is_first_frame = frame == position
        exif = first(b"EXIF", parts.exif, True)
        found = _Parts(
            extended=first(b"VP8X", parts.extended, searching),
            frame=frame,
            alpha=first(b"ALPH", parts.alpha, searching),
            lossy=first(b"VP8 ", parts.lossy, searching),
            lossless=first(b"VP8L", parts.lossless, searching),
            exif=tf.where(exif == position, exif + _HEADER + _exif_prefix(content, position), exif),
        )
        after = position + _HEADER + tf.where(is_first_frame, tf.constant(16, tf.int64), size + size % 2)
        return after, found

    nowhere = tf.constant(-1, tf.int64)
    start = tf.constant(12, tf.int64)
    _, parts = tf.while_loop(goes_on, step, (start, _Parts(*[nowhere] * 6)), maximum_iterations=_MOST_CHUNKS)
    return parts


def _exif_prefix(content: Tensor, position: Tensor) -> Tensor:
    """Count the bytes of JPEG's "Exif" mark, which some programs write before the data."""
    mark = tf.cast(read_bytes(content, position + _HEADER, 4), tf.int32)
    return tf.where(tf.reduce_all(mark == list(b"Exif")), tf.constant(6, tf.int64), 0)


def _sides(content: Tensor, parts: _Parts) -> tuple[Tensor, Tensor]:
    """Read height and width of the canvas, int64; without one, of the picture."""

    def of_canvas() -> tuple[Tensor, Tensor]:
        start = parts.extended + _HEADER
        return 1 + read_number(content, start + 7, 3), 1 + read_number(content, start + 4, 3)

    def of_lossless() -> tuple[Tensor, Tensor]:
        bits = read_number(content, parts.lossless + _HEADER + 1, 4)
        return 1 + bits // 2**14 % 2**14, 1 + bits % 2**14

    return tf.case(
        [(parts.extended >= 0, of_canvas), (parts.lossy >= 0, lambda: _lossy_sides(content, parts))], of_lossless
    )


def _lossy_sides(content: Tensor, parts: _Parts) -> tuple[Tensor, Tensor]:
    height, width = (read_number(content, parts.lossy + _HEADER + start, 2) for start in (8, 6))
    return height % 2**14, width % 2**14


def _on_canvas(content: Tensor, pixels: Tensor, parts: _Parts) -> Tensor:
    """Place a frame `[height, width, 4]` where it belongs on its canvas, which is transparent."""

    def place() -> Tensor:
        start = parts.frame + _HEADER
        left, top = (2 * read_number(content, start + offset, 3) for offset in (0, 3))
        height, width = _sides(content, parts)
        shape = tf.shape(pixels, tf.int64)
        below, right = height - top - shape[0], width - left - shape[1]
        inside = (below >= 0) & (right >= 0)
        frame = require(pixels, inside, "it is damaged: its first frame lies outside of its canvas")
        return tf.pad(frame, [[top, below], [left, right], [0, 0]])

    return tf.cond(parts.frame >= 0, place, lambda: pixels)


def _chunk(content: Tensor, position: Tensor) -> Tensor:
    size = read_number(content, position + 4, 4)
    return part(content, position, _HEADER + size + size % 2)


def _file(chunks: Tensor) -> Tensor:
    size = tf.cast(tf.strings.length(chunks), tf.int64) + 4
    return tf.strings.join([b"RIFF", _little_endian(size, 4), b"WEBP", chunks])


def _little_endian(number: Tensor, count: int = 3) -> Tensor:
    letters = tf.constant([bytes([byte]) for byte in range(256)])
    return tf.strings.reduce_join([letters[number // 256**place % 256] for place in range(count)])
