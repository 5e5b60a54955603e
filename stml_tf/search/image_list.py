"""What a person names when they mean images: a folder, a file that lists paths, an image, or several of these."""

import os
from collections.abc import Iterable
from pathlib import Path

from stml_tf.data.formats.signatures import FORMATS
from stml_tf.data.image_files import SUFFIXES, reason_against
from stml_tf.data.sources.folder import load_folder


def list_images(source: Path | str | Iterable[Path | str]) -> list[Path]:
    """List images by path without opening them, in order, each once.

    Args:
        source: A folder, whose images are taken at any depth; a text file (UTF-8) with one path a line, relative to
            the file's own folder; an image file, told by its suffix; or any number of these.

    Returns:
        Absolute paths. Those that a text file lists need not exist.

    Raises:
        ValueError: If there is no such file or folder, or no image in it.
    """
    sources = [source] if isinstance(source, str | Path) else source
    found = dict.fromkeys(absolute(path) for one in sources for path in _images_of(Path(one)))
    if not found:
        raise ValueError("no images were given: name a folder, a file that lists paths, or image files")
    return list(found)


def absolute(path: Path | str) -> Path:
    """The path from the root, without `..`; a link stays a link, so that an image keeps the name it was given."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _images_of(source: Path) -> list[Path]:
    if source.is_dir():
        return list(load_folder(source, train=".", test=None).train.images)
    if source.suffix.lower() in SUFFIXES or reason_against(source) is None:
        return [source]
    if not source.is_file():
        raise ValueError(f"there is no {source}: name a folder of images, a file that lists their paths, or an image")
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(
            f"{source} is neither a folder, an image ({', '.join(FORMATS)}) nor a text file that lists paths"
        ) from None
    paths = [source.parent / line for line in lines if line.strip()]
    if not paths:
        raise ValueError(f"{source} lists no images: it has to hold one path a line")
    return paths
