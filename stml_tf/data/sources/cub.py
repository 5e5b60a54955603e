"""Caltech-UCSD Birds 200-2011: photographs of 200 species of birds.

Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011 Dataset, 2011.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stml_tf.data.catalog import Catalog, ImageSet, split_classes
from stml_tf.data.sources.published import Publication, read_rows, refuse_incomplete
from stml_tf.data.sources.published_source import PublishedSource

CUB = Publication(
    title="CUB-200-2011",
    folder="CUB_200_2011",
    parts=(("images.txt",), ("image_class_labels.txt",), ("classes.txt",), ("images",)),
    archives={"CUB_200_2011.tgz": "CUB_200_2011"},
    advice="Get CUB_200_2011.tgz from https://www.vision.caltech.edu/datasets/cub_200_2011/ and put it into the folder "
    "that --data-dir names, as it is or extracted; or add --download.",
    counts={"training images": 5864, "training classes": 100, "test images": 5924, "test classes": 100},
)


def load_cub(data_dir: Path | None, *, expected: Mapping[str, int] = CUB.counts) -> Catalog:
    """List the birds: the first half of the species trains, the other half tests.

    Args:
        data_dir: The folder `CUB_200_2011`, the folder above it, or the archive.
        expected: How many images and classes there have to be, see `refuse_incomplete`.

    Raises:
        ValueError: If the data set is missing, damaged or not whole.
    """
    images_file, labels_file, classes_file, folder = CUB.find(data_dir)
    class_of = dict(read_rows(labels_file, columns=2))
    class_ids, class_names = zip(*read_rows(classes_file, columns=2), strict=True)
    position = {class_id: index for index, class_id in enumerate(class_ids)}
    rows = read_rows(images_file, columns=2)
    birds = ImageSet(
        images=[folder / path for _, path in rows],
        labels=np.array([position[class_of[image_id]] for image_id, _ in rows], np.int64),
        class_names=class_names,
    )
    return refuse_incomplete(Catalog(CUB.title, *split_classes(birds, 0.5)), expected, origin=str(folder.parent))


open_cub = PublishedSource(CUB, load_cub, "caltech_birds2011")
