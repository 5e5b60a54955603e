"""Exact nearest neighbours by Euclidean distance, in bounded memory.

Candidates come from float32 products or rougher ones, with bounds on their errors. Whatever these bounds leave open is
decided by differences in float64, so that near duplicates keep their order and true ties are ties; queries whose
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
_ALWAYS_EXACT = 32  # So many of the nearest are measured exactly, further ones where float32 products do not do.
_PRECISE = 2.0**16  # A squared distance so many times its error is as precise as float32 wants it.
_CACHED = 2**17  # So many numbers stay in the processor's cache.


def nearest_neighbors(
    queries: Any, gallery: Any = None, *, k: int, exclude_self: bool = False, chunk_size: int = 4096
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
    queries: Any, gallery: Any = None, *, k: int, exclude_self: bool = False, chunk_size: int = 4096
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
    """A gallery and queries, as they are, and moved to where products are taken.

    Products are of centred rows, for precision, divided by a power of two, which rounds nothing and keeps squares
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
        """The neighbours of all queries, as `neighbor_chunks` hands them out."""
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
        """Candidates' squared distances, float64, as good as it takes to rank the nearest by them."""
        error = found.error[:, None]
        squared = found.squared.astype(np.float64)
        close = np.diff(squared, axis=1) <= error  # errors are a third of their bound, see there
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
        """Squared distances of pairs of a query and a gallery row, exactly, float64 `[pairs]`."""
        squared = np.empty(len(numbers))
        for pairs in _slices(len(numbers), _CACHED // self.gallery.shape[1]):
            difference = np.subtract(self.queries[numbers[pairs]], self.gallery[indices[pairs]], dtype=np.float64)
            difference /= self.scale
            squared[pairs] = np.einsum("nd,nd->n", difference, difference)
        return squared

    def _ranked(self, numbers: np.ndarray, indices: np.ndarray, squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of `indices` `[rows, count]`: by distance, float32, then index."""
        distances = (np.sqrt(squared) * self.scale).astype(np.float32)
        self._place_themselves(distances, indices == numbers[:, None])
        # The bits of a float32 order as the number does: with the index below them, one plain sort ranks by both.
        keys = (distances.view(np.int32).astype(np.int64) << 32) | indices
        keys.sort(axis=1)
        keys = keys[:, : self.k]
        return (keys >> 32).astype(np.int32).view(np.float32), keys & 0xFFFFFFFF

    def _place_themselves(self, distances: np.ndarray, themselves: Any) -> None:
        if self.among_themselves:
            distances[themselves] = np.inf if self.exclude_self else -1

    def _among_all(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of queries, found without candidates."""
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
    """`length` rows in slices of `size`, or of one row where `size` is less than that."""
    size = max(1, size)
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]
