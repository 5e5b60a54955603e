"""The rows of a run's results: the label of each, and which is best."""

from collections.abc import Mapping

# What else is measured is shown under the name that it is given.
_LABELS = {
    "raw_pixels": "raw pixels",
    "frozen_features": "frozen features",
    "whitened_features": "frozen, whitened to {dim}",
    "before_training": "before training",
    "after_training": "after training",
    "as_exported": "as exported",
}


def label_of(row: str, metrics: Mapping[str, float]) -> str:
    """Return what people read for a key of `metrics.json`, such as "after training" for "after_training"."""
    return _LABELS[row].format(dim=metrics.get("dim")) if row in _LABELS else row


def best_of(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return the key of the row with the highest MAP@R."""
    return max(rows, key=lambda name: rows[name]["map@r"])
