"""Agreement of pseudo labels with true classes, which are only looked at, never trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

__all__ = ["mean_agreement", "pseudo_label_agreement"]


def pseudo_label_agreement(similarity: Any, labels: Any, image_ids: Any) -> float:
    """Compute the average precision of a similarity as a predictor of "same class", over the pairs of a batch.

    Args:
        similarity: `[batch, batch]` floats, such as `SelfTaughtSimilarity.combined`.
        labels: `[batch]` integers, the true classes.
        image_ids: `[batch]` integers. Pairs of views of the same image are left out, as they are right by construction.

    Returns:
        Average precision in [0, 1]: 1 if every pair of the same class is more similar than every other pair, and about
        the share of such pairs if the similarity is uninformative. NaN if the batch has no pair of the same class.

    Raises:
        ValueError: If the shapes do not fit.
    """
    from sklearn.metrics import average_precision_score  # slow to import

    similarity, labels, image_ids = np.asarray(similarity), np.asarray(labels), np.asarray(image_ids)
    if labels.ndim != 1 or similarity.shape != (len(labels), len(labels)) or image_ids.shape != labels.shape:
        raise ValueError(
            f"similarity {similarity.shape}, labels {labels.shape} and image_ids {image_ids.shape} do not fit: "
            "they must be [batch, batch], [batch] and [batch]"
        )
    different_images = image_ids[:, None] != image_ids
    same_class = (labels[:, None] == labels)[different_images]
    if not same_class.any():
        return float("nan")
    return float(average_precision_score(same_class, similarity[different_images]))


def mean_agreement(
    similarity_of: Callable[[Any, Any], Any], batches: Iterable[tuple[Any, Any]], labels: np.ndarray
) -> float | None:
    """Average `pseudo_label_agreement` over batches.

    Args:
        similarity_of: A function of views and image ids that returns `[batch * num_views, batch * num_views]`, with the
            views of an image in adjacent rows.
        batches: Pairs of views `[batch, num_views, ...]` and image ids `[batch]`.
        labels: `[num_images]` integers, the true classes.

    Returns:
        A number in [0, 1]; None if no batch has a pair of the same class.
    """
    scores = []
    for views, image_ids in batches:
        rows = np.repeat(image_ids, views.shape[1])
        scores.append(pseudo_label_agreement(similarity_of(views, image_ids), labels[rows], rows))
    found = [score for score in scores if not np.isnan(score)]
    return float(np.mean(found)) if found else None
