"""The result of a training run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stml_tf.data.catalog import ImageSet
from stml_tf.data.sources.given import GivenImages, as_image_set
from stml_tf.errors import UserError
from stml_tf.evaluation.neighbors import nearest_neighbors
from stml_tf.export import Embedder
from stml_tf.export.saved_model import read_metadata
from stml_tf.runs.embed import embed_with_saved_model
from stml_tf.runs.folder import RunFolder
from stml_tf.search.match import Match


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """The result of a run, which is also accepted wherever the path of its folder is.

    Attributes:
        folder: The run folder.
        saved_model: The version folder of the SavedModel; None after a dry run, and for a trial of a sweep.
        metrics: The metrics after training, such as `recall@1`; empty without test images.
        history: The logs of each epoch, with its number under "epoch".
    """

    folder: Path
    saved_model: Path | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float | None]] = field(default_factory=list)
    _trained_on: Callable[[], ImageSet] | None = field(default=None, repr=False)

    @classmethod
    def of_folder(cls, folder: RunFolder, trained_on: Callable[[], ImageSet]) -> "TrainingResult":
        """Read the result of a run from its folder.

        Args:
            folder: The run folder.
            trained_on: Returns the images that it was trained on.
        """
        written = folder.read_metrics()
        return cls(
            folder=folder.path,
            saved_model=Path(written["saved_model"]) if "saved_model" in written else None,
            metrics=written.get("after_training") or written.get("as_exported") or {},
            history=written["epochs"],
            _trained_on=trained_on,
        )

    def __fspath__(self) -> str:
        return str(self.folder)

    def embed(self, images: GivenImages) -> np.ndarray:
        """Embed images with the SavedModel.

        Args:
            images: A folder, paths of image files, or uint8 pixels `[num_images, height, width, 3]`.

        Returns:
            `[num_images, dim]` float32, L2-normalised unless the recipe says otherwise.

        Raises:
            UserError: If the images cannot be used, or there is no SavedModel.
        """
        return embed_with_saved_model(self._embedder, as_image_set(images))

    def search(self, images: GivenImages, *, k: int = 10) -> list[list[Match]]:
        """Find the training images nearest to each query. For a gallery on disk, see `stml_tf.Gallery`.

        Args:
            images: The queries, as for `embed`.
            k: Number of matches for each query.

        Returns:
            The k matches of each query, nearest first. The path of a match that is not a file is like `image 17`.

        Raises:
            UserError: If the queries cannot be used, or there is no SavedModel.
        """
        trained_on, embeddings = self._gallery
        if not 1 <= k <= len(trained_on):
            raise UserError(f"k is {k}, but must be from 1 to {len(trained_on)}, the number of training images")
        distances, rows = nearest_neighbors(self.embed(images), embeddings, k=k)

        def match(distance: Any, row: Any) -> Match:
            similarity = float(1 - distance**2 / 2) if self._normalized else None
            return Match(Path(trained_on.describe(int(row))), float(distance), similarity)

        return [[match(*pair) for pair in zip(*found, strict=True)] for found in zip(distances, rows, strict=True)]

    @cached_property
    def _embedder(self) -> Embedder:
        if self.saved_model is None:
            raise UserError(
                f"{self.folder} has no SavedModel, as of a dry run or a trial of a sweep: train it in full first."
            )
        return Embedder(self.saved_model)

    @cached_property
    def _gallery(self) -> tuple[ImageSet, np.ndarray]:
        embedder = self._embedder
        images = self._trained_on()
        return images, embed_with_saved_model(embedder, images)

    @cached_property
    def _normalized(self) -> bool:
        return read_metadata(self.saved_model)["normalize"]
