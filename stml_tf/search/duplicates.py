"""Finds groups of images that look alike, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_BLOCK = 2048
_ROUNDING = 1e-6  # Of a cosine in float32: an image is not exactly like its own copy.


def find_duplicates(
    embeddings: np.ndarray, *, threshold: float, on_progress: Callable[[int, int], None] | None = None
) -> list[np.ndarray]:
    """Group embeddings whose cosine similarity reaches a threshold.

    An image is in a group if it is that similar to at least one other of the group, so two of a group may be less alike
    than the threshold. Every pair is looked at, a block at a time, and only groups are kept: the time grows with the
    square of the number of images, the memory with their number.

    Args:
        embeddings: `[count, dim]`, finite numbers, normalised or not.
        threshold: Least cosine similarity of two duplicates, above 0 and at most 1.
        on_progress: Called with how many pairs are done and how many there are.

    Returns:
        The groups of two and more, the largest first: rows, int64, ascending.

    Raises:
        ValueError: If the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold is {threshold}, but must be a cosine similarity above 0 and at most 1")
    count = len(embeddings)
    group = np.arange(count)
    done = 0
    for first in range(0, count, _BLOCK):
        rows = _unit_rows(embeddings[first : first + _BLOCK])
        for second in range(first, count, _BLOCK):
            columns = _unit_rows(embeddings[second : second + _BLOCK]) if second > first else rows
            alike, other = np.nonzero(rows @ columns.T >= threshold - _ROUNDING)
            group = _merge(group, group[first + alike], group[second + other])
            # Of the pairs of a block with itself, one half.
            done += len(rows) * (len(rows) - 1) // 2 if second == first else len(rows) * len(columns)
            if on_progress is not None:
                on_progress(done, count * (count - 1) // 2)
    order = np.argsort(group, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return sorted((rows for rows in groups if len(rows) > 1), key=lambda rows: (-len(rows), rows[0]))


def _unit_rows(embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, np.float32)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.divide(embeddings, lengths, out=np.zeros_like(embeddings), where=lengths > 0)


def _merge(group: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Give the groups `left[i]` and `right[i]` one number, the lowest of all that they join."""
    pairs = np.unique(np.stack([left, right])[:, left != right], axis=1)
    if not pairs.size:
        return group
    groups, positions = np.unique(pairs, return_inverse=True)
    positions = positions.reshape(pairs.shape)
    links = coo_array((np.ones(positions.shape[1], bool), tuple(positions)), shape=(len(groups), len(groups)))
    _, component = connected_components(links, directed=False)
    # `groups` ascends, so the first of a component is its lowest.
    _, first = np.unique(component, return_index=True)
    renamed = np.arange(len(group))
    renamed[groups] = groups[first][component]
    return renamed[group]
