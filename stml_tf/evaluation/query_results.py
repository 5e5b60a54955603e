"""The results of single queries, whose means are the retrieval metrics, and the uncertainty of those means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class QueryResults:
    """The results of each query that has a match.

    Attributes:
        recall_at: The K of Recall@K.
        rows: `[counted]` int64, which of all queries these are; the others have nothing of their class to find.
        num_queries: How many queries there are, those included.
        found: `[counted, len(recall_at)]` bool, whether one of the K nearest is of the query's class.
        r_precision: `[counted]` float64 in [0, 1].
        average_precision: `[counted]` float64 in [0, 1]; its mean is MAP@R.
        nearest: `[counted]` int64, the nearest candidate.
    """

    recall_at: tuple[int, ...]
    rows: np.ndarray
    num_queries: int
    found: np.ndarray
    r_precision: np.ndarray
    average_precision: np.ndarray
    nearest: np.ndarray

    def metrics(self) -> dict[str, float | int]:
        """Average over the queries: what `retrieval_metrics` returns, without NMI."""
        counted = len(self.rows)
        recalls = {
            f"recall@{k}": int(hits) / counted for k, hits in zip(self.recall_at, self.found.sum(0), strict=True)
        }
        return {
            **recalls,
            "r_precision": float(self.r_precision.sum()) / counted,
            "map@r": float(self.average_precision.sum()) / counted,
            "queries": counted,
            "queries_without_match": self.num_queries - counted,
        }


def bootstrap_interval(values: np.ndarray, *, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Find the percentile bootstrap interval of a mean.

    Args:
        values: `[count]`, one number a query: a result, or the difference of two.
        confidence: How often an interval so found holds the true mean.
        seed: Of the resampling.

    Returns:
        Its lower and its upper end.
    """
    from scipy.stats import bootstrap  # Half a second to import, for a figure that a report alone shows.

    values = np.asarray(values, np.float64)
    if len(values) < 2 or (values == values[0]).all():
        return float(values.mean()), float(values.mean())
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=max(1, 2_000_000 // len(values)),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)
