"""Measurements of a run: retrieval among its test images, and agreement of its pseudo labels with classes."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from stml_tf.data.catalog import ImageSet
from stml_tf.distribution.devices import sum_over_workers
from stml_tf.evaluation import raw_pixels
from stml_tf.evaluation.metrics import with_agreement
from stml_tf.evaluation.query_gallery import query_gallery_results
from stml_tf.evaluation.query_results import QueryResults
from stml_tf.monitoring import mean_agreement
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.embed import embed_images, fixed_views
from stml_tf.runs.prepare import Run
from stml_tf.tensor import Tensor

Metrics = dict[str, float | int]

AGREEMENT_BATCHES = 3


class Measured(NamedTuple):
    """Retrieval metrics with the results of each query.

    Attributes:
        metrics: Of all queries, what `retrieval_metrics` returns.
        queries: What each of them found.
        embeddings: `[num_test_images, dim]`, which were measured, if they are those of a run's student.
    """

    metrics: Metrics
    queries: QueryResults
    embeddings: np.ndarray | None = None


Results = dict[str, Measured]  # by row, such as "before_training"


def metrics_of(results: Results) -> dict[str, Metrics]:
    """Return the metrics of each row."""
    return {row: each.metrics for row, each in results.items()}


def retrieval(recipe: Recipe, embeddings: np.ndarray, images: ImageSet, num_queries: int | None) -> Measured:
    """Measure retrieval as the recipe's `evaluation` section says.

    Args:
        recipe: The recipe.
        embeddings: `[len(images), dim]`, normalised if the recipe says so.
        images: Labelled images, queries before gallery.
        num_queries: Number of queries among them; None if each searches all others.

    Returns:
        The metrics and what they are the means of.
    """
    evaluation, labels = recipe.evaluation, images.labels
    queries = query_gallery_results(embeddings, labels, num_queries=num_queries, recall_at=evaluation.recall_at)
    metrics = queries.metrics()
    if evaluation.nmi:
        metrics = with_agreement(metrics, embeddings[:num_queries], labels[:num_queries])
    return Measured(metrics, queries)


def embed_test_images(run: Run) -> np.ndarray:
    """Embed a run's test images with its student as it is now; returns `[num_images, dim]` float32."""
    with run.display.doing("embedding test images", len(run.test)) as work:
        return embed_images(
            run.recipe,
            run.embedding_network,
            run.test,
            normalize=run.recipe.evaluation.normalize,
            on_progress=work,
        )


def measure_pixels(run: Run) -> Measured:
    """Measure retrieval by the raw pixels of a run's test images, without any network."""
    with run.display.doing("comparing the pixels of test images", len(run.test)) as work:
        pixels = raw_pixels(fixed_views(run.recipe, run.test), count=len(run.test), on_progress=work)
    return retrieval(run.recipe, pixels, run.test, run.num_queries)


def measure_student(run: Run, embeddings: np.ndarray) -> Measured:
    """Measure retrieval by the embeddings `[num_test_images, dim]` of a run's student, and keep them."""
    return retrieval(run.recipe, embeddings, run.test, run.num_queries)._replace(embeddings=embeddings)


class StudentRetrieval:
    """Retrieval among a run's test images with its student, measured again only if the student's weights have changed.

    Weights are compared to the last bit, so that nothing that changes them has to say so: steps, a checkpoint that is
    restored, an optimizer that averages them when training ends.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sum_over_workers = sum_over_workers(run.strategy)
        self._weights: str | None = None
        self._last: Measured | None = None

    def __call__(self) -> Measured:
        """Measure the student as it is now. The run has test images; its workers must call this together."""
        weights = _weights_checksum(self._run)
        # Workers may differ in a last bit and restore the chief's weights, but embed together or not at all.
        if any(self._sum_over_workers([weights != self._weights])):
            self._weights = self._last = None  # frees the old embeddings before the new ones are computed
            self._last = measure_student(self._run, embed_test_images(self._run))
            self._weights = weights
        return self._last


def _weights_checksum(run: Run) -> str:
    digest = hashlib.sha256()
    for variable in run.model.student.variables:
        # On several devices, each has running statistics of its own.
        for value in run.strategy.experimental_local_results(variable.value):
            digest.update(value.numpy().tobytes())
    return digest.hexdigest()


class Agreement:
    """How well a run's pseudo labels agree with the classes of its training images, as both are now.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self) -> float | None:
        """Measure the first batches of the epoch; None if there are no pseudo labels, or no classes."""
        labels = self._run.data.images.labels
        if labels is None or not hasattr(self._run.model, "pseudo_labels"):
            return None
        return mean_agreement(self._similarity_of, self._batches, labels)

    @cached_property
    def _batches(self) -> tf.data.Dataset:
        return self._run.batches().take(AGREEMENT_BATCHES)

    @cached_property
    def _similarity_of(self) -> Callable[[Tensor, Tensor], Tensor]:
        return tf.function(lambda *batch: self._run.model.pseudo_labels(*batch).combined, autograph=False)


def measure_epoch(run: Run, student: StudentRetrieval, agreement: Agreement) -> dict[str, float]:
    """Measure retrieval and, if there are pseudo labels and known classes, their agreement."""
    metrics = student().metrics if run.test else {}
    agreed = agreement()
    return metrics if agreed is None else {**metrics, "agreement": agreed}
