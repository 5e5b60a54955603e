"""Retrieval metrics of queries that search a separate gallery, as in In-Shop Clothes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stml_tf.evaluation.metrics import query_results, with_agreement
from stml_tf.evaluation.query_results import QueryResults

__all__ = ["query_gallery_metrics", "query_gallery_results"]


def query_gallery_metrics(
    embeddings: Any,
    labels: Any,
    *,
    num_queries: int | None,
    recall_at: Sequence[int] = (1, 2, 4, 8),
    nmi: bool = False,
) -> dict[str, float | int]:
    """Measure retrieval of the first rows among the others.

    Args:
        embeddings: `[num_queries + num_gallery, dim]`, any finite range, the queries first.
        labels: `[num_queries + num_gallery]` integers.
        num_queries: Number of rows that are queries; None if every row is one, and searches the other rows.
        recall_at: The K of each Recall@K.
        nmi: Whether to also cluster the queries; see `retrieval_metrics`.

    Returns:
        What `retrieval_metrics` returns.

    Raises:
        ValueError: If there is no query or no gallery, and like `retrieval_metrics`.
    """
    results = query_gallery_results(embeddings, labels, num_queries=num_queries, recall_at=recall_at)
    queries = slice(num_queries)
    return with_agreement(results.metrics(), embeddings[queries], labels[queries]) if nmi else results.metrics()


def query_gallery_results(
    embeddings: Any, labels: Any, *, num_queries: int | None, recall_at: Sequence[int] = (1, 2, 4, 8)
) -> QueryResults:
    """Find what each query retrieves. Takes and raises what `query_gallery_metrics` does, which averages it."""
    if num_queries is None:
        return query_results(embeddings, labels, recall_at=recall_at)
    embeddings, labels = np.asarray(embeddings), np.asarray(labels)
    if not 0 < num_queries < len(embeddings):
        raise ValueError(
            f"num_queries is {num_queries} of {len(embeddings)} rows, but has to leave a row on either side: the "
            "queries come first, then the gallery"
        )
    return query_results(
        embeddings[:num_queries],
        labels[:num_queries],
        gallery_embeddings=embeddings[num_queries:],
        gallery_labels=labels[num_queries:],
        recall_at=recall_at,
    )
