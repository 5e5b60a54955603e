"""Finds the images that cannot be decoded before training starts, so that one bad file does not end a long run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.decoding import UnreadableImageError, read_image
from stml_tf.data.image_files import ListedError, Unreadable
from stml_tf.errors import UserError

# Bytes, as many as about 5,500 photographs of 256 x 256 take; those of Stanford Online Products would take tens of GB.
MAX_DECODED = 2**30


@dataclass(frozen=True, eq=False)
class Inspection:
    """What decoding every image showed.

    Attributes:
        unreadable: The images to leave out, in the order of the set.
        decoded: Where they were kept and not too many, the other images, uint8 `[height, width, 3]` each, in the order
            of `leave_out(images, unreadable)`; else None.
        stored: What `store` made of the other images, in the same order.
    """

    unreadable: list[Unreadable]
    decoded: list[np.ndarray] | None
    stored: list[Any] = field(default_factory=list)


def inspect_images(
    images: ImageSet,
    *,
    keep: bool = False,
    max_decoded: int | None = None,
    store: Callable[[np.ndarray], Any] | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Decode every image once. Images in memory are readable as they are.

    Args:
        images: The set to go through.
        keep: Hold on to the decoded images, to train from memory without decoding them again.
        max_decoded: Bytes of decoded images beyond which none are kept; None: any number. Images that are in memory
            already do not count.
        store: Called in this thread with the pixels of each readable image, in the order of the set.
        workers: How many threads decode; None chooses by the number of processors.
        on_progress: Called in this thread with how many images are done, and how many there are.
    """
    if isinstance(images.images, np.ndarray):
        return Inspection(unreadable=[], decoded=list(images.images) if keep else None)

    def read(index: int) -> np.ndarray | Unreadable | None:
        source = images.images[index]
        try:
            pixels = read_image(source, images.decoding)
        except UnreadableImageError as error:
            # Encoded images have no file; their place in the set has to do.
            path = source if isinstance(source, Path) else Path(images.describe(index))
            return Unreadable(index, path, error.reason)
        return pixels if keep or store is not None else None

    unreadable, decoded, decoded_bytes, stored = [], [], 0, []
    pool = ThreadPoolExecutor(workers)
    try:
        for index, result in enumerate(pool.map(read, range(len(images)))):
            if isinstance(result, Unreadable):
                unreadable.append(result)
            elif store is not None:
                stored.append(store(result))
            elif result is not None and keep:
                decoded.append(result)
                decoded_bytes += result.nbytes
                keep = max_decoded is None or decoded_bytes <= max_decoded
                if not keep:
                    decoded.clear()
            if on_progress is not None:
                on_progress(index + 1, len(images))
    except MemoryError as error:
        raise UserError(
            f"Memory ran out while images were decoded, which says nothing about the images ({error}): close other "
            "programs, or keep fewer images in memory (training.cache)"
        ) from error
    finally:
        # An interrupted run ends now, not after the last image.
        pool.shutdown(cancel_futures=True)
    return Inspection(unreadable, decoded if keep else None, stored)


def find_unreadable(
    images: ImageSet, *, workers: int | None = None, on_progress: Callable[[int, int], None] | None = None
) -> list[Unreadable]:
    """Find the images that cannot be decoded, see `inspect_images`."""
    return inspect_images(images, workers=workers, on_progress=on_progress).unreadable


class TooManyUnreadableError(ListedError):
    """More images cannot be decoded than may be left out."""

    def __init__(self, unreadable: Sequence[Unreadable], count: int, max_share: float) -> None:
        super().__init__(
            f"{len(unreadable):,} of {count:,} images cannot be read; at most {max_share:.3g} of them may be left out. "
            "Repair or remove these files, or raise data.max_unreadable:",
            unreadable,
            name="unreadable",
        )


def leave_out(images: ImageSet, unreadable: Sequence[Unreadable], *, max_share: float = 0.01) -> ImageSet:
    """Return the images without the unreadable ones, in the same order.

    Raises:
        TooManyUnreadableError: If more than `max_share` of the images are unreadable, or all are: then the data is
            probably not what was meant.
    """
    if not unreadable:
        return images
    if len(unreadable) > max_share * len(images) or len(unreadable) == len(images):
        raise TooManyUnreadableError(unreadable, len(images), max_share)
    return images.take(np.delete(np.arange(len(images)), [bad.index for bad in unreadable]))


def readable_test_set(
    catalog: Catalog, *, on_progress: Callable[[int, int], None] | None = None
) -> tuple[ImageSet | None, int | None, list[Unreadable]]:
    """Return what `Catalog.test_set` does, without the images that cannot be decoded, and these.

    Training leaves out the same ones, so that a later measurement is of the same images.

    Raises:
        TooManyUnreadableError: If more of them cannot be read than the catalog allows.
    """
    unreadable: list[Unreadable] = []

    def readable(images: ImageSet | None) -> ImageSet | None:
        if images is None:
            return None
        found = find_unreadable(images, on_progress=on_progress)
        unreadable.extend(found)
        return leave_out(images, found, max_share=catalog.max_unreadable)

    whole = replace(catalog, test=readable(catalog.test), gallery=readable(catalog.gallery))
    return *whole.test_set(), unreadable


def readable_catalog(
    catalog: Catalog,
    *,
    cache: Callable[..., tuple[ImageSet, list[Unreadable]]] | None = None,
    max_decoded: int = MAX_DECODED,
    progress: Callable[[int], AbstractContextManager[Callable[[int, int], None] | None]] = lambda _: nullcontext(),
) -> tuple[Catalog, list[Unreadable]]:
    """Return the images of a catalog that can be decoded, and those that cannot and are left out.

    Test images and gallery, which are looked at again and again, come decoded where there is room: each of the two that
    does not fit stays as it is, and is decoded every time it is looked at.

    Args:
        catalog: What to go through.
        cache: How training images are kept decoded, such as `cache_in_memory` with its `shorter_side`; None: they stay
            as they are.
        max_decoded: Bytes of decoded images that test images and gallery may take together.
        progress: From how many images a set has to a context that gives what `inspect_images` calls.

    Raises:
        UserError: If more of a set cannot be read than `leave_out` allows.
    """
    unreadable: list[Unreadable] = []

    def readable(images: ImageSet | None, *, keep: bool, room: int | None = None) -> ImageSet | None:
        if images is None:
            return None
        with progress(len(images)) as on_progress:
            found = inspect_images(images, keep=keep, max_decoded=room, on_progress=on_progress)
        unreadable.extend(found.unreadable)
        left = leave_out(images, found.unreadable, max_share=catalog.max_unreadable)
        return left if found.decoded is None else left.with_pixels(found.decoded)

    def readable_training(images: ImageSet | None) -> ImageSet | None:
        if images is None or cache is None or isinstance(images.images, np.ndarray):
            return readable(images, keep=False)
        with progress(len(images)) as on_progress:
            left, bad = cache(images, max_unreadable=catalog.max_unreadable, on_progress=on_progress)
        unreadable.extend(bad)
        return left

    train, unlabeled = readable_training(catalog.train), readable_training(catalog.unlabeled)
    test = readable(catalog.test, keep=True, room=max_decoded)
    gallery = readable(catalog.gallery, keep=True, room=max_decoded - _decoded_bytes(test))
    return replace(catalog, train=train, test=test, gallery=gallery, unlabeled=unlabeled), unreadable


def _decoded_bytes(images: ImageSet | None) -> int:
    return sum(image.nbytes for image in images.images if isinstance(image, np.ndarray)) if images else 0
