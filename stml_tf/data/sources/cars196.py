"""Cars196: photographs of 196 models of cars.

Krause, Stark, Deng, Fei-Fei: 3D Object Representations for Fine-Grained Categorization, 3dRR 2013.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stml_tf.data.catalog import Catalog, ImageSet, split_classes
from stml_tf.data.sources.published import Publication, refuse_incomplete
from stml_tf.data.sources.published_source import PublishedSource
from stml_tf.errors import UserError

CARS196 = Publication(
    title="Cars196",
    folder="cars196",
    parts=(("cars_annos.mat",), ("car_ims",)),
    archives={"car_ims.tgz": "car_ims"},
    advice="Its page at Stanford is gone. From a copy elsewhere, put cars_annos.mat (all 16,185 images in one file, "
    "not the development kit's cars_train_annos.mat) and car_ims.tgz, as it is or extracted to car_ims/016185.jpg and "
    "so on, into the folder that --data-dir names; or try --download.",
    counts={"training images": 8054, "training classes": 98, "test images": 8131, "test classes": 98},
)


def load_cars196(data_dir: Path | None, *, expected: Mapping[str, int] = CARS196.counts) -> Catalog:
    """List the cars: the first half of the models trains, the other half tests.

    The `test` flags of the annotations part images of the same model, for classification; they are not used.

    Args:
        data_dir: The folder that holds `cars_annos.mat` beside `car_ims` or `car_ims.tgz`, or the folder above it.
        expected: How many images and classes there have to be, see `refuse_incomplete`.

    Raises:
        UserError: If the data set is missing, damaged or not whole.
    """
    annotations_file, folder = CARS196.find(data_dir)
    paths, labels, class_names = _read_annotations(annotations_file)
    cars = ImageSet([folder.parent / path for path in paths], labels, class_names)
    return refuse_incomplete(Catalog(CARS196.title, *split_classes(cars, 0.5)), expected, origin=str(folder.parent))


def _read_annotations(path: Path) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    from scipy.io import loadmat  # takes half a second, which no other data set should wait for

    try:
        found = loadmat(path, squeeze_me=True)
        annotations = found["annotations"]
        paths = [str(name) for name in annotations["relative_im_path"]]
        labels = annotations["class"].astype(np.int64) - 1
        return paths, labels, tuple(str(name) for name in found["class_names"])
    except Exception as error:  # a damaged file makes scipy raise nearly anything
        raise UserError(
            f"{path} is not the annotations file of {CARS196.title} ({error!r}): it needs `annotations` with "
            f"relative_im_path and class, and `class_names`. {CARS196.advice}"
        ) from error


open_cars196 = PublishedSource(CARS196, load_cars196, "cars196")
