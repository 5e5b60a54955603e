"""Image classification sets of TensorFlow Datasets, split by class; https://www.tensorflow.org/datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stml_tf.data.catalog import Catalog, ImageSet, split_classes
from stml_tf.data.sources.published import refuse_incomplete
from stml_tf.dry_run import would_have_to
from stml_tf.errors import UserError


def load_tfds(
    dataset: str,
    *,
    train_classes: float | int,
    data_dir: Path | None = None,
    download: bool = False,
    label: str | None = None,
    expected: Mapping[str, int] | None = None,
) -> Catalog:
    """Read all splits of a data set, still encoded, into memory, and split them by class.

    Args:
        dataset: Its name in TensorFlow Datasets, such as `oxford_flowers102`; a configuration or version may follow.
        train_classes: How many classes train, a share (float) or a count (int), see `split_classes`.
        data_dir: Where TensorFlow Datasets keeps its copies; None is its own default.
        download: Fetch the data set if it is not there.
        label: The feature that holds the class; None takes what the data set names for supervised learning.
        expected: How many images and classes there have to be, see `refuse_incomplete`; None takes any number.

    Returns:
        A catalog of encoded images. Images without a class are left out.

    Raises:
        UserError: If the package tensorflow-datasets is not installed, the data set is unknown, is no image
            classification set, is not there or cannot be fetched, or is not whole.
    """
    builder = _prepared_builder(dataset, data_dir, download=download)
    image, label = _image_and_label(builder, label)
    encoded, labels = _read(builder, image, label)
    names = tuple(builder.info.features[label].names)
    images = ImageSet(encoded, labels, names).take(np.flatnonzero(labels >= 0))
    return refuse_incomplete(
        Catalog(f"tfds:{dataset}", *split_classes(images, train_classes)), expected or {}, origin=str(builder.data_dir)
    )


def _import_tfds() -> Any:
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"TensorFlow Datasets is needed and cannot be imported ({error}): "
            "pip install tensorflow-datasets importlib_resources"
        ) from error
    return tensorflow_datasets


def _prepared_builder(dataset: str, data_dir: Path | None, *, download: bool) -> Any:
    tfds = _import_tfds()
    try:
        builder = tfds.builder(dataset, data_dir=data_dir)
    except ValueError as error:
        # The whole message lists every data set there is.
        raise UserError(
            f"TensorFlow Datasets cannot open {dataset!r}: {str(error).splitlines()[0]} Its names are listed at "
            "https://www.tensorflow.org/datasets/catalog/overview"
        ) from error
    if download and not builder.is_prepared():
        would_have_to(f"download {dataset} to {builder.data_dir}")
        try:
            builder.download_and_prepare()
        except Exception as error:  # no network, a page that is gone, a changed file: anything may be raised
            raise UserError(f"TensorFlow Datasets could not fetch {dataset}: {error}") from error
    elif not builder.is_prepared():
        raise UserError(
            f"TensorFlow Datasets has no copy of {dataset} in {builder.data_dir}: add --download to fetch it, or say "
            "with --data-dir where the copies are"
        )
    return builder


def _image_and_label(builder: Any, label: str | None) -> tuple[str, str]:
    """Find the names of the features that hold the image and its class."""
    features = _import_tfds().features
    known = builder.info.features or {}
    image, label = ("image", label) if label else builder.info.supervised_keys or ("image", "label")
    is_image = image in known and isinstance(known[image], features.Image)
    if not (is_image and label in known and isinstance(known[label], features.ClassLabel)):
        raise UserError(
            f"{builder.name} is no image classification set: an image and a class label are needed, and it has "
            f"{', '.join(known)}"
        )
    return image, label


def _read(builder: Any, image: str, label: str) -> tuple[list[bytes], np.ndarray]:
    decode = _import_tfds().decode
    only_these = decode.PartialDecoding({image: True, label: True}, decoders={image: decode.SkipDecoding()})
    rows = [
        (row[image], row[label]) for row in builder.as_dataset(split="all", decoders=only_these).as_numpy_iterator()
    ]
    return [encoded for encoded, _ in rows], np.array([label for _, label in rows], np.int64)
