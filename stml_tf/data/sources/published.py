"""Data sets as they are published: found on disk as a folder or an archive, and refused where they are not whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.sources.archives import extract
from stml_tf.errors import UserError


@dataclass(frozen=True)
class Publication:
    """What a published data set is called, how it looks on disk, how large it is and where it comes from.

    Args:
        title: Its name.
        folder: The folder that people keep it in; it may also lie in the data folder itself.
        parts: The files and folders that are needed, each with the places it may have in the folder.
        archives: The archives that may lie in the folder instead, each with what it holds.
        advice: A sentence or two that say where to get it and where to put it.
        counts: How many images and classes the field's split has, see `count`.
    """

    title: str
    folder: str
    parts: tuple[tuple[str, ...], ...]
    archives: Mapping[str, str]
    advice: str
    counts: Mapping[str, int]

    def find(self, data_dir: Path | None) -> list[Path]:
        """Find where the parts lie, extracting an archive if that is what is there.

        Args:
            data_dir: The data set's folder, the folder above it, or a downloaded archive.

        Returns:
            The path of each part, in the order of `parts`.

        Raises:
            UserError: If a part is missing; the message says where to get the data set and where to put it.
        """
        if data_dir is None:
            raise UserError(f"{self.title} is read from disk: say where with --data-dir DIR. {self.advice}")
        if data_dir.is_file():
            data_dir = self.folder_of(data_dir)
        roots = (data_dir, data_dir / self.folder)
        for root in roots:
            # An archive may lie about beside what was extracted from it, elsewhere.
            if None not in self._parts_in(root):
                return self._parts_in(root)
            for archive, held in self.archives.items():
                if (root / archive).is_file():
                    extract(root / archive, held)
            if None not in self._parts_in(root):
                return self._parts_in(root)
        nearest = min(roots, key=lambda root: self._parts_in(root).count(None))
        lacking = [places[0] for places, path in zip(self.parts, self._parts_in(nearest), strict=True) if path is None]
        raise UserError(f"{self.title} is not in {data_dir}: {nearest} lacks {', '.join(lacking)}. {self.advice}")

    def folder_of(self, archive: Path) -> Path:
        """Find the data folder that a downloaded archive lies in.

        Raises:
            UserError: If it is no archive of this data set.
        """
        for name in self.archives:
            parts = Path(name).parts
            if archive.absolute().parts[-len(parts) :] == parts:
                return archive.absolute().parents[len(parts) - 1]
        names = " or ".join(dict.fromkeys(Path(name).name for name in self.archives))
        raise UserError(
            f"{archive} is no archive of {self.title}: give {names}, under the name that it is published by, or a "
            f"folder. {self.advice}"
        )

    def is_in(self, data_dir: Path | None) -> bool:
        """Tell whether `data_dir` holds the data set's first part or an archive of it, complete or not."""
        if data_dir is None:
            return False
        names = (*self.archives, *self.parts[0])
        return any((root / name).exists() for root in (data_dir, data_dir / self.folder) for name in names)

    def _parts_in(self, root: Path) -> list[Path | None]:
        paths = ([root / place for place in places if (root / place).exists()] for places in self.parts)
        return [next(iter(found), None) for found in paths]


def refuse_incomplete(catalog: Catalog, expected: Mapping[str, int], *, origin: str) -> Catalog:
    """Return the catalog as it is, if it has as many images and classes as expected and every listed file is there.

    Args:
        catalog: What was found.
        expected: How many there have to be, keyed as what `count` returns; what is not named may be any number.
        origin: Where the catalog was read from, for the message.

    Raises:
        UserError: If something is short or in excess.
    """
    found = count(catalog)
    wrong = [
        f"{number:,} {what} expected, {found.get(what, 0):,} found"
        for what, number in expected.items()
        if found.get(what, 0) != number
    ]
    if not wrong:
        return catalog
    absent = next((path for images in _sets(catalog).values() for path in images.images if not _is_there(path)), None)
    example = f"; {absent} is missing" if absent else ""
    raise UserError(
        f"{catalog.name} in {origin} is not whole: {'; '.join(wrong)}{example}. Remove what is there, and extract or "
        "download it again."
    )


def count(catalog: Catalog) -> dict[str, int]:
    """Count images and their classes, by "training images", "training classes", "test images" ..."""
    counts = {}
    for name, images in _sets(catalog).items():
        counts[f"{name} images"] = sum(map(_is_there, images.images))
        counts[f"{name} classes"] = len(np.unique(images.labels))
    return counts


def read_rows(path: Path, *, columns: int, skip: int = 0) -> list[list[str]]:
    """Read the words of each line of a text file, the last of which may hold spaces.

    Args:
        path: The file.
        columns: Words in a line.
        skip: Lines at the beginning that are no rows.

    Raises:
        UserError: If a line has fewer words.
    """
    rows = [line.split(maxsplit=columns - 1) for line in path.read_text(encoding="utf-8").splitlines()[skip:]]
    for number, row in enumerate(rows, start=skip + 1):
        if len(row) != columns:
            raise UserError(
                f"{path}, line {number}: {' '.join(row)!r} found, {columns} words expected; the file is damaged, so "
                "extract or download it again"
            )
    return rows


def by_class(images: Sequence[Path], classes: Sequence[str]) -> ImageSet:
    """Make a set of images with the names of their classes, which are put in sorted order."""
    class_names, labels = np.unique(np.asarray(classes, dtype=str), return_inverse=True)
    return ImageSet(images, labels.astype(np.int64), tuple(class_names.tolist()))


def _sets(catalog: Catalog) -> dict[str, ImageSet]:
    sets = {"training": catalog.train, "test": catalog.test, "gallery": catalog.gallery}
    return {name: images for name, images in sets.items() if images is not None}


def _is_there(image: Path | bytes | np.ndarray) -> bool:
    return image.is_file() if isinstance(image, Path) else True
