"""Finds images that are in the training and in the test data: by path, by link, and by content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.image_files import Leak, ListedError
from stml_tf.files import checksum

_END = 4096  # Bytes in which files of one size nearly always differ, if they do.

Content = Path | bytes | np.ndarray


def identical_pairs(train: Sequence[Content], test: Sequence[Content]) -> list[tuple[int, int]]:
    """Find the test images that are training images too.

    Files and encoded images are the same if they are byte for byte, images in memory if their pixels are. Images that
    cannot be opened, and empty files, are passed over.

    Args:
        train: Images to train on: files, their content, or pixels.
        test: Images to measure on.

    Returns:
        Positions (in `train`, in `test`) of each such test image and the first training image that it is, in the order
        of the test images.
    """
    trained, tested = list(enumerate(train)), list(enumerate(test))
    # Each key costs more than the one before, and is asked of fewer images.
    for key in (_size, _end):
        of_trained, of_tested = _keys(key, trained), _keys(key, tested)
        both = (set(of_trained) & set(of_tested)) - {None}
        trained = [image for image, found in zip(trained, of_trained, strict=True) if found in both]
        tested = [image for image, found in zip(tested, of_tested, strict=True) if found in both]
    first: dict[Hashable, int] = {}
    for digest, (index, _) in zip(_keys(_digest, trained), trained, strict=True):
        first.setdefault(digest, index)
    found = zip(_keys(_digest, tested), tested, strict=True)
    return [(first[digest], index) for digest, (index, _) in found if digest is not None and digest in first]


def find_leaks(catalog: Catalog) -> tuple[Leak, ...]:
    """Find the images of a catalog's test set and gallery that are training images too, see `identical_pairs`."""
    trained, tested = _of(catalog.train, catalog.unlabeled), _of(catalog.test, catalog.gallery)
    pairs = identical_pairs(*([images.images[index] for images, index in side] for side in (trained, tested)))
    return tuple(Leak(_name(*tested[copy]), _name(*trained[original])) for original, copy in pairs)


class LeaksError(ListedError):
    """Test images are trained on."""

    def __init__(self, leaks: Sequence[Leak], num_tested: int) -> None:
        super().__init__(
            f"{len(leaks):,} of {num_tested:,} test images are training images too, as the same file, by a link or "
            "byte for byte, so that what is measured would say nothing of new images. Take them out of one of the two, "
            "or set data.allow_leaks to true:",
            leaks,
            name="leaks",
        )


def _of(*sets: ImageSet | None) -> list[tuple[ImageSet, int]]:
    return [(images, index) for images in sets if images is not None for index in range(len(images))]


def _name(images: ImageSet, index: int) -> Path:
    image = images.images[index]
    return image if isinstance(image, Path) else Path(images.describe(index))


def _keys(key: Callable[[Content], Hashable], images: list[tuple[int, Content]]) -> list[Hashable]:
    def of(image: tuple[int, Content]) -> Hashable:
        try:
            return key(image[1])
        except OSError:
            return None

    if not any(isinstance(image, Path) for _, image in images):
        return [of(image) for image in images]  # Handing over to a thread takes longer than a key without a file.
    with ThreadPoolExecutor() as pool:
        return list(pool.map(of, images))


def _size(content: Content) -> Hashable:
    if isinstance(content, np.ndarray):
        return content.shape
    return (content.stat().st_size if isinstance(content, Path) else len(content)) or None


def _end(content: Content) -> Hashable:
    if isinstance(content, np.ndarray):
        return content[-1:].tobytes()
    if isinstance(content, bytes):
        return content[-_END:]
    with content.open("rb") as file:
        file.seek(max(0, content.stat().st_size - _END))
        return file.read(_END)


def _digest(content: Content) -> str:
    if isinstance(content, Path):
        return checksum(content)
    return hashlib.sha256(content if isinstance(content, bytes) else content.tobytes()).hexdigest()
