"""Pictures of each epoch in TensorBoard: neighbours, similarities, and the pseudo labels of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from stml_tf.evaluation.embed import l2_normalized
from stml_tf.evaluation.neighbors import nearest_neighbors
from stml_tf.monitoring.contact_sheet import matrix_sheet, neighbor_sheet
from stml_tf.monitoring.summaries import Summaries

__all__ = ["EpochPictures"]

NUM_QUERIES, NUM_NEIGHBORS = 8, 6


class EpochPictures(keras.callbacks.Callback):
    """A callback that writes pictures of each epoch. It comes after the callback that embeds the sample.

    Args:
        summaries: The writer, which is left open.
        views: Returns embeddings `[2, images, dim]` of two views of a sample of images, as the network is now; None if
            there is no such sample.
        pixels_of: From the place of an image in the sample to its pixels, uint8 `[height, width, 3]`.
        labels: `[images]` integers, the classes of the sample; None if they are not known.
        similarities: Returns the pseudo labels of a batch by name, each `[rows, rows]` in [0, 1]; empty for methods
            that have none.
        seed: Seed of the choice of queries, which stay the same.
    """

    def __init__(
        self,
        summaries: Summaries,
        *,
        views: Callable[[], np.ndarray | None],
        pixels_of: Callable[[int], np.ndarray],
        labels: np.ndarray | None,
        similarities: Callable[[], Mapping[str, np.ndarray]],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.summaries = summaries
        self.views = views
        self.pixels_of = pixels_of
        self.labels = labels
        self.similarities = similarities
        self.seed = seed

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        step = epoch + 1
        views = self.views()
        if views is not None:
            first, second = (l2_normalized(view) for view in views)
            self.summaries.image("neighbors/of_fixed_queries", self._neighbors(first), step)
            cosines = (first @ first.T)[np.triu_indices(len(first), 1)]
            self.summaries.histogram("health/cosines_of_different_images", cosines, step)
            self.summaries.histogram("health/cosines_of_two_views", np.sum(first * second, axis=1), step)
        if matrices := self.similarities():
            self.summaries.image("pseudo_labels/of_a_batch", matrix_sheet(dict(matrices)), step)
        self.summaries.flush()

    def _neighbors(self, embeddings: np.ndarray) -> np.ndarray:
        count = len(embeddings)
        queries = np.random.default_rng(self.seed).permutation(count)[:NUM_QUERIES]
        _, nearest = nearest_neighbors(embeddings[queries], embeddings, k=min(NUM_NEIGHBORS + 1, count))
        # By index, not by place: an exact duplicate may come before the query itself.
        others = [[index for index in row if index != query] for query, row in zip(queries, nearest, strict=True)]

        def correct(query: int, index: int) -> bool | None:
            return None if self.labels is None else bool(self.labels[index] == self.labels[query])

        return neighbor_sheet(
            [
                (self.pixels_of(query), [(self.pixels_of(each), correct(query, each)) for each in row[:NUM_NEIGHBORS]])
                for query, row in zip(queries, others, strict=True)
            ]
        )
