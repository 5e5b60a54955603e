"""What a person names when they mean images: a folder, a file that lists paths, an image, or several of these."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from stml_tf.data.formats.signatures import FORMATS
from stml_tf.data.image_files import SUFFIXES, reason_against
from stml_tf.data.sources.folder import load_folder
from stml_tf.errors import UserError

_COLUMNS = ("path", "file", "filename", "filepath", "image", "image_path")
_WHAT_A_LIST_IS = (
    "A list is UTF-8 text with one path a line, relative to the list's own folder; blank lines and lines that begin "
    f"with # are passed over. A CSV file has its paths in a column called {', '.join(_COLUMNS[:-1])} or {_COLUMNS[-1]}."
)


def list_images(source: Path | str | Iterable[Path | str]) -> list[Path]:
    """List images by path without opening them, in order, each once.

    A link and its target are one image, as are hard links and a folder that is reached under two names; of these names
    one that is no link is taken.

    Args:
        source: A folder, whose images are taken at any depth; a text file (UTF-8) with one path a line, relative to
            the file's own folder; a CSV file with a column of paths; an image file, told by its suffix; or any number
            of these.

    Returns:
        Absolute paths. Those that a text file lists need not exist.

    Raises:
        UserError: If there is no such file or folder, or no image in it.
    """
    sources = [source] if isinstance(source, str | Path) else source
    found = dict.fromkeys(absolute(path) for one in sources for path in _images_of(Path(one)))
    if not found:
        raise UserError("no images were given: name a folder, a file that lists paths, or image files")
    return _each_once(found)


def absolute(path: Path | str) -> Path:
    """Return the absolute path, without `..`; a link stays a link, so that an image keeps its given name."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def identity(path: Path | str) -> tuple[int, int] | None:
    """Return what all names of a file have in common; None if there is no file."""
    try:
        stat = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return stat.st_dev, stat.st_ino


def _each_once(paths: Iterable[Path]) -> list[Path]:
    names: dict[object, Path] = {}
    for path in paths:
        key = identity(path) or path
        if key not in names or (_is_link(names[key]) and not _is_link(path)):
            names[key] = path
    return list(names.values())


def _is_link(path: Path) -> bool:
    return os.path.realpath(path) != str(path)


def _images_of(source: Path) -> list[Path]:
    if source.is_dir():
        return list(load_folder(source, train=".", test=None).train.images)
    if source.suffix.lower() in SUFFIXES or reason_against(source) is None:
        return [source]
    if not source.is_file():
        raise UserError(f"there is no {source}: name a folder of images, a file that lists their paths, or an image")
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(
            f"{source} is neither a folder, an image ({', '.join(FORMATS)}) nor a text file that lists paths. "
            f"{_WHAT_A_LIST_IS}"
        )
    paths = list(_listed(text, source))
    if not paths:
        raise UserError(f"{source} lists no images. {_WHAT_A_LIST_IS}")
    if not any(path.exists() for path in paths):
        raise UserError(
            f"none of the {len(paths)} paths that {source} lists is there, such as {paths[0]}. {_WHAT_A_LIST_IS}"
        )
    return paths


def _listed(text: str, source: Path) -> Iterator[Path]:
    lines = text.split("\n")
    separator = next((mark for mark in ",;\t" if mark in lines[0]), ",")
    header = [name.strip().strip('"').lower() for name in lines[0].rstrip("\r").split(separator)]
    column = next((name for name in _COLUMNS if name in header), None)
    if column is not None and not (source.parent / lines[0]).exists():
        rows = csv.reader(text.splitlines(keepends=True)[1:], delimiter=separator)
        position = header.index(column)
        yield from (source.parent / row[position] for row in rows if len(row) > position and row[position])
        return
    for line in lines:
        name = line.rstrip("\r")
        if not name.strip():
            continue
        # A name may begin with # or end with a space; it is taken as it stands where there is such a file.
        if not (source.parent / name).exists():
            name = name.strip()
            if name.startswith("#"):
                continue
            if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
                name = name[1:-1]
        yield source.parent / name
