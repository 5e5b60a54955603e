"""In-Shop Clothes: photographs of garments as shops show them, searched with a query set in a gallery of its own.

Liu, Luo, Qiu, Wang, Tang: DeepFashion, CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stml_tf.data.catalog import Catalog
from stml_tf.data.sources.published import Publication, by_class, read_rows, refuse_incomplete
from stml_tf.data.sources.published_source import PublishedSource

INSHOP = Publication(
    title="In-Shop Clothes",
    folder="In-shop Clothes Retrieval Benchmark",
    parts=(
        ("Eval/list_eval_partition.txt", "list_eval_partition.txt"),
        ("Img/img", "img"),
    ),
    archives={"Img/img.zip": "img", "img.zip": "img"},
    advice="Get Eval/list_eval_partition.txt and Img/img.zip of the In-shop Clothes Retrieval Benchmark from "
    "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html and put them, img.zip as it is or "
    "extracted, into the folder that --data-dir names; TensorFlow Datasets does not have them.",
    counts={"training images": 25882, "test images": 14218, "gallery images": 12612},
)


def load_inshop(data_dir: Path | None, *, expected: Mapping[str, int] = INSHOP.counts) -> Catalog:
    """List the garments, with the split that comes with them: `test` holds the queries, `gallery` what they search.

    Args:
        data_dir: The folder of the benchmark, which holds `Img` and `Eval`, or the folder above it.
        expected: How many images and classes there have to be, see `refuse_incomplete`.

    Raises:
        ValueError: If the data set is missing, damaged or not whole.
    """
    listing, folder = INSHOP.find(data_dir)
    # image_name item_id evaluation_status, below the number of images and a line that says so
    rows = read_rows(listing, columns=3, skip=2)
    garments = by_class([folder.parent / path for path, _, _ in rows], [item for _, item, _ in rows])
    parts = np.array([part for _, _, part in rows])
    train, query, gallery = (garments.take(np.flatnonzero(parts == name)) for name in ("train", "query", "gallery"))
    return refuse_incomplete(Catalog(INSHOP.title, train, query, gallery), expected, origin=str(folder.parent))


open_inshop = PublishedSource(INSHOP, load_inshop)
