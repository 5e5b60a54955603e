"""Stanford Online Products: photographs of 22,634 products that were offered online.

Song, Xiang, Jegelka, Savarese: Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.sources.published import Publication, by_class, read_rows, refuse_incomplete
from stml_tf.data.sources.published_source import PublishedSource

SOP = Publication(
    title="Stanford Online Products",
    folder="Stanford_Online_Products",
    parts=(("Ebay_train.txt",), ("Ebay_test.txt",)),
    archives={"Stanford_Online_Products.zip": "Stanford_Online_Products"},
    advice="Get Stanford_Online_Products.zip from https://cvgl.stanford.edu/projects/lifted_struct/ and put it into "
    "the folder that --data-dir names, as it is or extracted; or add --download.",
    counts={"training images": 59551, "training classes": 11318, "test images": 60502, "test classes": 11316},
)


def load_sop(data_dir: Path | None, *, expected: Mapping[str, int] = SOP.counts) -> Catalog:
    """List the products, with the split that comes with them.

    Args:
        data_dir: The folder `Stanford_Online_Products`, the folder above it, or the archive.
        expected: How many images and classes there have to be, see `refuse_incomplete`.

    Raises:
        ValueError: If the data set is missing, damaged or not whole.
    """
    train, test = SOP.find(data_dir)
    catalog = Catalog(SOP.title, _products(train), _products(test))
    return refuse_incomplete(catalog, expected, origin=str(train.parent))


def _products(listing: Path) -> ImageSet:
    # image_id class_id super_class_id path, below a line that says so
    rows = read_rows(listing, columns=4, skip=1)
    return by_class([listing.parent / path for *_, path in rows], [class_id for _, class_id, _, _ in rows])


open_sop = PublishedSource(SOP, load_sop, "stanford_online_products", "class_id")
