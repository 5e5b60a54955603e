"""Finds images that look the same: saved again, resized, a little brighter, in another format.

Images are compared as small ones, of which each pixel is the mean of an area. Compression and resizing change such
means by a level or two; another photograph of the same thing changes them by many.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from stml_tf.data.catalog import ImageSet
from stml_tf.data.decoding import UnreadableImageError
from stml_tf.data.loader import pixels_of

SIDE = 16  # of the small images by which pairs are proposed
LARGER_SIDE = 32  # of those by which a proposed pair is judged; a copy may be that small
# How far an image may be from a copy of itself. JPEG of quality 30, WebP of 50 and half the sides stay below it; the
# nearest of 700 photographs of groceries, and of 600 drawings of characters, differ by twice as much and more.
_LEVELS = 3.0  # root mean square, of 255
_SHARE_OF_CONTRAST = 0.1
_CHUNK = 4096

Progress = Callable[[int, int], None]


def near_identical_pairs(
    train: ImageSet, test: ImageSet, *, on_progress: Progress | None = None
) -> list[tuple[int, int]]:
    """Find the test images that look like a training image.

    Two images look the same if their difference, as a root mean square, is at most 3 levels of 255 plus a tenth of the
    test image's standard deviation, at 16 x 16 and at 32 x 32 pixels. An image that is cropped, turned, mirrored
    or recoloured is another image. Images that cannot be decoded are passed over.

    Args:
        train: Images to train on.
        test: Images to measure on.
        on_progress: Called with how many images are decoded, and how many there are.

    Returns:
        Positions (in `train`, in `test`), at most one pair for each test image, in the order of the test images. Byte
        for byte the same images are among them.
    """
    total = len(train) + len(test)
    small_train = _small(train, on_progress and (lambda done: on_progress(done, total)))
    small_test = _small(test, on_progress and (lambda done: on_progress(len(train) + done, total)))
    proposed = nearest_alike(small_train, small_test)
    return [
        (original, copy)
        for copy, original in proposed
        if look_the_same(shrunk(pixels_of(train, original), LARGER_SIDE), shrunk(pixels_of(test, copy), LARGER_SIDE))
    ]


def _small(images: ImageSet, on_progress: Callable[[int], None] | None) -> dict[int, np.ndarray]:
    """Decode the small images, uint8 `[SIDE, SIDE, 3]`, by position, but for those that cannot be decoded."""

    def read(index: int) -> np.ndarray | None:
        try:
            return shrunk(pixels_of(images, index), SIDE)
        except UnreadableImageError:
            return None

    found: dict[int, np.ndarray] = {}
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 16))
    try:
        for index, small in enumerate(pool.map(read, range(len(images)))):
            if small is not None:
                found[index] = small
            if on_progress is not None:
                on_progress(index + 1)
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def nearest_alike(train: dict[int, np.ndarray], test: dict[int, np.ndarray]) -> Iterator[tuple[int, int]]:
    """Find each small test image that looks like its nearest small training image, with it, by position."""
    import faiss

    if not train or not test:
        return
    originals, copies = list(train), list(test)
    gallery = np.stack(list(train.values())).reshape(len(train), -1).astype(np.float32)
    for start in range(0, len(copies), _CHUNK):
        chunk = np.stack([test[copy] for copy in copies[start : start + _CHUNK]])
        _, nearest = faiss.knn(chunk.reshape(len(chunk), -1).astype(np.float32), gallery, 1)
        for copy, small, place in zip(copies[start:], chunk, nearest[:, 0], strict=False):
            if look_the_same(train[originals[place]], small):
                yield copy, originals[place]


def nearest_alike_within(small: dict[int, np.ndarray]) -> Iterator[tuple[int, int]]:
    """Find each small image that looks like one of its two nearest others, with it, by position, the lower one first.

    Of a group of copies every member is in a pair with another one; pairs need not join all of a large group.
    """
    import faiss

    if len(small) < 2:
        return
    positions = list(small)
    gallery = np.stack(list(small.values())).reshape(len(small), -1).astype(np.float32)
    seen = set()
    for start in range(0, len(positions), _CHUNK):
        _, nearest = faiss.knn(gallery[start : start + _CHUNK], gallery, min(3, len(positions)))
        for place, row in enumerate(nearest, start=start):
            for other in row:
                pair = tuple(sorted((positions[place], positions[other])))
                if other != place and pair not in seen and look_the_same(small[pair[0]], small[pair[1]]):
                    seen.add(pair)
                    yield pair


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Shrink an image to uint8 `[side, side, 3]`, whatever its shape; each pixel is the mean of an area."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.BILINEAR))


def look_the_same(original: np.ndarray, copy: np.ndarray) -> bool:
    """Tell whether two small images of one shape differ by no more than saving an image again changes it."""
    difference = original.astype(np.float64) - copy
    return bool(np.sqrt(np.mean(difference**2)) <= _LEVELS + _SHARE_OF_CONTRAST * copy.std())
