"""Decodes the formats that TensorFlow has no decoder for, by the same rule."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from stml_tf.data.formats.reading import MAX_PIXELS
from stml_tf.data.formats.rule import Decoding

_PILLOW_NAMES = {"TIFF": "TIFF", "AVIF": "AVIF", "HEIC": "HEIF", "JPEG 2000": "JPEG2000"}


class RefusedError(ValueError):
    """A file that is not decoded, with the reason."""


def decode_with_pillow(content: bytes, format_name: str, decoding: Decoding) -> np.ndarray:
    """Decode the first picture of a file.

    Args:
        content: The file.
        format_name: One of `PILLOW_FORMATS`.
        decoding: What its pixels become.

    Returns:
        uint8 `[height, width, 3]`: RGB over the background, turned upright.

    Raises:
        RefusedError: If the file is too large, damaged, or of a kind that cannot be read.
    """
    if format_name == "HEIC":
        _register_heic()
    try:
        return _decode(content, format_name, decoding)
    except (RefusedError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise RefusedError(f"its pixels are more than the {MAX_PIXELS:,} allowed") from None
    # Damaged files make Pillow's decoders raise nearly anything: OSError, SyntaxError, EOFError, struct.error.
    except Exception as error:
        raise RefusedError(f"it is damaged or cut off ({str(error) or repr(error)})") from error


def _decode(content: bytes, format_name: str, decoding: Decoding) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=[_PILLOW_NAMES[format_name]]) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise RefusedError(f"{width} x {height} pixels are more than the {MAX_PIXELS:,} allowed")
        if image.mode == "F":
            raise RefusedError("its pixels are floating-point numbers of unknown range: save it with 8 or 16 bits")
        return np.ascontiguousarray(_to_rgb(ImageOps.exif_transpose(image), decoding))


def _to_rgb(image: Image.Image, decoding: Decoding) -> np.ndarray:
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() >= 2**16:
            raise RefusedError("its pixels have more than 16 bits: save it with 8 or 16")
        grey = np.minimum(grey.astype(np.uint16) >> (decoding.bit_depth - 8), 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    pixels = np.asarray(image.convert("RGBA")).astype(np.uint16)
    colors, alpha = pixels[..., :3], pixels[..., 3:]
    blended = colors * alpha + np.array(decoding.background, np.uint16) * (255 - alpha)
    return ((blended + np.uint16(127)) // 255).astype(np.uint8)


def _register_heic() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise RefusedError(
            "it is a HEIC image, which needs a further package: pip install 'stml_tf[heic]', or save it as JPEG"
        ) from None
    register_heif_opener()
