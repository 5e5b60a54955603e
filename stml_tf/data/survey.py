"""What a folder of images is like, told from names and headers alone: how many, how large, how arranged."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image

from stml_tf.data.image_files import find_images
from stml_tf.errors import UserError

_SAMPLE = 200  # Headers that are read; more move the median of their sides by little.


@dataclass(frozen=True)
class Survey:
    """What a folder of images is like.

    Attributes:
        folder: Its absolute path.
        num_images: Images at any depth below it.
        shorter_side: Median of their shorter sides in pixels, of a sample.
        images_per_folder: Where each image is in a folder of its class: how many each class has, in class order.
            Empty where some lie beside the folders.
    """

    folder: Path
    num_images: int
    shorter_side: int
    images_per_folder: tuple[int, ...] = ()


def survey_images(folder: Path) -> Survey:
    """Look at the images below a folder, without decoding any.

    Raises:
        UserError: If there are none, or no image of the sample can be opened.
    """
    # Links stay links, so that images keep the names that they were given.
    folder = folder.absolute()
    images, _ = find_images(folder)
    if not images:
        raise UserError(f"{folder} holds no images: give a folder of photographs, flat or nested")
    sides = _shorter_sides(images[:: max(1, len(images) // _SAMPLE)])
    if not sides:
        raise UserError(f"none of the images in {folder} that were looked at can be opened: are they whole?")
    parts = [path.relative_to(folder).parts for path in images]
    counts = Counter(names[0] for names in parts)
    arranged = all(len(names) > 1 for names in parts)
    per_folder = tuple(counts[name] for name in sorted(counts)) if arranged else ()
    return Survey(folder, len(images), int(median(sides)), per_folder)


def _shorter_sides(paths: Sequence[Path]) -> list[int]:
    sides = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images, which are told of when they are decoded
        for path in paths:
            with contextlib.suppress(OSError, ValueError, Image.DecompressionBombError), Image.open(path) as image:
                sides.append(min(image.size))
    return sides
