"""Which files below a folder are images to learn from: by their content, and by who put them there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stml_tf.data.formats.signatures import FORMAT_OF_SUFFIX, HEAD, format_of
from stml_tf.errors import UserError

# Files called so are taken for images without being opened; what they hold is seen when they are decoded.
SUFFIXES = frozenset(FORMAT_OF_SUFFIX)
# Raw data of a sensor, mostly in the layout of TIFF, in which a decoder finds a thumbnail at best.
_RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef"}
    | {".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f"}
)
# Thumbnails, old versions and rubbish, in folders that are not hidden. Compared in small letters.
_SYSTEM_FOLDERS = frozenset(
    {"@eadir", "@recycle", "@recently-snapshot", "@sharebin", "@tmp", "#recycle", "#snapshot"}  # storage servers
    | {"$recycle.bin", "recycler", "system volume information", "found.000"}  # Windows
    | {"__macosx", "network trash folder", "temporary items", "lost+found"}  # macOS, Linux
)

HIDDEN = "hidden"
SYSTEM_COPY = "copies that a system keeps"
OWN_OUTPUT = "written by stml-tf"
RAW = "camera raw data (export them as JPEG, PNG or TIFF)"
NO_IMAGE = "no image"
BROKEN = "no file that can be opened"
NAME = "name that is not UTF-8"
_NAMED = 5  # of the images that an error is about


@dataclass(frozen=True)
class LeftOut:
    """A file, or a folder with all that is in it, that is no data, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be decoded: its position in the set, its file, and why."""

    index: int
    path: Path
    reason: str


@dataclass(frozen=True)
class Leak:
    """An image to measure on that is trained on: its file, and that of the training image that it is."""

    path: Path
    original: Path

    @property
    def reason(self) -> str:
        return f"same as {printable(self.original)}"


class ListedError(UserError):
    """An error about images, of which the message names the first few.

    Args:
        message: What is wrong and what to do; ends with a colon.
        images: All of them.
        name: What a file that lists them is called.
    """

    def __init__(self, message: str, images: Sequence[LeftOut | Unreadable | Leak], *, name: str) -> None:
        first = "".join(f"\n  {printable(image.path)}: {image.reason}" for image in images[:_NAMED])
        more = len(images) - _NAMED
        super().__init__(message + first + (f"\n  and {more:,} more" if more > 0 else ""))
        self.images = list(images)
        self.name = name

    @property
    def names_all(self) -> bool:
        """Tell whether the message names all of the images."""
        return len(self.images) <= _NAMED


def find_images(folder: Path) -> tuple[list[Path], list[LeftOut]]:
    """Find the images at any depth below a folder.

    Hidden files, the copies that operating systems and storage servers keep, and the folders that this package wrote
    (runs, galleries, SavedModels) are no data. A file with a common suffix is taken as an image without being opened;
    any other is known by its content.

    Args:
        folder: An existing folder; it is searched whatever its own name.

    Returns:
        The images in sorted order; and what was left out.
    """
    images: list[Path] = []
    left_out: list[LeftOut] = []
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        # A link may lead back to a folder above it.
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        reasons = {name: _reason_against_folder(Path(root, name)) for name in folders}
        left_out += [LeftOut(Path(root, name), reason) for name, reason in reasons.items() if reason]
        folders[:] = sorted(name for name in folders if reasons[name] is None)
        for name in sorted(names):
            path = Path(root, name)
            reason = reason_against(path)
            if reason is None:
                images.append(path)
            else:
                left_out.append(LeftOut(path, reason))
    return sorted(images), left_out


def reason_against(path: Path) -> str | None:
    """Tell why a file is not taken for an image; None if it is."""
    if path.name.startswith("."):
        return HIDDEN
    if not _is_utf8(path.name):
        return NAME
    suffix = path.suffix.lower()
    if suffix in _RAW_SUFFIXES:
        return RAW
    # A pipe would be waited for; a link may lead nowhere.
    if not path.is_file():
        return BROKEN
    if suffix in SUFFIXES:
        return None
    try:
        with path.open("rb") as file:
            return None if format_of(file.read(HEAD)) else NO_IMAGE
    except OSError:
        return BROKEN


def counted(left_out: Iterable[LeftOut | Unreadable | Leak]) -> str:
    """Count what was left out for which reason, the most frequent first, such as `hidden: 12, no image: 3`."""
    counts = Counter(each.reason for each in left_out)
    return ", ".join(f"{reason}: {count:,}" for reason, count in counts.most_common())


def listed(left_out: Iterable[LeftOut | Unreadable | Leak]) -> Iterator[str]:
    """Give a line for each, with its reason, that can be written and printed whatever the name's bytes."""
    for each in left_out:
        yield f"{printable(each.path)}\t{each.reason}"


def printable(path: Path) -> str:
    """Convert a path to text that can be printed, in which bytes that are no UTF-8 are shown as `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _reason_against_folder(folder: Path) -> str | None:
    if folder.name.startswith("."):
        return HIDDEN
    if folder.name.lower() in _SYSTEM_FOLDERS:
        return SYSTEM_COPY
    if _is_own_output(folder):
        return OWN_OUTPUT
    return None if _is_utf8(folder.name) else NAME


def _is_own_output(folder: Path) -> bool:
    """Tell whether a folder holds a run, a gallery or a SavedModel."""
    if (folder / "saved_model.pb").is_file() or (folder / "gallery.json").is_file():
        return True
    if (folder / "run.lock").is_file() and len(list(folder.iterdir())) == 1:  # of the run that is about to begin
        return True
    beside_recipe = ("checkpoints", "tensorboard", "metrics.json", "before_training.npy", "unreadable.txt")
    return (folder / "recipe.json").is_file() and any((folder / name).exists() for name in beside_recipe)


def _is_utf8(name: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in name)
