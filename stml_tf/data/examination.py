"""Looks at every image of a set once, and keeps of each what can be told without the others, in a few kilobytes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stml_tf.data.catalog import ImageSet
from stml_tf.data.decoding import UnreadableImageError, read_image
from stml_tf.data.formats.signatures import HEAD, format_of
from stml_tf.data.image_files import Unreadable
from stml_tf.data.image_quality import ImageQuality, measure_quality
from stml_tf.data.near_identical import LARGER_SIDE, SIDE, shrunk

# Images of a set that are looked at; of more, as many from the first to the last. With about 4 KB of each they take
# 200 MB, and every pair of them is compared within minutes.
MAX_EXAMINED = 50_000


@dataclass(frozen=True, eq=False)
class Examination:
    """What is known of the images of a set that were looked at, by position in the set.

    Attributes:
        num_examined: How many images were looked at, readable or not.
        unreadable: Those that cannot be decoded.
        formats: How many there are of each file format.
        digests: Checksums of their content: of a file its bytes, in memory its pixels.
        qualities: What `measure_quality` says of them.
        small: Uint8 `[SIDE, SIDE, 3]`, see `near_identical`.
        larger: Uint8 `[LARGER_SIDE, LARGER_SIDE, 3]`, likewise.
    """

    num_examined: int
    unreadable: list[Unreadable]
    formats: Counter[str]
    digests: dict[int, bytes]
    qualities: dict[int, ImageQuality]
    small: dict[int, np.ndarray]
    larger: dict[int, np.ndarray]


def examine(
    images: ImageSet,
    *,
    most: int = MAX_EXAMINED,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Examination:
    """Read, decode and measure the images of a set, each once; of the pixels a few kilobytes are kept.

    Args:
        images: The set.
        most: How many images to look at; of more, as many from the first to the last.
        workers: How many threads read; None chooses by the number of processors.
        on_progress: Called in this thread with how many images are done, and how many there are to do.
    """
    count = min(len(images), most)
    chosen = np.linspace(0, len(images) - 1, count).astype(np.int64).tolist() if count else []
    done = Examination(count, [], Counter(), {}, {}, {}, {})
    pool = ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 16))
    try:
        for number, (index, seen) in enumerate(zip(chosen, pool.map(lambda i: _look(images, i), chosen), strict=True)):
            if isinstance(seen, Unreadable):
                done.unreadable.append(seen)
            else:
                done.formats[seen.file_format] += 1
                done.digests[index], done.qualities[index] = seen.digest, seen.quality
                done.small[index], done.larger[index] = seen.small, seen.larger
            if on_progress is not None:
                on_progress(number + 1, count)
    finally:
        pool.shutdown(cancel_futures=True)
    return done


@dataclass(frozen=True, eq=False)
class _Seen:
    file_format: str
    digest: bytes
    quality: ImageQuality
    small: np.ndarray
    larger: np.ndarray


def _look(images: ImageSet, index: int) -> _Seen | Unreadable:
    image = images.images[index]
    if isinstance(image, np.ndarray):
        return _measured("in memory", hashlib.sha256(image.tobytes()).digest(), image)
    try:
        content = image if isinstance(image, bytes) else image.read_bytes()
        pixels = read_image(content, images.decoding)
    except UnreadableImageError as error:
        return Unreadable(index, Path(images.describe(index)), error.reason)
    except OSError as error:
        return Unreadable(index, Path(images.describe(index)), error.strerror or str(error))
    return _measured(format_of(content[:HEAD]), hashlib.sha256(content).digest(), pixels)


def _measured(file_format: str, digest: bytes, pixels: np.ndarray) -> _Seen:
    return _Seen(file_format, digest, measure_quality(pixels), shrunk(pixels, SIDE), shrunk(pixels, LARGER_SIDE))
