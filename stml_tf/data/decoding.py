"""One rule for what the pixels of an image file are, in Python and in the graph of a SavedModel.

Decode, turn upright as the file's orientation says, reduce 16 bits to 8, blend transparency over the background: 8-bit
RGB. The decoders of JPEG, PNG, GIF, WebP and BMP are TensorFlow graphs, which training, search and the SavedModel all
run. What TensorFlow cannot decode (TIFF, AVIF, HEIC, JPEG 2000) goes through Pillow by the same rule, which needs
Python: the bytes of such files are the one thing that training and search accept and a SavedModel refuses, with the
advice to send their pixels, as search does.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import tensorflow as tf

from stml_tf.data.formats.bmp import decode_bmp
from stml_tf.data.formats.exif import read_orientation, turn_upright
from stml_tf.data.formats.gif import decode_gif
from stml_tf.data.formats.jpeg import decode_jpeg
from stml_tf.data.formats.png import decode_png
from stml_tf.data.formats.reading import MAX_PIXELS, read_bytes, require
from stml_tf.data.formats.rule import DEFAULT_DECODING, Decoding
from stml_tf.data.formats.signatures import (
    FORMATS,
    HEAD,
    PILLOW_FORMATS,
    TENSORFLOW_FORMATS,
    format_of,
    signature_table,
)
from stml_tf.data.formats.webp import decode_webp
from stml_tf.data.formats.with_pillow import RefusedError, decode_with_pillow
from stml_tf.errors import UserError
from stml_tf.tensor import Tensor

__all__ = ["MAX_PIXELS", "Decoding", "UnreadableImageError", "decode", "decode_with_python", "read_image"]

EMPTY = "it is empty"
NO_IMAGE = f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
_NOT_IN_TENSORFLOW = "TensorFlow cannot decode {}: send the pixels to the signature named pixels"
_TRACING = threading.RLock()
_DECODERS = {"JPEG": decode_jpeg, "PNG": decode_png, "GIF": decode_gif, "WebP": decode_webp, "BMP": decode_bmp}


class UnreadableImageError(UserError):
    """An image that cannot be decoded; `reason` says why without naming it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot read {name}: {reason}")
        self.reason = reason


def read_image(source: Path | bytes, decoding: Decoding = DEFAULT_DECODING) -> np.ndarray:
    """Decode one image file, whatever its name ends in; of several pictures in it, the first.

    Args:
        source: The file's path, or its content.
        decoding: What the pixels become.

    Returns:
        uint8 `[height, width, 3]`, RGB; not necessarily writable.

    Raises:
        UnreadableImageError: If the file is missing, empty, damaged, no image, or larger than `MAX_PIXELS`; the message
            names it and says which.
        MemoryError: If there is not enough memory, which says nothing about the file.
    """
    name = "an image given as bytes" if isinstance(source, bytes) else str(source)
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        format_name = format_of(content[:HEAD])
        if format_name in PILLOW_FORMATS:
            return decode_with_pillow(content, format_name, decoding)
        formats = (format_name,) if format_name else ()
        return _traced_once(decoding, formats)(tf.constant(content)).numpy()
    except (RefusedError, OSError) as error:
        raise UnreadableImageError(name, getattr(error, "strerror", None) or str(error)) from None
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise MemoryError(f"out of memory while decoding {name}") from error
    except tf.errors.OpError as error:
        raise UnreadableImageError(name, _reason(error)) from error


def decode(content: Tensor, decoding: Decoding = DEFAULT_DECODING) -> Tensor:
    """Decode one image file in the graph, as `read_image` does, with TensorFlow alone.

    Args:
        content: The file, a scalar string.
        decoding: What the pixels become.

    Returns:
        uint8 `[height, width, 3]`, RGB.

    Raises:
        tf.errors.InvalidArgumentError: If the file cannot be decoded; the message holds `read_image`'s reason. Formats
            that need Pillow are refused.
    """
    return _traced_once(decoding, TENSORFLOW_FORMATS)(content)


def decode_with_python(
    content: Tensor, decoding: Decoding = DEFAULT_DECODING, *, expected: Collection[str | None] = TENSORFLOW_FORMATS
) -> Tensor:
    """Decode as `decode` does, but in the Python process that made the graph where the graph has no decoder.

    Args:
        content: The file, a scalar string.
        decoding: What the pixels become.
        expected: The formats whose decoders the graph gets: all take a third of a second whenever an iterator begins.
            Those that need Pillow may be among them. The others, and what is of no format, are left to Python.

    Returns:
        uint8 `[height, width, 3]`, RGB.
    """
    formats = tuple(name for name in TENSORFLOW_FORMATS if name in expected)
    return _traced_once(decoding, formats, with_python=True)(content)


def _traced_once(
    decoding: Decoding, formats: tuple[str, ...], *, with_python: bool = False
) -> Callable[[Tensor], Tensor]:
    # Threads that come at the same time would each trace a decoder of their own.
    with _TRACING:
        return _graph_decoder(decoding, formats, with_python=with_python)


@functools.lru_cache(maxsize=64)
def _graph_decoder(decoding: Decoding, formats: tuple[str, ...], *, with_python: bool) -> Callable[[Tensor], Tensor]:
    """Trace the decoder of some formats, once in a process; that of all takes a second or two."""

    def from_python(content: Tensor) -> Tensor:
        pixels = tf.numpy_function(lambda content: read_image(content, decoding), [content], tf.uint8, stateful=False)
        return tf.ensure_shape(pixels, [None, None, 3])

    decoder = tf.function(
        lambda content: _decode(content, decoding, formats, otherwise=from_python if with_python else None),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    )
    with tf.init_scope():  # Outside of the graph that asks for it first.
        return decoder.get_concrete_function()


def _decode(
    content: Tensor,
    decoding: Decoding,
    formats: tuple[str, ...],
    *,
    otherwise: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    content = require(content, tf.strings.length(content) > 0, EMPTY)
    number = _format_number(content)

    def hand_on_or_refuse() -> tuple[Tensor, Tensor]:
        known = number < len(FORMATS) if otherwise else tf.constant(False)
        reasons = tf.constant([*(_NOT_IN_TENSORFLOW.format(name) for name in FORMATS), NO_IMAGE])
        allowed = require(content, known, reasons[number])
        return (otherwise or _no_pixels)(allowed), tf.constant(-1, tf.int64)

    branches = [functools.partial(_called(_DECODERS[name]), content, decoding) for name in formats]
    branch_of = [formats.index(name) if name in formats else len(branches) for name in (*FORMATS, None)]
    pixels, exif = tf.switch_case(tf.constant(branch_of)[number], [*branches, hand_on_or_refuse])
    return tf.ensure_shape(turn_upright(pixels, read_orientation(content, exif)), [None, None, 3])


def _format_number(content: Tensor) -> Tensor:
    """Find the position in `FORMATS` of a file's format, int32; one beyond the last for no image."""
    expected, counts, formats = signature_table()
    matches = tf.reduce_all((read_bytes(content, 0, HEAD) == expected) | ~counts, axis=-1)
    return tf.cast(tf.reduce_min(tf.where(matches, formats, len(FORMATS))), tf.int32)


def _called(decoder: Callable[[Tensor, Decoding], tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Make the decoder one node of the graph: inlined, every node of all formats would be visited for each image."""
    return tf.function(decoder, autograph=False, experimental_attributes={"_noinline": True})


def _no_pixels(content: Tensor) -> Tensor:
    return tf.zeros([0, 0, 3], tf.uint8) + tf.cast(tf.strings.length(content), tf.uint8)


def _reason(error: tf.errors.OpError) -> str:
    """Extract what TensorFlow's message says of the file, without the names of graph nodes."""
    paragraph = re.split(r"\s*\[\[|\s*\[Op:", error.message or str(error))[0].rsplit("\n\n", 1)[-1]
    paragraph = re.sub(r"\{\{.*?\}\}", "", paragraph).strip()
    if refused := re.fullmatch(r"assertion failed: \[(.*)\]", paragraph, re.DOTALL):
        return refused[1]
    said = paragraph.splitlines()[-1].strip() if paragraph else "no reason is given"
    return f"it is damaged or cut off ({said})"
