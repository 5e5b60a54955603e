"""What a gallery knows of its images' files, and what has become of them since."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.search.image_list import identity
from stml_tf.search.manifest import FACTS_TYPE

_UNKNOWN = (-1, 0, bytes(32))


@dataclass(frozen=True)
class Stale:
    """Rows of a gallery whose files are no longer what was embedded.

    Attributes:
        changed: Int64: other bytes or another time.
        missing: Int64: there is no file any more.
    """

    changed: np.ndarray
    missing: np.ndarray

    def __len__(self) -> int:
        return len(self.changed) + len(self.missing)


@dataclass(frozen=True)
class Plan:
    """How a gallery gets from one state of the disk to the next.

    Attributes:
        kept: Int64: rows whose embeddings stay.
        paths: Of those, the paths from now on.
        facts: Of those, the facts from now on.
        changed: Paths of images to embed again.
        new: Paths of images to embed.
        moved: How many of the kept have another path.
        dropped: How many rows go because their files are gone.
    """

    kept: np.ndarray
    paths: list[str]
    facts: np.ndarray
    changed: list[Path]
    new: list[Path]
    moved: int
    dropped: int


def file_facts(paths: Sequence[Path | str]) -> np.ndarray:
    """Read size, time and content hash of files, in threads; a file that cannot be read is unknown."""
    facts = np.zeros(len(paths), FACTS_TYPE)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        for row, (size, time, digest) in enumerate(pool.map(_read, paths)):
            facts[row] = (size, time, np.frombuffer(digest, np.uint8))
    return facts


def file_stats(paths: Sequence[Path | str]) -> np.ndarray:
    """Look up size and time of files without opening them; the hash in these facts is zero."""
    facts = np.zeros(len(paths), FACTS_TYPE)
    facts["size"] = -1
    for row, path in enumerate(paths):
        try:
            stat = os.stat(path)  # noqa: PTH116
        except (OSError, ValueError):
            continue
        facts["size"][row], facts["time"][row] = stat.st_size, stat.st_mtime_ns
    return facts


def find_stale(paths: Sequence[str], facts: np.ndarray) -> Stale:
    """Compare what is known of files with what is there, by size and time."""
    now = file_stats(paths)
    known = facts["size"] >= 0
    missing = known & (now["size"] < 0)
    changed = known & ~missing & ((now["size"] != facts["size"]) | (now["time"] != facts["time"]))
    return Stale(np.flatnonzero(changed), np.flatnonzero(missing))


def plan_changes(paths: Sequence[str], facts: np.ndarray, listed: Sequence[Path], *, all_rows: bool) -> Plan:
    """Say what has to be done for a gallery to hold some images as they are now.

    Args:
        paths: Of the gallery.
        facts: Of its files.
        listed: Images that it shall hold, each once.
        all_rows: Also look after images that are not among them: embed the changed ones and drop those that are gone.
    """
    facts = facts.copy()
    positions = {path: row for row, path in enumerate(paths)}
    stale = find_stale(paths, facts)
    missing = set(stale.missing.tolist())
    held = {identity(path): row for row, path in enumerate(paths) if row not in missing}
    new = [path for path in listed if str(path) not in positions and (identity(path) or path) not in held]

    scope = range(len(paths)) if all_rows else {positions[str(path)] for path in listed if str(path) in positions}
    touched = [row for row in stale.changed.tolist() if row in scope]
    now = file_facts([paths[row] for row in touched])
    same = (now["sha256"] == facts["sha256"][touched]).all(axis=1) & (now["size"] >= 0)
    for row, fact, is_same in zip(touched, now, same, strict=True):
        if is_same:
            facts[row] = fact
    changed = [row for row, is_same in zip(touched, same, strict=True) if not is_same]

    moved = _moved(new, facts, sorted(missing))
    for row, (_, fact) in moved.items():
        facts[row] = fact
    there = {path for path, _ in moved.values()}
    dropped = missing - moved.keys() if all_rows else set()
    gone = dropped.union(changed)
    kept = np.array([row for row in range(len(paths)) if row not in gone], np.int64)
    return Plan(
        kept=kept,
        paths=[str(moved[row][0]) if row in moved else paths[row] for row in kept.tolist()],
        facts=facts[kept],
        changed=[Path(paths[row]) for row in changed],
        new=[path for path in new if path not in there],
        moved=len(moved),
        dropped=len(dropped),
    )


def _moved(new: Sequence[Path], facts: np.ndarray, missing: Sequence[int]) -> dict[int, tuple[Path, np.void]]:
    """Find rows whose files are among the new ones under another name: row -> path and facts."""
    waiting: dict[bytes, list[int]] = {}
    for row in reversed(missing):
        waiting.setdefault(facts["sha256"][row].tobytes(), []).append(row)
    sizes = set(facts["size"][list(missing)].tolist())
    alike = [path for path, size in zip(new, file_stats(new)["size"].tolist(), strict=True) if size in sizes]
    moved = {}
    for path, fact in zip(alike, file_facts(alike), strict=True):
        rows = waiting.get(fact["sha256"].tobytes())
        if rows and fact["size"] >= 0:
            moved[rows.pop()] = (path, fact)
    return moved


def require_some(plan: Plan, folder: Path) -> None:
    """Refuse to empty a gallery.

    Args:
        plan: What is about to be done.
        folder: The gallery, for the message.

    Raises:
        UserError: If the plan would leave nothing.
    """
    if not len(plan.kept) and not plan.changed and not plan.new:
        raise UserError(
            f"all {plan.dropped} images of {folder} are gone: is their disk there? Say where they are now with "
            f"`stml-tf update {folder} IMAGES`, or delete the folder"
        )


def preference(paths: Sequence[str], facts: np.ndarray) -> np.ndarray:
    """Order images by which copy to keep: the largest file, then the oldest, then the first by name.

    Args:
        paths: Of the images.
        facts: Of their files; those that are unknown are looked up.

    Returns:
        `[count]`, int64: rows.
    """
    known = np.where((facts["size"] >= 0)[:, None], _sizes_and_times(facts), _sizes_and_times(file_stats(paths)))
    return np.lexsort([paths, known[:, 1], -known[:, 0]])


def _sizes_and_times(facts: np.ndarray) -> np.ndarray:
    return np.stack([facts["size"], facts["time"]], axis=1)


def _read(path: Path | str) -> tuple[int, int, bytes]:
    try:
        with Path(path).open("rb") as stream:
            stat = os.fstat(stream.fileno())
            digest = bytes.fromhex(files.checksum(stream))
    except (OSError, ValueError):
        return _UNKNOWN
    return stat.st_size, stat.st_mtime_ns, digest


def same_content(facts: np.ndarray) -> np.ndarray:
    """Find the first file of the same bytes for each, `[count]` int64; itself if nothing is known of it."""
    first: dict[bytes, int] = {}
    return np.array(
        [
            row if fact["size"] < 0 else first.setdefault(fact["sha256"].tobytes(), row)
            for row, fact in enumerate(facts)
        ],
        np.int64,
    )
