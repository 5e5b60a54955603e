"""NABirds: photographs of 555 kinds of North American birds, here to learn from without their labels.

Van Horn et al.: Building a Bird Recognition App and Large Scale Dataset with Citizen Scientists, CVPR 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stml_tf.data.catalog import Catalog
from stml_tf.data.sources.published import Publication, by_class, read_rows, refuse_incomplete
from stml_tf.data.sources.published_source import PublishedSource

NABIRDS = Publication(
    title="NABirds",
    folder="nabirds",
    parts=(("images.txt",), ("image_class_labels.txt",), ("images",)),
    archives={"nabirds.tar.gz": "nabirds"},
    advice="Get nabirds.tar.gz from https://dl.allaboutbirds.org/nabirds, where its terms have to be agreed to, and "
    "put it into the folder that --data-dir names, as it is or extracted.",
    counts={"training images": 48562, "training classes": 555},
)


def load_nabirds(data_dir: Path | None, *, expected: Mapping[str, int] = NABIRDS.counts) -> Catalog:
    """List all birds as training images; there is no split by class that results are reported on.

    Args:
        data_dir: The folder `nabirds`, the folder above it, or the archive.
        expected: How many images and classes there have to be, see `refuse_incomplete`.

    Raises:
        ValueError: If the data set is missing, damaged or not whole.
    """
    images_file, labels_file, folder = NABIRDS.find(data_dir)
    class_of = dict(read_rows(labels_file, columns=2))
    rows = read_rows(images_file, columns=2)
    birds = by_class([folder / path for _, path in rows], [class_of[image_id] for image_id, _ in rows])
    return refuse_incomplete(Catalog(NABIRDS.title, birds, None), expected, origin=str(folder.parent))


open_nabirds = PublishedSource(NABIRDS, load_nabirds)
