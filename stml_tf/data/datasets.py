"""Data sets by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from stml_tf.data.cars196 import CARS196, load_cars196
from stml_tf.data.catalog import Catalog
from stml_tf.data.cub import CUB, load_cub
from stml_tf.data.folder import load_folder
from stml_tf.data.inshop import INSHOP, load_inshop
from stml_tf.data.published import Publication
from stml_tf.data.sop import SOP, load_sop
from stml_tf.data.tfds import load_tfds


class Published(NamedTuple):
    """A published data set: how it is read from disk, and what TensorFlow Datasets calls it and its classes."""

    publication: Publication
    load: Callable[..., Catalog]
    tfds_name: str | None = None
    tfds_label: str = "label"


PUBLISHED = {
    "cub": Published(CUB, load_cub, "caltech_birds2011"),
    "cars196": Published(CARS196, load_cars196, "cars196"),
    "sop": Published(SOP, load_sop, "stanford_online_products", "class_id"),
    "inshop": Published(INSHOP, load_inshop),
}


def open_catalog(name: str, *, data_dir: Path | None = None, download: bool = False, **options: Any) -> Catalog:
    """List the images of a data set without decoding any; loads no TensorFlow, but for TensorFlow Datasets.

    A published data set is read from its official folder or archive where that is in `data_dir`, else from the copy
    that TensorFlow Datasets keeps there.

    Args:
        name: "glyphs", "folder", "cub", "cars196", "sop", "inshop" or "tfds".
        data_dir: Where the data lie on disk; glyphs need none.
        download: Have TensorFlow Datasets fetch what is not there.
        **options: What the data set's load function takes, such as `load_folder`.

    Returns:
        Training images, and test images where there are any.

    Raises:
        ValueError: If the name is unknown, the data are missing, not whole or not laid out as expected, or cannot be
            downloaded.
    """
    if name == "tfds":
        return load_tfds(data_dir=data_dir, download=download, **options)
    if name in PUBLISHED:
        return _open_published(PUBLISHED[name], data_dir, download=download, **options)
    if download:
        raise ValueError(f"There is nothing to download for the data {name!r}: leave --download away.")
    if name == "glyphs":
        from stml_tf.data.glyphs import load_glyphs  # matplotlib's fonts take a second to list

        return load_glyphs(**options)
    if name == "folder":
        if data_dir is None:
            raise ValueError("The data are in a folder of your own: say where with --data-dir DIR.")
        return load_folder(data_dir, **options)
    raise ValueError(f"Unknown data {name!r}: choose {', '.join(('glyphs', 'folder', *PUBLISHED, 'tfds'))}.")


def _open_published(data: Published, data_dir: Path | None, *, download: bool, **options: Any) -> Catalog:
    publication, load, tfds_name, tfds_label = data
    if publication.is_in(data_dir):
        return load(data_dir, **options)
    if download and tfds_name is None:
        raise ValueError(f"{publication.title} cannot be downloaded for you. {publication.advice}")
    if not download and not (tfds_name and data_dir and (data_dir / tfds_name).is_dir()):
        return load(data_dir, **options)  # which says what is missing, and where to get it
    try:
        return load_tfds(
            tfds_name,
            label=tfds_label,
            train_classes=publication.counts["training classes"],
            data_dir=data_dir,
            download=download,
            **{"expected": publication.counts, **options},
        )
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}. {publication.advice}") from error
