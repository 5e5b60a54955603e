"""Pictures inside a page: made small, and written into it as `data:` addresses."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

LARGE, SMALL = 384, 192
_MOST_LARGE = 120
_PIXELATED = 64
_QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """A picture in a page, and what is said of it.

    Attributes:
        src: Its `data:` address; None where the image cannot be read any more.
        alt: What it shows, for those who cannot see it.
        heading: Stands below it, in bold; may be empty.
        caption: Stands below that: the file's name, as a rule.
        title: Is shown when it is pointed at: the whole path.
        correct: Whether it is of the query's class; None where that is not known.
        tiny: Whether it has so few pixels that each should be seen.
    """

    src: str | None
    alt: str
    heading: str = ""
    caption: str = ""
    title: str = ""
    correct: bool | None = None
    tiny: bool = False


def side_for(count: int) -> int:
    """Return how many pixels the larger side of `count` pictures may have for the page to stay small."""
    return LARGE if count <= _MOST_LARGE else SMALL


def thumbnail(pixels: np.ndarray, *, side: int = SMALL) -> bytes:
    """Make a picture small: the bytes of a JPEG file.

    Args:
        pixels: Uint8 `[height, width, 3]`.
        side: Its larger side at most, in pixels. Small ones are left as they are.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=_QUALITY)
    return content.getvalue()


def data_address(jpeg: bytes) -> str:
    """Return the `data:` address of a JPEG file."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def picture_of_pixels(pixels: np.ndarray, *, alt: str, side: int = SMALL, **said: str | bool | None) -> Picture:
    """Make a `Picture` of pixels, uint8 `[height, width, 3]`; the rest is what `Picture` takes."""
    tiny = max(pixels.shape[:2]) <= _PIXELATED
    return Picture(data_address(thumbnail(pixels, side=side)), alt, tiny=tiny, **said)


def picture_of_file(path: Path, *, alt: str, side: int = SMALL, **said: str | bool | None) -> Picture:
    """Make a `Picture` of a file, named below it; without an address if it cannot be read any more."""
    from stml_tf.data.decoding import UnreadableImageError, read_image  # Loads TensorFlow.

    said = {"caption": path.name, "title": str(path), **said}
    try:
        return picture_of_pixels(read_image(path), alt=alt, side=side, **said)
    except UnreadableImageError:
        return Picture(None, alt, **said)


def sprite(pictures: Sequence[np.ndarray], *, side: int) -> bytes:
    """Lay many pictures out in one JPEG, a square of squares, row by row.

    Args:
        pictures: Each uint8 `[height, width, 3]`.
        side: Of one square, in pixels; pictures are fitted into it.
    """
    columns = columns_of(len(pictures))
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * side, rows * side), (128, 128, 128))
    for place, pixels in enumerate(pictures):
        left, top = place % columns * side, place // columns * side
        image = ImageOps.contain(Image.fromarray(np.ascontiguousarray(pixels)), (side, side))
        whole.paste(image, (left + (side - image.width) // 2, top + (side - image.height) // 2))
    content = io.BytesIO()
    whole.save(content, "JPEG", quality=70)
    return content.getvalue()


def columns_of(count: int) -> int:
    """Return the number of squares in a row of a sprite of `count` pictures."""
    return max(1, int(np.ceil(np.sqrt(count))))
