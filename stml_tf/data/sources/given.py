"""Images that are handed over as what they are: a folder, paths, pixels, or a catalog."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.sources.folder import load_folder
from stml_tf.errors import UserError

GivenImages = str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | np.ndarray | ImageSet | Catalog

_ALLOWED = (
    "allowed: a folder, a list of paths of image files, uint8 pixels [num_images, height, width, 3], or a Catalog"
)


def as_image_set(images: GivenImages) -> ImageSet:
    """List images, decoding none.

    Args:
        images: A folder, all images below which are taken; paths of image files; uint8 pixels
            `[num_images, height, width, 3]`; an `ImageSet`; or a `Catalog`, whose training images are taken.

    Returns:
        The images; those of a folder, of paths and of pixels have no labels.

    Raises:
        UserError: If it is nothing of this, holds no image, or a file is missing.
    """
    if isinstance(images, Catalog):
        return images.train
    if isinstance(images, ImageSet):
        return images
    if isinstance(images, np.ndarray):
        try:
            found = ImageSet(images)
        except ValueError as error:
            raise UserError(f"images: an array of {images.dtype} {list(images.shape)} given; {_ALLOWED}") from error
    elif isinstance(images, str | os.PathLike):
        if Path(images).is_file():
            raise UserError(f"images: the file {images} given; {_ALLOWED}")
        found = load_folder(Path(images), train=".", test=None).train
    elif isinstance(images, Iterable):
        found = ImageSet(_files(images))
    else:
        raise UserError(f"images: {type(images).__name__} given; {_ALLOWED}")
    if not len(found):
        raise UserError(f"images: none given; {_ALLOWED}")
    return found


def as_catalog(images: GivenImages) -> Catalog:
    """Take images to train on; all but a `Catalog` come without labels and without test images."""
    return images if isinstance(images, Catalog) else Catalog("images given to train()", as_image_set(images), None)


def _files(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    listed = list(paths)
    for path in listed:
        if not isinstance(path, str | os.PathLike):
            raise UserError(f"images: a list that holds {type(path).__name__} given; {_ALLOWED}")
    files = [Path(path) for path in listed]
    if absent := [file for file in files if not file.is_file()]:
        raise UserError(f"images: {len(absent)} of {len(files)} files do not exist; the first is {absent[0]}")
    return files
