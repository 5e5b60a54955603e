"""Which images a run is made with, by name, class and content, so that they can be compared when it goes on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.files import checksum

# Of each set, "names", "classes" and "digests", side by side.
Fingerprint = dict[str, dict[str, list[str | None]]]
Progress = Callable[[int], AbstractContextManager[Callable[[int, int], None] | None]]

_SETS = {"train": "training", "unlabeled": "unlabelled", "test": "test", "gallery": "gallery"}
_NAMED = 3  # of the images that differ


def fingerprint(catalog: Catalog, *, progress: Progress = lambda _: nullcontext()) -> Fingerprint:
    """Read every image once, to tell a catalog from another one.

    Args:
        catalog: What a run is made with, before any image is left out.
        progress: From how many images a set has to a context that gives a function of how many are done, and how many
            there are.

    Returns:
        For each set of the catalog what its images are called, from their common folder on, so that the data may lie
        elsewhere the next time; their classes, or None; and the checksums of their content.
    """
    sets = {name: getattr(catalog, name) for name in _SETS if getattr(catalog, name) is not None}
    return {name: _columns(images, progress) for name, images in sets.items()}


def differences(before: Fingerprint, now: Fingerprint) -> list[str]:
    """Name what differs, in a line for each set; no line if the images are the same."""
    lines = []
    for name, title in _SETS.items():
        nothing = {"names": [], "classes": [], "digests": []}
        told = _differences(before.get(name, nothing), now.get(name, nothing))
        if told:
            lines.append(f"{title} images: {', '.join(told)}")
    return lines


def class_names_checksum(images: ImageSet | None) -> str | None:
    """Compute what tells the classes of a set from those of another, from their names alone; None without classes."""
    if images is None or images.labels is None:
        return None
    return names_checksum([images.class_names[label] for label in np.unique(images.labels)])


def names_checksum(names: Sequence[str]) -> str:
    """Compute the SHA-256, in hexadecimal, of a set of names."""
    return hashlib.sha256("\0".join(sorted(set(names))).encode("utf-8", "surrogatepass")).hexdigest()


def _columns(images: ImageSet, progress: Progress) -> dict[str, list[str | None]]:
    digests = []
    in_files = any(isinstance(image, Path) for image in images.images)
    with ThreadPoolExecutor() as pool, progress(len(images)) as on_progress:
        # Handing an image in memory to a thread takes longer than hashing it.
        for digest in (pool.map if in_files else map)(_digest, images.images):
            digests.append(digest)
            if on_progress is not None:
                on_progress(len(digests), len(images))
    known = images.labels is not None
    classes = [images.class_names[label] for label in images.labels] if known else [None] * len(images)
    return {"names": _names(images), "classes": classes, "digests": digests}


def _names(images: ImageSet) -> list[str]:
    if not len(images) or not isinstance(images.images[0], Path):
        return [images.describe(index) for index in range(len(images))]
    absolute = [os.path.abspath(path) for path in images.images]  # noqa: PTH100 (pathlib would resolve links)
    common = os.path.commonpath({os.path.dirname(path) for path in absolute})  # noqa: PTH120
    return [os.path.relpath(path, common) for path in absolute]


def _digest(image: Path | bytes | np.ndarray) -> str | None:
    if isinstance(image, Path):
        try:
            return checksum(image)
        except OSError:  # Whoever decodes the images says so.
            return None
    content = image if isinstance(image, bytes) else repr(image.shape).encode() + image.tobytes()
    return hashlib.sha256(content).hexdigest()


def _differences(before: dict[str, list[str | None]], now: dict[str, list[str | None]]) -> list[str]:
    if before == now:
        return []
    old, new = (
        {name: (kind, digest) for name, kind, digest in zip(*columns.values(), strict=True)}
        for columns in (before, now)
    )
    removed, added = [name for name in old if name not in new], [name for name in new if name not in old]
    at = {new[name][1]: name for name in added}
    renamed = [(name, at[old[name][1]]) for name in removed if old[name][1] in at]
    gone, come = {name for name, _ in renamed}, {name for _, name in renamed}
    kept = [name for name in old if name in new]
    told = {
        "removed": [name for name in removed if name not in gone],
        "added": [name for name in added if name not in come],
        "renamed": [f"{name} to {other}" for name, other in renamed],
        "changed": [name for name in kept if old[name][1] != new[name][1]],
        "of another class": [
            f"{name}: {new[name][0]}, not {old[name][0]}" for name in kept if old[name][0] != new[name][0]
        ],
    }
    lines = [f"{len(names)} {what} ({_some(names)})" for what, names in told.items() if names]
    return lines or ["the same ones in another order"]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
