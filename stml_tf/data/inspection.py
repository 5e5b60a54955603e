"""Finds the images that cannot be decoded before training starts, so that one bad file does not end a long run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stml_tf.data.catalog import ImageSet
from stml_tf.data.decoding import UnreadableImageError, read_image


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be decoded: its position in the set, its file, and why."""

    index: int
    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Inspection:
    """What decoding every image showed.

    Attributes:
        unreadable: the images to leave out, in the order of the set.
        decoded: where they were kept, the other images, uint8 `[height, width, 3]` each, in the order of
            `leave_out(images, unreadable)`; else None.
    """

    unreadable: list[Unreadable]
    decoded: list[np.ndarray] | None


def inspect_images(
    images: ImageSet,
    *,
    keep: bool = False,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Decodes every image once. Images in memory are readable as they are.

    Args:
        images: the set to go through.
        keep: hold on to the decoded images, to train from memory without decoding them again.
        workers: how many threads decode; None chooses by the number of processors.
        on_progress: called in this thread with how many images are done, and how many there are.
    """
    if isinstance(images.images, np.ndarray):
        return Inspection(unreadable=[], decoded=list(images.images) if keep else None)

    def read(index: int) -> np.ndarray | Unreadable | None:
        source = images.images[index]
        try:
            pixels = read_image(source)
        except UnreadableImageError as error:
            # Encoded images have no file; their place in the set has to do.
            path = source if isinstance(source, Path) else Path(images.describe(index))
            return Unreadable(index, path, error.reason)
        return pixels if keep else None

    unreadable, decoded = [], []
    pool = ThreadPoolExecutor(workers)
    try:
        for index, result in enumerate(pool.map(read, range(len(images)))):
            if isinstance(result, Unreadable):
                unreadable.append(result)
            elif keep:
                decoded.append(result)
            if on_progress is not None:
                on_progress(index + 1, len(images))
    finally:
        # An interrupted run ends now, not after the last image.
        pool.shutdown(cancel_futures=True)
    return Inspection(unreadable, decoded if keep else None)


def find_unreadable(
    images: ImageSet, *, workers: int | None = None, on_progress: Callable[[int, int], None] | None = None
) -> list[Unreadable]:
    """The images that cannot be decoded, see `inspect_images`."""
    return inspect_images(images, workers=workers, on_progress=on_progress).unreadable


def leave_out(images: ImageSet, unreadable: Sequence[Unreadable], *, max_share: float = 0.01) -> ImageSet:
    """The images without the unreadable ones, in the same order.

    Raises:
        ValueError: more than `max_share` of the images are unreadable, or all are: then the data is probably not what
            was meant.
    """
    if not unreadable:
        return images
    if len(unreadable) > max_share * len(images) or len(unreadable) == len(images):
        listed = "".join(f"\n  {bad.path}: {bad.reason}" for bad in unreadable[:5])
        more = f"\n  and {len(unreadable) - 5} more" if len(unreadable) > 5 else ""
        raise ValueError(
            f"{len(unreadable)} of {len(images)} images cannot be read; at most {max_share:.3g} of them may be left "
            f"out. Repair or remove these files:{listed}{more}"
        )
    return images.take(np.delete(np.arange(len(images)), [bad.index for bad in unreadable]))
