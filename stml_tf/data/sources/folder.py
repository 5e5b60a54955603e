"""A dataset of one's own: image files in folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stml_tf.data.catalog import Catalog, ImageSet, split_classes
from stml_tf.data.formats.signatures import FORMATS
from stml_tf.data.image_files import LeftOut, counted, find_images
from stml_tf.errors import UserError

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
    """List the images to train on and those to evaluate on, without decoding any.

    A folder of classes holds one folder a class; images deeper inside it belong to that class. What counts as an image
    is said by `find_images`. Everything is in sorted order.

    Args:
        data_dir: What the other two folders are relative to.
        train: The images to train on, in a folder of any shape; a folder of classes if `train_classes` or
            `train_labels` is given.
        test: A folder of classes to evaluate on; None if there is none.
        train_classes: Splits `train` by class instead, into this share (float) or count (int) of its classes to train
            and the rest to test, see `split_classes`. Then `test` has to be None.
        train_labels: Take the classes of the training images too. They are known with `train_classes` anyway.
        unlabeled: Further images to train on, without classes, in a folder of any shape; None if there are none.

    Returns:
        A catalog of file paths, named after `data_dir`, with what was left out.

    Raises:
        ValueError: If a folder is missing, holds no images or is not laid out as it has to be; the test images would be
            trained on; or `train_classes` and `test` are both given.
    """
    name = data_dir.resolve().name
    if not data_dir.is_dir():
        raise UserError(f"there is no data folder {data_dir}; give an existing one that holds {train!r}")
    left_out: list[LeftOut] = []
    if train_classes is not None:
        if test is not None:
            raise UserError(
                f"train_classes is {train_classes} and test is {test!r}, but the test images come from either the "
                "classes that do not train or from a folder of their own: set one of the two to null"
            )
        train_images, test_images = split_classes(_labelled_images(data_dir / train, left_out), train_classes)
    else:
        if test is not None:
            _refuse_overlap(data_dir / train, data_dir / test)
        read_train = _labelled_images if train_labels else _unlabelled_images
        train_images = read_train(data_dir / train, left_out)
        test_images = None if test is None else _labelled_images(data_dir / test, left_out)
    unlabeled_images = None
    if unlabeled is not None:
        if test_images is not None:
            _refuse_overlap(data_dir / unlabeled, data_dir / (test or train))
        unlabeled_images = _unlabelled_images(data_dir / unlabeled, left_out)
    return Catalog(name, train_images, test_images, unlabeled=unlabeled_images, left_out=tuple(left_out))


def load_labeled_folder(folder: Path) -> ImageSet:
    """List the images in a folder of classes, see `load_folder`."""
    return _labelled_images(folder, [])


def _refuse_overlap(train: Path, test: Path) -> None:
    inner, outer = test.resolve(), train.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(
            f"the training folder {train} and the test folder {test} overlap, so test images would be trained on; "
            "put them side by side, or use train_classes to split one folder by class"
        )


def _unlabelled_images(folder: Path, left_out: list[LeftOut]) -> ImageSet:
    images, others = find_images(_existing(folder))
    left_out += others
    if not images:
        raise UserError(f"no images in {folder}: expected {_formats()} files, found {_summary(others)}")
    return ImageSet(images)


def _labelled_images(folder: Path, left_out: list[LeftOut]) -> ImageSet:
    images, others = find_images(_existing(folder))
    left_out += others
    by_class: dict[str, list[Path]] = {}
    strays = []
    for image in images:
        below = image.relative_to(folder).parts
        if len(below) == 1:
            strays.append(image.name)
        else:
            by_class.setdefault(below[0], []).append(image)
    if strays:
        raise UserError(
            f"{folder} holds {len(strays)} images outside of any class, such as {strays[0]}; {_LABELLED_LAYOUT}: "
            "move them into their class's folder, or away"
        )
    if len(by_class) < 2:
        only = f" (only {next(iter(by_class))})" if by_class else ""
        raise UserError(
            f"{folder} holds images of {len(by_class)} classes{only}, and retrieval needs at least two; "
            f"{_LABELLED_LAYOUT}, images being {_formats()} files; found {_summary(others)}"
        )
    counts = [len(by_class[name]) for name in sorted(by_class)]
    return ImageSet(
        images=[image for name in sorted(by_class) for image in by_class[name]],
        labels=np.repeat(np.arange(len(counts), dtype=np.int64), counts),
        class_names=tuple(sorted(by_class)),
    )


def _existing(folder: Path) -> Path:
    if folder.is_dir():
        return folder
    beside = sorted(entry.name for entry in folder.parent.iterdir() if entry.is_dir()) if folder.parent.is_dir() else []
    nearby = f"{folder.parent} holds the folders {_shortened(beside)}" if beside else f"{folder.parent} has no folders"
    raise UserError(f"there is no folder {folder}; {nearby}: name the right one in the recipe's data")


def _formats() -> str:
    return f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def _summary(left_out: list[LeftOut]) -> str:
    """Say what lies below a folder that is no image, for an error."""
    return counted(left_out) or "no files at all"


def _shortened(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
