"""A dataset of one's own: image files in folders."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from stml_tf.data.catalog import Catalog, ImageSet, split_classes
from stml_tf.data.decoding import SUFFIXES

_LABELLED_LAYOUT = "expected one folder a class, such as red-shoes/photo1.jpg and blue-hats/photo2.jpg"


def load_folder(
    data_dir: Path,
    *,
    train: str = "train",
    test: str | None = "test",
    train_classes: float | int | None = None,
    train_labels: bool = False,
    unlabeled: str | None = None,
) -> Catalog:
    """Lists the images to train on and those to evaluate on, without opening any.

    A folder of classes holds one folder a class; images deeper inside it belong to that class. Hidden files and
    folders, and files whose suffix is not in `SUFFIXES`, are passed over. Everything is in sorted order.

    Args:
        data_dir: what the other two folders are relative to.
        train: the images to train on, in a folder of any shape; a folder of classes if `train_classes` or
            `train_labels` is given.
        test: a folder of classes to evaluate on; None if there is none.
        train_classes: splits `train` by class instead, into this share (float) or count (int) of its classes to train
            and the rest to test, see `split_classes`. Then `test` has to be None.
        train_labels: take the classes of the training images too. They are known with `train_classes` anyway.
        unlabeled: further images to train on, without classes, in a folder of any shape; None if there are none.

    Returns:
        A catalog of file paths, named after `data_dir`.

    Raises:
        ValueError: a folder is missing, holds no images or is not laid out as it has to be; the test images would be
            trained on; or `train_classes` and `test` are both given.
    """
    name = data_dir.resolve().name
    if not data_dir.is_dir():
        raise ValueError(f"there is no data folder {data_dir}; give an existing one that holds {train!r}")
    if train_classes is not None:
        if test is not None:
            raise ValueError(
                f"train_classes is {train_classes} and test is {test!r}, but the test images come from either the "
                "classes that do not train or from a folder of their own: set one of the two to null"
            )
        train_images, test_images = split_classes(_labelled_images(data_dir / train), train_classes)
    else:
        if test is not None:
            _refuse_overlap(data_dir / train, data_dir / test)
        train_images = _labelled_images(data_dir / train) if train_labels else _unlabelled_images(data_dir / train)
        test_images = None if test is None else _labelled_images(data_dir / test)
    if unlabeled is None:
        return Catalog(name, train_images, test_images)
    if test_images is not None:
        _refuse_overlap(data_dir / unlabeled, data_dir / (test or train))
    return Catalog(name, train_images, test_images, unlabeled=_unlabelled_images(data_dir / unlabeled))


def _refuse_overlap(train: Path, test: Path) -> None:
    inner, outer = test.resolve(), train.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise ValueError(
            f"the training folder {train} and the test folder {test} overlap, so test images would be trained on; "
            "put them side by side, or use train_classes to split one folder by class"
        )


def _unlabelled_images(folder: Path) -> ImageSet:
    images = _images_below(_existing(folder))
    if not images:
        raise ValueError(f"no images in {folder}: expected {_list_suffixes()}, found {_summary(folder)}")
    return ImageSet(images)


def _labelled_images(folder: Path) -> ImageSet:
    entries = [entry for entry in _existing(folder).iterdir() if not entry.name.startswith(".")]
    strays = sorted(entry.name for entry in entries if _is_image(entry))
    if strays:
        raise ValueError(
            f"{folder} holds {len(strays)} images outside of any class, such as {strays[0]}; {_LABELLED_LAYOUT}: "
            "move them into their class's folder, or away"
        )
    by_class = {entry.name: _images_below(entry) for entry in sorted(entries) if entry.is_dir()}
    by_class = {name: images for name, images in by_class.items() if images}
    if len(by_class) < 2:
        only = f" (only {next(iter(by_class))})" if by_class else ""
        raise ValueError(
            f"{folder} holds images of {len(by_class)} classes{only}, and retrieval needs at least two; "
            f"{_LABELLED_LAYOUT}, images being {_list_suffixes()}; found {_summary(folder)}"
        )
    counts = [len(images) for images in by_class.values()]
    return ImageSet(
        images=[image for images in by_class.values() for image in images],
        labels=np.repeat(np.arange(len(counts), dtype=np.int64), counts),
        class_names=tuple(by_class),
    )


def _existing(folder: Path) -> Path:
    if folder.is_dir():
        return folder
    beside = sorted(entry.name for entry in folder.parent.iterdir() if entry.is_dir()) if folder.parent.is_dir() else []
    nearby = f"{folder.parent} holds the folders {_shortened(beside)}" if beside else f"{folder.parent} has no folders"
    raise ValueError(f"there is no folder {folder}; {nearby}: name the right one in the recipe's data")


def _files_below(folder: Path) -> list[Path]:
    files = []
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        # A link may lead back to a folder above it.
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            files += [Path(root, name) for name in names if not name.startswith(".")]
        seen.add(real)
    return sorted(files)


def _images_below(folder: Path) -> list[Path]:
    return [file for file in _files_below(folder) if file.suffix.lower() in SUFFIXES]


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def _list_suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))


def _summary(folder: Path) -> str:
    """What lies below a folder, for an error: how many files of which suffix."""
    counts = Counter(file.suffix.lower() or "no suffix" for file in _files_below(folder))
    return ", ".join(f"{count} x {suffix}" for suffix, count in counts.most_common(5)) or "no files at all"


def _shortened(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
