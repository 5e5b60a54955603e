"""Exact nearest neighbours by Euclidean distance, in bounded memory.

Squared distances are expanded into `|q|^2 + |g|^2 - 2 q.g` on centred rows, one block of queries and gallery at a time,
and a running best k is kept per query. The products are taken in float64: NumPy's are as fast there as in float32 on
many processors, near duplicates keep their order, and rounding the result to float32 makes exact ties of true ties.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["nearest_neighbors", "neighbor_chunks"]

# A squared distance below this share of `|q|^2 + |g|^2` is within float32's own resolution: the rows are one point.
_SAME_POINT = 1e-13
_INDEX_BITS = 32
_SELF_FIRST = -1 << _INDEX_BITS
_NEVER = (0x7F800000 << _INDEX_BITS) + 2**_INDEX_BITS - 1  # At an infinite distance.
_SPARSE = 16  # Where fewer than one in so many are near, they are worth picking out.


def nearest_neighbors(
    queries: Any, gallery: Any = None, *, k: int, exclude_self: bool = False, chunk_size: int = 2048
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest gallery rows of every query.

    Args:
        queries: `[num_queries, dim]`, any finite numbers, array or tensor; need not be normalised.
        gallery: `[num_gallery, dim]`, likewise. None searches the queries among themselves; then a row's nearest
            neighbour is always itself, even beside duplicates, unless `exclude_self` leaves it out.
        k: How many neighbours, at most the number of candidates.
        exclude_self: Leave each row's own index out, wherever it would rank. Needs `gallery` to be None.
        chunk_size: About `chunk_size**2` distances are held at a time.

    Returns:
        Distances, float32 `[num_queries, k]`, ascending, and indices into the gallery, int64 `[num_queries, k]`.
        Among equal distances the lower index comes first.

    Raises:
        ValueError: For empty, mismatched or non-finite embeddings, a `k` beyond the candidates, or `exclude_self` with
            a gallery.
    """
    chunks = neighbor_chunks(queries, gallery, k=k, exclude_self=exclude_self, chunk_size=chunk_size)
    distances = np.empty((len(queries), k), np.float32)
    indices = np.empty((len(queries), k), np.int64)
    for rows, chunk_distances, chunk_indices in chunks:
        distances[rows], indices[rows] = chunk_distances, chunk_indices
    return distances, indices


def neighbor_chunks(
    queries: Any, gallery: Any = None, *, k: int, exclude_self: bool = False, chunk_size: int = 2048
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Search as `nearest_neighbors` does, and hand out the result a few queries at a time.

    Args:
        queries: `[num_queries, dim]`; this and the rest as for `nearest_neighbors`, and so are the errors.
        gallery: `[num_gallery, dim]` or None.
        k: How many neighbours.
        exclude_self: Leave each row's own index out.
        chunk_size: About `chunk_size**2` distances are held at a time.

    Returns:
        An iterator over `(rows, distances [rows, k], indices [rows, k])`; `rows` is a slice of the queries.
    """
    among_themselves = gallery is None
    if exclude_self and not among_themselves:
        raise ValueError("exclude_self is for a search among the queries themselves: leave out the gallery, or it")
    queries = _checked(queries, "queries")
    gallery = queries if among_themselves else _checked(gallery, "gallery")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"queries have {queries.shape[1]} dimensions and the gallery {gallery.shape[1]}; both must have the same"
        )
    candidates = len(gallery) - exclude_self
    if not 1 <= k <= candidates:
        raise ValueError(f"k is {k}, but must be from 1 to the number of candidates, here {candidates}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}, but must be at least 1")
    return _search(queries, gallery, k, among_themselves, exclude_self, chunk_size)


def _checked(embeddings: Any, name: str) -> np.ndarray:
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or embeddings.size == 0:
        raise ValueError(f"{name} have the shape {embeddings.shape}, but must be [rows, dim] with at least one row")
    # The extremes are finite only if everything is, and need no array of flags.
    if not np.isfinite(embeddings.min()) or not np.isfinite(embeddings.max()):
        bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        raise ValueError(f"{name} hold NaN or infinity in {len(bad)} of {len(embeddings)} rows, the first is {bad[0]}")
    return embeddings


def _search(
    queries: np.ndarray, gallery: np.ndarray, k: int, among_themselves: bool, exclude_self: bool, chunk_size: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    # Blocks as wide as k keep the number of merges down, and fewer rows then keep the block's size.
    width = min(len(gallery), max(chunk_size, k))
    height = max(1, chunk_size**2 // (width + k))
    center = gallery.mean(axis=0, dtype=np.float64)
    # Float32's exponent is narrow: with everything divided by the largest value, no square leaves it.
    bounds = [queries.min(axis=0), queries.max(axis=0), gallery.min(axis=0), gallery.max(axis=0)]
    scale = np.abs(np.stack(bounds) - center).max() or 1.0

    def block_of(embeddings: np.ndarray, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        block = (embeddings[start : start + size] - center) / scale
        return block, np.einsum("nd,nd->n", block, block)

    for first_query in range(0, len(queries), height):
        query, query_norms = block_of(queries, first_query, height)
        own = np.arange(first_query, first_query + len(query))
        best = np.empty((len(query), 0), np.int64)
        limit = np.full(len(query), np.inf)
        for first in range(0, len(gallery), width):
            block, norms = block_of(gallery, first, width)
            here = np.flatnonzero(among_themselves & (own >= first) & (own < first + len(block)))
            itself = here, own[here] - first
            squared = (-2 * query) @ block.T
            squared += norms
            near = squared <= (limit - query_norms)[:, None]
            near[itself] = not exclude_self
            if np.count_nonzero(near) > near.size // _SPARSE:
                squared += query_norms[:, None]
                keys = _ranking_keys(squared, query_norms[:, None] + norms, np.arange(first, first + len(block)))
                keys[itself] = _NEVER if exclude_self else own[here] + _SELF_FIRST
            else:
                rows, columns = np.nonzero(near)
                squared = squared[rows, columns] + query_norms[rows]
                near_keys = _ranking_keys(squared, query_norms[rows] + norms[columns], first + columns)
                if among_themselves:
                    near_keys += np.where(first + columns == own[rows], _SELF_FIRST, 0)
                keys = _side_by_side(rows, near_keys, len(query))
            best = np.concatenate([best, keys], axis=1)
            if best.shape[1] > k:
                best = np.partition(best, k - 1, axis=1)[:, :k]
            if best.shape[1] == k:
                limit = _squared_distances(best.max(axis=1)) * (1 + 1e-6) + _SAME_POINT * query_norms
        best.sort(axis=1)
        distances = (np.sqrt(_squared_distances(best)) * scale).astype(np.float32)
        yield slice(first_query, first_query + len(query)), distances, best & (2**_INDEX_BITS - 1)


def _ranking_keys(squared: np.ndarray, norm_sums: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Squared distances and gallery indices as single integers, int64, of the shape of `squared`, which is overwritten.

    The bits of a non-negative float32 order as the number does. With the index below them, one plain partition ranks by
    distance, then index.
    """
    norm_sums *= _SAME_POINT
    squared[squared <= norm_sums] = 0
    keys = squared.astype(np.float32).view(np.int32).astype(np.int64)
    keys <<= _INDEX_BITS
    keys |= indices
    return keys


def _squared_distances(keys: np.ndarray) -> np.ndarray:
    """The squared distances in ranking keys, float64."""
    return np.maximum(keys >> _INDEX_BITS, 0).astype(np.int32).view(np.float32).astype(np.float64)


def _side_by_side(rows: np.ndarray, keys: np.ndarray, height: int) -> np.ndarray:
    """Keys `[count]` of ascending `rows` `[count]` as int64 `[height, most of a row]`, filled up with `_NEVER`."""
    counts = np.bincount(rows, minlength=height)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((height, counts.max()), _NEVER)
    table[rows, places] = keys
    return table
