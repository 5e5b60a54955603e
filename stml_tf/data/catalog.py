"""What a dataset is before anything is decoded: references to images, their classes, and which of them train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stml_tf.data.formats.rule import DEFAULT_DECODING, Decoding
from stml_tf.data.image_files import Leak, LeftOut
from stml_tf.errors import UserError

_SETS = ("train", "test", "gallery", "unlabeled")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and, where they are known, their classes.

    Args:
        images: File paths, encoded images as bytes, or uint8 `[num_images, height, width, 3]` held in memory. A
            greyscale set may be a view that `numpy.broadcast_to` made of one channel: `take` keeps it one, so it costs
            a third of the memory.
        labels: int64 `[num_images]` that indexes `class_names`; None where the classes are not known.
        class_names: The names of the classes; may name classes that have no image in this set.
        decoding: How files and encoded images become pixels.
        names: What images in memory are called; None: `image 17`. Files have their own names.

    Raises:
        ValueError: If images in memory are not uint8 `[num_images, height, width, 3]`, or the labels do not fit.
    """

    images: Sequence[Path] | Sequence[bytes] | Sequence[np.ndarray] | np.ndarray
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    decoding: Decoding = DEFAULT_DECODING
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.images, np.ndarray) and (
            self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[-1] != 3
        ):
            raise ValueError(
                f"images in memory are {self.images.dtype} {list(self.images.shape)}; "
                "they have to be uint8 [num_images, height, width, 3]: convert them first"
            )
        if self.labels is None:
            return
        if self.labels.shape != (len(self.images),) or self.labels.dtype != np.int64:
            raise ValueError(
                f"labels are {self.labels.dtype} {list(self.labels.shape)} for {len(self.images)} images; "
                "they have to be int64, one for each image"
            )
        if len(self.labels) and (self.labels.min() < 0 or self.labels.max() >= len(self.class_names)):
            raise ValueError(
                f"labels run from {self.labels.min()} to {self.labels.max()}, but there are {len(self.class_names)} "
                "class names; each label has to be the position of its class's name"
            )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Sequence[int] | np.ndarray) -> ImageSet:
        """Return the images at `indices`, int `[count]`, in that order, repeats allowed; `class_names` stay."""
        indices = np.asarray(indices, dtype=np.int64)
        if not isinstance(self.images, np.ndarray):
            images = [self.images[index] for index in indices]
        elif self.images.strides[-1] == 0:
            grey = self.images[..., :1][indices]
            images = np.broadcast_to(grey, (*grey.shape[:-1], 3))
        else:
            images = self.images[indices]
        labels = None if self.labels is None else self.labels[indices]
        names = None if self.names is None else tuple(self.names[index] for index in indices)
        return replace(self, images=images, labels=labels, names=names)

    def with_pixels(self, images: Sequence[Path] | Sequence[np.ndarray] | np.ndarray) -> ImageSet:
        """Return the same images, all or some of them decoded, which keep the names of their files."""
        return replace(self, images=images, names=tuple(self.describe(index) for index in range(len(self))))

    def describe(self, index: int) -> str:
        """Name one image to a person: by its file, or as `image 17` where it is in memory."""
        image = self.images[index]
        if self.names is not None:
            return self.names[index]
        return str(image) if isinstance(image, Path) else f"image {index}"


@dataclass(frozen=True, eq=False)
class Catalog:
    """A named dataset.

    Args:
        name: What to call it.
        train: The images to train on.
        test: The images to evaluate on; None: it cannot be evaluated.
        gallery: What the test images are looked for in, with the same `class_names`; None: they are looked for among
            themselves.
        unlabeled: Further images to train on, of these or of other classes, whose labels, if they have any, are not
            to be learned from; None: there are none.
        left_out: Files that were there and are no data, with the reason.
        leaks: Images of the test set and the gallery that are training images too, as far as they were looked for.
        max_unreadable: Share of each set's images that may be left out because they cannot be decoded.
    """

    name: str
    train: ImageSet
    test: ImageSet | None
    gallery: ImageSet | None = None
    unlabeled: ImageSet | None = None
    left_out: tuple[LeftOut, ...] = ()
    leaks: tuple[Leak, ...] = ()
    max_unreadable: float = 0.01

    def decoded(self, decoding: Decoding) -> Catalog:
        """Return the same images, whose files become pixels in another way."""

        def of(images: ImageSet | None) -> ImageSet | None:
            return None if images is None else replace(images, decoding=decoding)

        return replace(self, **{name: of(getattr(self, name)) for name in _SETS})

    def test_set(self) -> tuple[ImageSet | None, int | None]:
        """Return the images to evaluate on, and how many of them, the first, search the others; None: all search all.

        Raises:
            ValueError: If the gallery names its classes differently.
        """
        if self.test is None or self.gallery is None:
            return self.test, None
        return join(self.test, self.gallery), len(self.test)

    def few(self, count: int) -> Catalog:
        """Keep `count` images of each set, from the first to the last of it, so that they are of many classes."""

        def of(images: ImageSet | None) -> ImageSet | None:
            if images is None or len(images) <= count:
                return images
            return images.take(np.linspace(0, len(images) - 1, count).astype(np.int64))

        return replace(self, **{name: of(getattr(self, name)) for name in _SETS})


def join(first: ImageSet, second: ImageSet) -> ImageSet:
    """Return the images of one set, then those of another that names its classes alike.

    Raises:
        ValueError: If the sets name their classes differently, or only one of them has labels.
    """
    if first.class_names != second.class_names or (first.labels is None) != (second.labels is None):
        raise ValueError(
            f"cannot join images of {len(first.class_names)} classes with images of {len(second.class_names)}: both "
            "sets need labels that mean the same, or none"
        )
    in_memory = isinstance(first.images, np.ndarray) and isinstance(second.images, np.ndarray)
    images = np.concatenate([first.images, second.images]) if in_memory else [*first.images, *second.images]
    labels = None if first.labels is None else np.concatenate([first.labels, second.labels])
    return replace(first, images=images, labels=labels, names=_joined_names(first, second))


def pool(first: ImageSet, second: ImageSet) -> ImageSet:
    """Return the images of one set, then those of another; with labels if both name their classes alike."""
    same = first.class_names == second.class_names and first.labels is not None and second.labels is not None
    return ImageSet(
        [*first.images, *second.images],
        np.concatenate([first.labels, second.labels]) if same else None,
        first.class_names if same else (),
        first.decoding,
        _joined_names(first, second),
    )


def _joined_names(first: ImageSet, second: ImageSet) -> tuple[str, ...] | None:
    if first.names is None and second.names is None:
        return None
    return tuple(images.describe(index) for images in (first, second) for index in range(len(images)))


def split_classes(images: ImageSet, train_classes: float | int) -> tuple[ImageSet, ImageSet]:
    """Split labelled images into a training and a test set that share no class.

    Args:
        images: A labelled set. Both results keep its `class_names`, so a label means the same class in both.
        train_classes: How many classes train: a share (float in (0, 1), rounded to whole classes, a half upwards) or a
            count (int). They are the first ones in class order; the other classes test.

    Returns:
        The training set and the test set, each in the order of `images`.

    Raises:
        ValueError: If the images have no labels, or either side would be left without a class.
    """
    if images.labels is None:
        raise UserError("cannot split by class: these images have no labels; give one folder a class")
    num_classes = len(images.class_names)
    if isinstance(train_classes, bool) or not (
        0 < train_classes < (1 if isinstance(train_classes, float) else num_classes)
    ):
        raise UserError(
            f"train_classes is {train_classes!r}, but has to leave a class on either side: "
            f"give a share between 0 and 1, or a count between 1 and {num_classes - 1} of the {num_classes} classes"
        )
    count = int(train_classes * num_classes + 0.5) if isinstance(train_classes, float) else train_classes
    if not 0 < count < num_classes:
        raise UserError(
            f"train_classes is {train_classes!r}, which is {count} of {num_classes} classes; "
            "training and test need at least one each: change the share, or give a count"
        )
    return images.take(np.flatnonzero(images.labels < count)), images.take(np.flatnonzero(images.labels >= count))
