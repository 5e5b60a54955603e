"""Notices images of 16 bits that use fewer, as cameras of 10 and 12 bits write them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from stml_tf.data.catalog import ImageSet
from stml_tf.data.decoding import UnreadableImageError, read_image
from stml_tf.data.formats.rule import Decoding
from stml_tf.data.formats.signatures import HEAD, format_of

_LOOKED_AT = 64
_NO_BACKGROUND = (0, 0, 0)  # White behind transparency would look like used bits.


def bits_used(images: ImageSet) -> int | None:
    """Count the bits that the brightest pixel of the 16-bit files needs, in up to 64 of them from all over the set.

    Returns:
        8 to 16; None if none of the files or encoded images looked at has 16 bits, or there are none.
    """
    encoded = [image for image in images.images if isinstance(image, Path | bytes)]
    places = np.unique(np.linspace(0, len(encoded) - 1, min(len(encoded), _LOOKED_AT)).astype(int))
    brightest = [_brightest(encoded[place]) for place in places if _has_16_bits(encoded[place])]
    if not brightest or max(brightest) < 0:
        return None
    return 8 + int(max(brightest)).bit_length()


def _brightest(image: Path | bytes) -> int:
    """Return the largest upper byte of all pixels; -1 if the file cannot be read."""
    try:
        return int(read_image(image, Decoding(background=_NO_BACKGROUND)).max())
    except UnreadableImageError:
        return -1


def _has_16_bits(image: Path | bytes) -> bool:
    try:
        with io.BytesIO(image) if isinstance(image, bytes) else image.open("rb") as stream:
            head = stream.read(HEAD)
            if format_of(head) == "PNG":
                return len(head) == HEAD and head[24] == 16
            if format_of(head) != "TIFF":
                return False
            from PIL import Image

            stream.seek(0)
            with Image.open(stream, formats=["TIFF"]) as opened:
                return opened.mode.startswith("I;16")
    except Exception:  # Pillow raises nearly anything over a damaged file; what it is, is told elsewhere.
        return False
