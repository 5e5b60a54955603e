"""Finds images that are in the training and in the test data: by path, by link, and by content."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from stml_tf.data.image_files import printable
from stml_tf.errors import UserError

_BLOCK = 1 << 20
_NAMED = 5


def find_leaks(train: Sequence[Path], test: Sequence[Path]) -> list[tuple[Path, Path]]:
    """The test images that are training images too, each with the first training image that it is.

    Only files of a size that occurs on both sides are opened. Files that cannot be opened are passed over.
    """
    sizes = _by_size(test)
    candidates = {size: paths for size, paths in _by_size(train).items() if size in sizes}
    first = {_digest(path): path for paths in candidates.values() for path in reversed(paths)}
    order = {path: position for position, path in enumerate(test)}
    leaks = [
        (original, path)
        for size in candidates
        for path in sizes[size]
        if (original := first.get(_digest(path))) is not None
    ]
    return sorted(leaks, key=lambda leak: order[leak[1]])


def refuse_leaks(train: Sequence[Path], test: Sequence[Path]) -> None:
    """Refuse data whose test images are trained on.

    Raises:
        UserError: Some are; the message names the first of them.
    """
    leaks = find_leaks(train, test)
    if not leaks:
        return
    named = "".join(f"\n  {printable(path)} is {printable(original)}" for original, path in leaks[:_NAMED])
    more = f"\n  and {len(leaks) - _NAMED:,} more" if len(leaks) > _NAMED else ""
    raise UserError(
        f"{len(leaks):,} of {len(test):,} test images are training images too, as the same file, by a link or byte for "
        f"byte, so that what is measured would say nothing of new images:{named}{more}\n"
        "Take them out of one of the two, or set data.allow_leaks to true."
    )


def _by_size(paths: Sequence[Path]) -> dict[int, list[Path]]:
    found = defaultdict(list)
    for path in paths:
        try:
            found[path.stat().st_size].append(path)
        except OSError:
            continue
    found.pop(0, None)  # Empty files are alike, and no images.
    return found


def _digest(path: Path) -> bytes | Path:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError:
        return path
    return digest.digest()
