"""Data sets by name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from stml_tf.data.batches.partial_labels import part_by_labels
from stml_tf.data.catalog import Catalog, pool
from stml_tf.data.sources.cars196 import CARS196, load_cars196
from stml_tf.data.sources.compcars import COMPCARS, load_compcars
from stml_tf.data.sources.cub import CUB, load_cub
from stml_tf.data.sources.folder import load_folder
from stml_tf.data.sources.inshop import INSHOP, load_inshop
from stml_tf.data.sources.nabirds import NABIRDS, load_nabirds
from stml_tf.data.sources.published import Publication
from stml_tf.data.sources.sop import SOP, load_sop
from stml_tf.data.sources.tfds import load_tfds


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
    "nabirds": Published(NABIRDS, load_nabirds),
    "compcars": Published(COMPCARS, load_compcars),
}


def open_catalog(
    name: str,
    *,
    data_dir: Path | None = None,
    download: bool = False,
    labeled_classes: float | int | None = None,
    labeled_fraction: float | None = None,
    **options: Any,
) -> Catalog:
    """List the images of a data set without decoding any; loads no TensorFlow, but for TensorFlow Datasets.

    A published data set is read from its official folder or archive where that is in `data_dir`, else from the copy
    that TensorFlow Datasets keeps there.

    Args:
        name: "glyphs", "folder", "tfds", or a key of `PUBLISHED`.
        data_dir: Where the data lie on disk; glyphs need none. In place of the folder, for a published data set, the
            downloaded archive in it.
        download: Have TensorFlow Datasets fetch what is not there.
        labeled_classes: Keep the labels of this share or number of training classes alone, see `part_by_labels`.
        labeled_fraction: Keep the labels of this share of the training images of every class alone.
        **options: What the data set's load function takes, such as `load_folder`. For a published one also
            `unlabeled`, the name of another whose training images are trained on without labels.

    Returns:
        Training images, test images where there are any, and unlabelled ones where the data name them.

    Raises:
        ValueError: If the name is unknown, the data are missing, not whole or not laid out as expected, or cannot be
            downloaded.
    """
    if data_dir is not None and data_dir.is_file():
        if name not in PUBLISHED:
            raise ValueError(
                f"{data_dir} is a file, and the data {name!r} are read from a folder: extract it and give the folder "
                f"with --data-dir. Only {', '.join(PUBLISHED)} are read from their archives."
            )
        data_dir = PUBLISHED[name].publication.folder_of(data_dir)
    catalog = _open(name, data_dir=data_dir, download=download, **options)
    if labeled_classes is None and labeled_fraction is None:
        return catalog
    train, rest = part_by_labels(catalog.train, labeled_classes=labeled_classes, labeled_fraction=labeled_fraction)
    return replace(catalog, train=train, unlabeled=pool(rest, catalog.unlabeled) if catalog.unlabeled else rest)


def _open(name: str, *, data_dir: Path | None, download: bool, **options: Any) -> Catalog:
    if name == "tfds":
        return load_tfds(data_dir=data_dir, download=download, **options)
    if name in PUBLISHED:
        return _open_published(PUBLISHED[name], data_dir, download=download, **options)
    if download:
        raise ValueError(f"There is nothing to download for the data {name!r}: leave --download away.")
    if name == "glyphs":
        from stml_tf.data.sources.glyphs import load_glyphs  # matplotlib's fonts take a second to list

        return load_glyphs(**options)
    if name == "folder":
        if data_dir is None:
            raise ValueError("The data are in a folder of your own: say where with --data-dir DIR.")
        return load_folder(data_dir, **options)
    raise ValueError(f"Unknown data {name!r}: choose {', '.join(('glyphs', 'folder', *PUBLISHED, 'tfds'))}.")


def _open_published(
    data: Published, data_dir: Path | None, *, download: bool, unlabeled: str | None = None, **options: Any
) -> Catalog:
    if unlabeled is not None:
        more = _open_published(PUBLISHED[unlabeled], data_dir, download=download)
        return replace(_open_published(data, data_dir, download=download, **options), unlabeled=more.train)
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
