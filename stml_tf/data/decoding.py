"""Reads image files of any common kind as RGB."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"})
MAX_PIXELS = 89_478_485  # Pillow warns of a decompression bomb from here on.

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")


class UnreadableImageError(ValueError):
    """An image that cannot be decoded; `reason` says why without naming it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot read {name}: {reason}")
        self.reason = reason


def read_image(source: Path | bytes) -> np.ndarray:
    """Decodes one image: JPEG, PNG, BMP, GIF (its first frame) or WebP, whatever its name ends in.

    Greyscale, palette, 1-bit, 16-bit and CMYK images become RGB. An alpha channel is dropped, not blended; transparent
    pixels of a GIF are black. The orientation in the EXIF data is not applied.

    Args:
        source: the file's path, or its content.

    Returns:
        uint8 `[height, width, 3]`, RGB; not necessarily writable.

    Raises:
        UnreadableImageError: a ValueError that names the file and why: it is missing, empty, truncated, no image of
            these formats, or larger than `MAX_PIXELS`.
    """
    name = "an image given as bytes" if isinstance(source, bytes) else str(source)
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        if not content:
            raise UnreadableImageError(name, "it is empty")
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableImageError(name, f"{width} x {height} pixels are more than the {MAX_PIXELS:,} allowed")
            return _to_rgb(image)
    except UnreadableImageError:
        raise
    except Image.UnidentifiedImageError:
        raise UnreadableImageError(name, "it is no JPEG, PNG, BMP, GIF or WebP image") from None
    # Damaged files make the decoders raise nearly anything: OSError, SyntaxError, EOFError, struct.error, IndexError.
    except Exception as error:
        raise UnreadableImageError(name, getattr(error, "strerror", None) or str(error) or repr(error)) from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    # The exported network decodes with TensorFlow, which drops alpha, keeps the high byte of 16 bits, shows the
    # transparent pixels of a GIF as black and ignores the EXIF orientation. Both have to see the same pixels, so none
    # of Pillow's other choices are taken here.
    if image.mode.startswith("I"):
        grey = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)  # Pillow's own conversion clips at 255.
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.format == "GIF":
        rgba = np.asarray(image.convert("RGBA"))
        return np.where(rgba[..., 3:] > 0, rgba[..., :3], np.uint8(0))
    if image.mode == "P":
        image = image.convert("RGBA")  # Straight to RGB, Pillow warns of transparent palettes.
    return np.asarray(image.convert("RGB"))
