"""Exact nearest neighbours by Euclidean distance, in bounded memory.

Candidates come from float32 or coarser products, with bounds on their errors. Whatever these bounds leave open is
decided by differences in float64, so that near duplicates keep their order and true ties are ties. Queries whose
neighbours may not all be among the candidates, as with many duplicates, are compared with the whole gallery in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from stml_tf.errors import UserError
from stml_tf.evaluation.candidates import Candidates, CandidateSearch

__all__ = ["nearest_neighbors", "neighbor_chunks"]

# A squared distance below this share of `|q|^2 + |g|^2`, expanded in float64, is within its error: the rows coincide.
_SAME_POINT = 1e-13
_ALWAYS_EXACT = 32  # As many of the nearest are measured exactly; others only if float32 products do not suffice.
_PRECISE = 2.0**16  # A squared distance of as many times its error is precise to float32.
_CACHED = 2**17  # As many numbers fit into the processor's cache.


def nearest_neighbors(
    queries: Any, gallery: Any = None, *, k: int, exclude_self: bool = False, chunk_size: int = 4096
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest gallery rows of every query.

    Args:
        queries: `[num_queries, dim]` array or tensor, any finite range, normalised or not.
        gallery: `[num_gallery, dim]`, likewise. None searches the queries themselves; the nearest neighbour of a row is
            then always the row, even among duplicates, unless `exclude_self` leaves it out.
        k: Number of neighbours, at most the number of candidates.
        exclude_self: Whether to leave out each row's own index, wherever it would rank. Requires `gallery` to be None.
        chunk_size: About `chunk_size**2` distances are held at a time.

    Returns:
        Distances, `[num_queries, k]` float32, ascending, and indices into the gallery, `[num_queries, k]` int64. Of
        equal distances, the lower index comes first.

    Raises:
        ValueError: If embeddings are empty, mismatched or not finite, `k` exceeds the number of candidates, or
            `exclude_self` is given with a gallery.
    """
    chunks = neighbor_chunks(queries, gallery, k=k, exclude_self=exclude_self, chunk_size=chunk_size)
    distances = np.empty((len(queries), k), np.float32)
    indices = np.empty((len(queries), k), np.int64)
    for rows, chunk_distances, chunk_indices in chunks:
        distances[rows], indices[rows] = chunk_distances, chunk_indices
    return distances, indices


def neighbor_chunks(
    queries: Any, gallery: Any = None, *, k: int, exclude_self: bool = False, chunk_size: int = 4096
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Search like `nearest_neighbors`, and yield the result a few queries at a time.

    Args:
        queries: `[num_queries, dim]`; see `nearest_neighbors`, as for all others.
        gallery: `[num_gallery, dim]`, or None.
        k: Number of neighbours.
        exclude_self: Whether to leave out each row's own index.
        chunk_size: About `chunk_size**2` distances are held at a time.

    Returns:
        An iterator over `(rows, distances, indices)`: a slice of the queries, and arrays `[rows, k]`.

    Raises:
        ValueError: Like `nearest_neighbors`.
    """
    if exclude_self and gallery is not None:
        raise ValueError("exclude_self is for a search among the queries themselves: leave out the gallery, or it")
    queries = _checked(queries, "queries")
    gallery = gallery if gallery is None else _checked(gallery, "gallery")
    searched = queries if gallery is None else gallery
    if queries.shape[1] != searched.shape[1]:
        raise UserError(
            f"queries have {queries.shape[1]} dimensions and the gallery {searched.shape[1]}; both must have the same"
        )
    candidates = len(searched) - exclude_self
    if not 1 <= k <= candidates:
        raise UserError(f"k is {k}, but must be from 1 to the number of candidates, here {candidates}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}, but must be at least 1")
    return _Search(queries, gallery, int(k), exclude_self, held=chunk_size**2).chunks()


def _checked(embeddings: Any, name: str) -> np.ndarray:
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or embeddings.size == 0:
        raise ValueError(f"{name} have the shape {embeddings.shape}, but must be [rows, dim] with at least one row")
    # The extremes are finite only if everything is, and need no array of flags.
    if not np.isfinite(embeddings.min()) or not np.isfinite(embeddings.max()):
        bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        raise UserError(f"{name} hold NaN or infinity in {len(bad)} of {len(embeddings)} rows, the first is {bad[0]}")
    return embeddings


class _Search:
    """A gallery and queries, both as they are and as products are taken.

    Products are taken of centred rows, for precision, divided by a power of two, which is exact and keeps squares
    within float32's narrow exponent.
    """

    def __init__(self, queries: np.ndarray, gallery: np.ndarray | None, k: int, exclude_self: bool, held: int) -> None:
        self.among_themselves = gallery is None
        self.queries = queries
        self.gallery = queries if gallery is None else gallery
        self.k = k
        self.exclude_self = exclude_self
        self.held = held
        self.center = self.gallery.mean(axis=0, dtype=np.float64)
        extremes = [each for rows in (self.queries, self.gallery) for each in (rows.min(axis=0), rows.max(axis=0))]
        largest = np.abs(np.stack(extremes) - self.center).max()
        self.scale = 2.0 ** np.ceil(np.log2(largest)) if largest else 1.0
        self.moved_gallery = self._moved(self.gallery, np.float32)

    def chunks(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yield the neighbours of all queries; see `neighbor_chunks`."""
        find = CandidateSearch(
            self.moved_gallery, k=self.k + self.exclude_self, num_queries=len(self.queries), held=self.held
        )

        def candidates(rows: slice) -> Candidates:
            known = self.among_themselves
            return find(self.moved_gallery[rows] if known else self._moved(self.queries[rows], np.float32))

        blocks = _slices(len(self.queries), self.held // (16 * find.count))
        with ThreadPoolExecutor(1) as ahead:  # The next block's candidates are found while this one's are ranked.
            upcoming = ahead.submit(candidates, blocks[0])
            for rows, following in zip(blocks, [*blocks[1:], None], strict=True):
                found = upcoming.result()
                if following is not None:
                    upcoming = ahead.submit(candidates, following)
                numbers = np.arange(rows.start, rows.stop)
                distances, indices = self._ranked(numbers, found.indices, self._squared(numbers, found))
                settled = (distances[:, -1] / self.scale) ** 2 + found.error < found.beyond
                if self.among_themselves and not self.exclude_self:
                    settled &= indices[:, 0] == numbers
                unsettled = np.flatnonzero(~settled)
                for some in _slices(len(unsettled), self.held // len(self.gallery)):
                    places = unsettled[some]
                    distances[places], indices[places] = self._among_all(numbers[places])
                yield rows, np.maximum(distances, 0), indices

    def _squared(self, numbers: np.ndarray, found: Candidates) -> np.ndarray:
        """Return the candidates' squared distances, float64, precise enough to rank the nearest."""
        error = found.error[:, None]
        squared = found.squared.astype(np.float64)
        close = np.diff(squared, axis=1) <= error  # errors are a third of their bound; see `CandidateSearch._error`
        unsure = squared <= _PRECISE * error
        unsure[:, 1:] |= close
        unsure[:, :-1] |= close
        unsure[:, :_ALWAYS_EXACT] = True
        last = min(self.k + self.exclude_self, squared.shape[1]) - 1
        unsure &= squared <= squared[:, last, None] + 2 * error
        rows, columns = np.nonzero(unsure)
        squared[rows, columns] = self._differences(numbers[rows], found.indices[rows, columns])
        return np.maximum(squared, 0)

    def _differences(self, numbers: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Compute the exact squared distances of pairs of a query and a gallery row, `[pairs]` float64."""
        squared = np.empty(len(numbers))
        for pairs in _slices(len(numbers), _CACHED // self.gallery.shape[1]):
            difference = np.subtract(self.queries[numbers[pairs]], self.gallery[indices[pairs]], dtype=np.float64)
            difference /= self.scale
            squared[pairs] = np.einsum("nd,nd->n", difference, difference)
        return squared

    def _ranked(self, numbers: np.ndarray, indices: np.ndarray, squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest of `indices` `[rows, count]`, by float32 distance, then by index."""
        distances = (np.sqrt(squared) * self.scale).astype(np.float32)
        self._place_themselves(distances, indices == numbers[:, None])
        # The bits of a float32 sort like the number: with the index below them, one plain sort ranks by both.
        keys = (distances.view(np.int32).astype(np.int64) << 32) | indices
        keys.sort(axis=1)
        keys = keys[:, : self.k]
        return (keys >> 32).astype(np.int32).view(np.float32), keys & 0xFFFFFFFF

    def _place_themselves(self, distances: np.ndarray, themselves: Any) -> None:
        if self.among_themselves:
            distances[themselves] = np.inf if self.exclude_self else -1

    def _among_all(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest of queries without candidates."""
        queries = self._moved(self.queries[numbers], np.float64)
        norms = np.einsum("nd,nd->n", queries, queries)[:, None]
        squared = np.empty((len(queries), len(self.gallery)))
        for columns in _slices(len(self.gallery), self.held // len(self.gallery)):
            block = self._moved(self.gallery[columns], np.float64)
            norm_sums = norms + np.einsum("nd,nd->n", block, block)
            part = norm_sums - 2 * (queries @ block.T)
            squared[:, columns] = np.where(part <= _SAME_POINT * norm_sums, 0, part)
        distances = np.sqrt(squared).astype(np.float32)
        self._place_themselves(distances, (np.arange(len(numbers)), numbers))
        indices = np.empty((len(numbers), self.k), np.int64)
        for row, limit in enumerate(np.partition(distances, self.k - 1, axis=1)[:, self.k - 1]):
            near = np.flatnonzero(distances[row] <= limit)
            indices[row] = near[np.argsort(distances[row, near], kind="stable")[: self.k]]
        squared = self._differences(np.repeat(numbers, self.k), indices.ravel()).reshape(indices.shape)
        return self._ranked(numbers, indices, squared)

    def _moved(self, embeddings: np.ndarray, dtype: type) -> np.ndarray:
        moved = np.empty(embeddings.shape, dtype)
        for rows in _slices(len(embeddings), _CACHED // embeddings.shape[1]):
            moved[rows] = (embeddings[rows] - self.center) / self.scale
        return moved


def _slices(length: int, size: int) -> list[slice]:
    """Divide `length` rows into slices of `size`, or of one row if `size` is less than that."""
    size = max(1, size)
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]
