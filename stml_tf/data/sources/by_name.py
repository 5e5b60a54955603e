"""Data sets by name."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

from stml_tf import registry
from stml_tf.data.batches.partial_labels import part_by_labels
from stml_tf.data.catalog import Catalog, pool
from stml_tf.data.formats.rule import DEFAULT_DECODING, Decoding
from stml_tf.data.leaks import LeaksError, find_leaks
from stml_tf.errors import UserError


def open_catalog(
    name: str,
    *,
    data_dir: Path | None = None,
    download: bool = False,
    labeled_classes: float | int | None = None,
    labeled_fraction: float | None = None,
    background: tuple[int, int, int] = DEFAULT_DECODING.background,
    bit_depth: int = DEFAULT_DECODING.bit_depth,
    max_unreadable: float = 0.01,
    allow_leaks: bool = False,
    **options: Any,
) -> Catalog:
    """List the images of a data set without decoding any; loads no TensorFlow, but for TensorFlow Datasets.

    Args:
        name: A name in `stml_tf.registry.sources`.
        data_dir: Where the data lie on disk; some need none. For a published data set, also its downloaded archive.
        download: Have TensorFlow Datasets fetch what is not there.
        labeled_classes: Keep the labels of this share or number of training classes alone, see `part_by_labels`.
        labeled_fraction: Keep the labels of this share of the training images of every class alone.
        background: What shows through where an image file is transparent, see `Decoding`.
        bit_depth: Bits that 16-bit files use, see `Decoding`.
        max_unreadable: Share of a set's images that may be left out because they cannot be decoded.
        allow_leaks: Let images to measure on be training images too; the catalog's `leaks` names them.
        **options: What the data set's own function takes, such as `load_folder`.

    Returns:
        Training images, test images where there are any, and unlabelled ones where the data name them.

    Raises:
        LeaksError: If images to measure on are training images too, and may not be.
        UserError: If the name is unknown, or the data cannot be had in the way that is asked for.
        ValueError: If the data are missing, not whole or not laid out as expected.
    """
    catalog = _load(registry.sources.find(name), data_dir, download=download, options=options)
    decoding = Decoding(tuple(background), bit_depth)
    if catalog.train.decoding not in (decoding, DEFAULT_DECODING):
        raise UserError(
            f"{catalog.name} decodes its images with {catalog.train.decoding}, but the recipe with {decoding}: set "
            "data.background and data.bit_depth to what the data need"
        )
    catalog = replace(catalog.decoded(decoding), max_unreadable=max_unreadable)
    leaks = find_leaks(catalog)
    if leaks and not allow_leaks:
        raise LeaksError(leaks, len(catalog.test) + len(catalog.gallery or ()))
    catalog = replace(catalog, leaks=leaks)
    if labeled_classes is None and labeled_fraction is None:
        return catalog
    train, rest = part_by_labels(catalog.train, labeled_classes=labeled_classes, labeled_fraction=labeled_fraction)
    return replace(catalog, train=train, unlabeled=pool(rest, catalog.unlabeled) if catalog.unlabeled else rest)


def _load(source: registry.Source, data_dir: Path | None, *, download: bool, options: dict[str, Any]) -> Catalog:
    if data_dir is not None and data_dir.is_file() and not source.archives:
        archived = ", ".join(name for name, entry in registry.sources.items() if entry.archives)
        raise UserError(
            f"{data_dir} is a file, and the data {source.name!r} are read from a folder: extract it and give the "
            f"folder with --data-dir. Only {archived} are read from their archives."
        )
    load = registry.resolve(source.build)
    takes = inspect.signature(load).parameters
    if download and "download" not in takes:
        raise UserError(f"There is nothing to download for the data {source.name!r}: leave --download away.")
    if "data_dir" in takes:
        if data_dir is None and takes["data_dir"].default is inspect.Parameter.empty:
            raise UserError("The data are in a folder of your own: say where with --data-dir DIR.")
        options = {"data_dir": data_dir, **options}
    return load(**options, **({"download": True} if download else {}))
