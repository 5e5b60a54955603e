"""Retrieval metrics: how often the nearest neighbours of a query share its class.

Recall@K is the share of queries with an image of their class among their K nearest. R-precision and MAP@R, as in
Musgrave, Belongie, Lim, "A Metric Learning Reality Check" (ECCV 2020), section 3.2, look at the R nearest, R being the
number of other images of the query's class. NMI compares k-means clusters with the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stml_tf.errors import UserError
from stml_tf.evaluation.neighbors import neighbor_chunks
from stml_tf.evaluation.query_results import QueryResults

__all__ = ["query_results", "retrieval_metrics"]

_LARGEST_FULL_KMEANS = 20_000


def retrieval_metrics(
    embeddings: Any,
    labels: Any,
    *,
    recall_at: Sequence[int] = (1, 2, 4, 8),
    nmi: bool = False,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
) -> dict[str, float | int]:
    """Measure retrieval of images of the same class by Euclidean distance.

    Args:
        embeddings: `[num_queries, dim]`, any finite range, not normalised here.
        labels: `[num_queries]` integers.
        recall_at: The K of each Recall@K. If K exceeds the number of candidates, all candidates count, so that a small
            test set can be measured with the usual settings.
        nmi: Whether to also cluster `embeddings` into as many clusters as there are classes.
        gallery_embeddings: `[num_gallery, dim]` embeddings to search; None searches `embeddings`, leaving out each
            query itself.
        gallery_labels: `[num_gallery]` integers; required with `gallery_embeddings`.

    Returns:
        `recall@K` for each K, `r_precision`, `map@r` and, on request, `nmi`, all in [0, 1]; `queries`, the number of
        queries that were averaged over; and `queries_without_match`, the number that were left out because no other
        image has their class.

    Raises:
        ValueError: If labels do not fit the embeddings, only half a gallery is given, or `nearest_neighbors` refuses
            the embeddings.
        UserError: If a K is below 1, or no query has a match.
    """
    results = query_results(
        embeddings,
        labels,
        recall_at=recall_at,
        gallery_embeddings=gallery_embeddings,
        gallery_labels=gallery_labels,
    )
    return with_agreement(results.metrics(), embeddings, labels) if nmi else results.metrics()


def query_results(
    embeddings: Any,
    labels: Any,
    *,
    recall_at: Sequence[int] = (1, 2, 4, 8),
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
) -> QueryResults:
    """Find what each query retrieves. Takes and raises what `retrieval_metrics` does, which averages it."""
    embeddings = np.asarray(embeddings)
    labels = _checked_labels(labels, embeddings, "labels")
    if not recall_at or min(recall_at) < 1:
        raise UserError(f"recall_at is {list(recall_at)}, but must hold at least one K, each 1 or more")
    if (gallery_embeddings is None) != (gallery_labels is None):
        raise ValueError("gallery_embeddings and gallery_labels go together: give both, or neither")

    among_themselves = gallery_embeddings is None
    if among_themselves:
        candidate_labels = labels
    else:
        candidate_labels = _checked_labels(gallery_labels, np.asarray(gallery_embeddings), "gallery_labels")
    num_matches = _count_each(labels, candidate_labels) - among_themselves
    findable = num_matches > 0
    if not findable.any():
        raise UserError(
            f"none of the {len(labels)} queries has another image of its class to find: "
            "retrieval needs classes of two images or more"
        )

    k = min(max(*recall_at, num_matches.max()), len(candidate_labels) - among_themselves)
    parts: list[tuple[np.ndarray, ...]] = []
    for rows, _, indices in neighbor_chunks(embeddings, gallery_embeddings, k=k, exclude_self=among_themselves):
        counted = findable[rows]
        correct = candidate_labels[indices[counted]] == labels[rows][counted, None]
        found = np.stack([correct[:, :recall_k].any(axis=1) for recall_k in recall_at], axis=1)
        relevant = num_matches[rows][counted, None]
        correct &= np.arange(k) < relevant
        precisions = correct.cumsum(axis=1, dtype=np.int32) / np.arange(1, k + 1)
        r_precision = (correct / relevant).sum(axis=1)
        average_precision = (precisions * correct / relevant).sum(axis=1)
        parts.append((found, r_precision, average_precision, indices[counted, 0]))
    found, r_precision, average_precision, nearest = (np.concatenate(each) for each in zip(*parts, strict=True))
    return QueryResults(
        recall_at=tuple(recall_at),
        rows=np.flatnonzero(findable),
        num_queries=len(labels),
        found=found,
        r_precision=r_precision,
        average_precision=average_precision,
        nearest=nearest,
    )


def with_agreement(metrics: dict[str, float | int], embeddings: Any, labels: Any) -> dict[str, float | int]:
    """Add NMI to metrics, before the counts of queries.

    Args:
        metrics: What `QueryResults.metrics` returns.
        embeddings: `[num_queries, dim]`, which are clustered.
        labels: `[num_queries]` integers.

    Returns:
        The metrics with `nmi`, in [0, 1].
    """
    counts = {name: metrics[name] for name in ("queries", "queries_without_match")}
    others = {name: value for name, value in metrics.items() if name not in counts}
    return {**others, "nmi": _clustering_agreement(np.asarray(embeddings), np.asarray(labels)), **counts}


def _checked_labels(labels: Any, embeddings: np.ndarray, name: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"{name} have the shape {labels.shape}, but embeddings of the shape {embeddings.shape} "
            f"need one label a row, {embeddings.shape[:1]}"
        )
    return labels


def _count_each(labels: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Count how often each label `[num_queries]` occurs in `among` `[num_gallery]`; returns int64 `[num_queries]`."""
    among = np.sort(among)
    return np.searchsorted(among, labels, side="right") - np.searchsorted(among, labels, side="left")


def _clustering_agreement(embeddings: np.ndarray, labels: np.ndarray) -> float:
    # Takes a second to import, for a metric that few ask for.
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.metrics import normalized_mutual_info_score

    num_classes = len(np.unique(labels))
    # Full k-means compares every image with every centre in every round; for many images, samples have to do.
    if len(embeddings) <= _LARGEST_FULL_KMEANS:
        clustering = KMeans(num_classes, n_init=1, random_state=0)
    else:
        clustering = MiniBatchKMeans(num_classes, n_init=1, batch_size=4096, random_state=0)
    clusters = clustering.fit_predict(np.asarray(embeddings, np.float32))
    return float(normalized_mutual_info_score(labels, clusters))
