"""Opens a published data set: from its official folder or archive, else from TensorFlow Datasets' copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stml_tf import registry
from stml_tf.data.catalog import Catalog
from stml_tf.data.sources.published import Publication
from stml_tf.data.sources.tfds import load_tfds
from stml_tf.errors import UserError


@dataclass(frozen=True)
class PublishedSource:
    """A published data set: how it is read from disk, and what TensorFlow Datasets calls it.

    Args:
        publication: What it is.
        load: Reads its official layout.
        tfds_name: Its name in TensorFlow Datasets; None if it is not there.
        tfds_label: The feature that holds the class there.
    """

    publication: Publication
    load: Callable[..., Catalog]
    tfds_name: str | None = None
    tfds_label: str = "label"

    def __call__(
        self, data_dir: Path | None = None, download: bool = False, unlabeled: str | None = None, **options: Any
    ) -> Catalog:
        """List the images.

        Args:
            data_dir: The folder of the data set, the one above it, or its downloaded archive.
            download: Have TensorFlow Datasets fetch what is not there.
            unlabeled: Name of another published data set whose training images are trained on without labels.
            **options: What `load` takes.

        Raises:
            ValueError: If the data are missing, not whole, or cannot be downloaded.
        """
        if data_dir is not None and data_dir.is_file():
            data_dir = self.publication.folder_of(data_dir)
        if unlabeled is not None:
            more = registry.resolve(registry.sources.find(unlabeled).build)(data_dir, download=download)
            return replace(self(data_dir, download=download, **options), unlabeled=more.train)
        if self.publication.is_in(data_dir):
            return self.load(data_dir, **options)
        if download and self.tfds_name is None:
            raise UserError(f"{self.publication.title} cannot be downloaded for you. {self.publication.advice}")
        if not download and not (self.tfds_name and data_dir and (data_dir / self.tfds_name).is_dir()):
            return self.load(data_dir, **options)  # which says what is missing, and where to get it
        try:
            return load_tfds(
                self.tfds_name,
                label=self.tfds_label,
                train_classes=self.publication.counts["training classes"],
                data_dir=data_dir,
                download=download,
                **{"expected": self.publication.counts, **options},
            )
        except UserError as error:
            raise UserError(f"{str(error).rstrip('.')}. {self.publication.advice}") from error
