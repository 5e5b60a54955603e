"""Keeps training images decoded, at the size that their views need, in memory or on disk.

A random crop covers at least a known share of an image, so an image of which the smallest crop still has as many pixels
as the view loses nothing that a view could show. Larger ones are reduced to that once, in place of each time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from filelock import FileLock

from stml_tf.data.catalog import ImageSet
from stml_tf.data.image_files import Unreadable
from stml_tf.data.inspection import inspect_images, leave_out
from stml_tf.data.resizing import resize
from stml_tf.files import DamagedError, checksum, delete_whole, publish, read_json, work_folder, write_json

MAX_MEMORY = 8 * 2**30  # Bytes; the images beyond it are decoded each time they are looked at.
MAX_DISK = 64 * 2**30

Progress = Callable[[int, int], None]


def sufficient_side(view_size: int, crop_scale: float) -> int:
    """Return how long an image's shorter side must be for a crop of that share of it to be as large as the view."""
    return math.ceil(view_size / math.sqrt(crop_scale))


def shrink(pixels: np.ndarray, shorter_side: int) -> np.ndarray:
    """Reduce an image, uint8 `[height, width, 3]`, to a shorter side; leave a smaller one as it is."""
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    if shorter <= shorter_side:
        return pixels
    size = (round(height * shorter_side / shorter), round(width * shorter_side / shorter))
    return tf.cast(tf.round(resize(pixels, size)), tf.uint8).numpy()


def cache_in_memory(
    images: ImageSet,
    *,
    shorter_side: int,
    max_unreadable: float = 0.01,
    max_bytes: int = MAX_MEMORY,
    on_progress: Progress | None = None,
) -> tuple[ImageSet, list[Unreadable]]:
    """Decode as many images as fit, and leave the others as they are.

    Args:
        images: Files or encoded images.
        shorter_side: See `sufficient_side`.
        max_unreadable: Share of the images that may be left out because they cannot be decoded.
        max_bytes: What the decoded images may take.
        on_progress: Called with how many images are done, and how many there are.

    Returns:
        The readable images, and the others.

    Raises:
        TooManyUnreadableError: If more cannot be decoded than is allowed.
    """
    used = 0

    def keep(pixels: np.ndarray) -> np.ndarray | None:
        nonlocal used
        pixels = shrink(pixels, shorter_side)
        if used + pixels.nbytes > max_bytes:
            return None
        used += pixels.nbytes
        return pixels

    found = inspect_images(images, store=keep, on_progress=on_progress)
    left = leave_out(images, found.unreadable, max_share=max_unreadable)
    return _with_stored(left, found.stored), found.unreadable


def cache_on_disk(
    images: ImageSet,
    *,
    shorter_side: int,
    max_unreadable: float = 0.01,
    max_bytes: int = MAX_DISK,
    root: Path | None = None,
    on_progress: Progress | None = None,
) -> tuple[ImageSet, list[Unreadable]]:
    """Decode as many images as fit into a file that is mapped into memory, or find the file of an earlier run.

    The file is known by what the images are (paths, sizes, times of change) and by how they are decoded. Several
    processes share it: the first makes it, the others wait. It is put in place when it is whole. One that is
    found is compared with its checksum, and made anew if it is damaged.

    Args:
        images: Image files.
        shorter_side: See `sufficient_side`.
        max_unreadable: Share of the images that may be left out because they cannot be decoded.
        max_bytes: What the file may take.
        root: Folder of the caches; `stml-tf/images` in `$XDG_CACHE_HOME`, or else in `~/.cache`.
        on_progress: Called with how many images are done, and how many there are.

    Returns:
        The readable images, and the others.

    Raises:
        TooManyUnreadableError: If more cannot be decoded than is allowed.
    """
    root = root or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stml-tf" / "images"
    root.mkdir(parents=True, exist_ok=True)
    folder = root / _identity(images, shorter_side, max_bytes)
    with FileLock(folder.with_suffix(".lock")):
        if folder.is_dir() and not _is_whole(folder):
            delete_whole(folder, ["pixels", "index.json"])
        if not folder.is_dir():
            with work_folder(folder) as work:
                _write(work / "cache", images, shorter_side, max_bytes, on_progress)
                publish(work / "cache", folder)
    index = read_json(folder / "index.json")
    unreadable = [Unreadable(position, _source(images, position), reason) for position, reason in index["unreadable"]]
    left = leave_out(images, unreadable, max_share=max_unreadable)
    pixels = np.memmap(folder / "pixels", np.uint8, "r") if (folder / "pixels").stat().st_size else None
    stored = [
        place and pixels[place[0] : place[0] + place[1] * place[2] * 3].reshape(place[1], place[2], 3)
        for place in index["places"]
    ]
    return _with_stored(left, stored), unreadable


def _write(folder: Path, images: ImageSet, shorter_side: int, max_bytes: int, on_progress: Progress | None) -> None:
    folder.mkdir()
    with (folder / "pixels").open("wb") as file:

        def keep(pixels: np.ndarray) -> list[int] | None:
            pixels = shrink(pixels, shorter_side)
            start = file.tell()
            if start + pixels.nbytes > max_bytes:
                return None
            file.write(np.ascontiguousarray(pixels).data)
            return [start, *pixels.shape[:2]]

        found = inspect_images(images, store=keep, on_progress=on_progress)
    unreadable = [[bad.index, bad.reason] for bad in found.unreadable]
    index = {"places": found.stored, "unreadable": unreadable, "checksum": checksum(folder / "pixels")}
    write_json(folder / "index.json", index)


def _is_whole(folder: Path) -> bool:
    try:
        return read_json(folder / "index.json").get("checksum") == checksum(folder / "pixels")
    except (DamagedError, OSError):
        return False


def _with_stored(images: ImageSet, stored: list[np.ndarray | None]) -> ImageSet:
    """Return the readable images, each as it was stored or, where it was not, as it is."""
    kept = [image if pixels is None else pixels for image, pixels in zip(images.images, stored, strict=True)]
    return images.with_pixels(kept)


def _identity(images: ImageSet, shorter_side: int, max_bytes: int) -> str:
    decoding = images.decoding
    digest = hashlib.sha256(json.dumps([shorter_side, max_bytes, decoding.background, decoding.bit_depth]).encode())
    for image in images.images:
        if isinstance(image, Path):
            stat = image.stat()
            digest.update(os.fsencode(image.absolute()) + f"\0{stat.st_size} {stat.st_mtime_ns}\0".encode())
        else:
            digest.update(image)
    return digest.hexdigest()[:32]


def _source(images: ImageSet, index: int) -> Path:
    image = images.images[index]
    return image if isinstance(image, Path) else Path(images.describe(index))
