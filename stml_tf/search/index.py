"""Approximate nearest neighbours with faiss: most of the true neighbours for a fraction of the work.

HNSW (Malkov, Yashunin, arXiv 1603.09320) walks a graph over the embeddings and is the faster one. IVF-PQ (Jégou, Douze,
Schmid, TPAMI 2011) keeps a few bytes per embedding in lists around centres, is built sooner, and proposes candidates
that faiss then ranks by their true distance.

Equal embeddings, as copies of a picture have, are indexed once: a graph in which thousands of nodes lie in one place
leads nowhere else. How hard to look is chosen on a sample of the distinct embeddings: twice as hard, until 95 % of the
true ten nearest are found.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Literal

import numpy as np

from stml_tf.errors import UserError
from stml_tf.evaluation.neighbors import nearest_neighbors

WANTED_RECALL = 0.95
_SAMPLE = 200
_K = 10
_FIRST_EFFORT = 16
_MOST_LINKS_HELD = 16_384
_CANDIDATES_PER_NEIGHBOR = 10
_MOST_CANDIDATES_PER_NEIGHBOR = 320
_BLOCK = 65_536
_LINKS = 32
_POINTS_PER_CENTRE = 39  # Below this, faiss warns that there is too little to learn from.
_ROUNDING = 1e-5  # Relative: batches of other sizes give one picture embeddings that differ in the last bits.
_PROJECTIONS = 6
_MOST_IN_A_CELL = 64

ApproximateKind = Literal["hnsw", "ivfpq"]


class ApproximateIndex:
    """Search of a gallery's embeddings that may miss some neighbours.

    Args:
        base: faiss's index over the distinct embeddings.
        kind: Which it is.
        embeddings: `[count, dim]`, float32: all of the gallery.
        first_equal: `[count]`, int64: for each embedding, the first one that is equal to it.
        effort: How hard to look: nodes that HNSW keeps in view; lists that IVF-PQ visits, and beyond their number,
            candidates that it proposes.

    Attributes:
        recall: The share of the true ten nearest distinct embeddings that was found on a sample; None until `tune`.
    """

    def __init__(
        self,
        base: Any,
        kind: ApproximateKind,
        embeddings: np.ndarray,
        first_equal: np.ndarray,
        *,
        effort: int = _FIRST_EFFORT,
    ) -> None:
        self.kind = kind
        self.effort = effort
        self.recall: float | None = None
        self.first_equal = first_equal
        self._base = base
        self._embeddings = embeddings
        # The copies of the n-th distinct embedding are `self._rows[self._starts[n] : self._starts[n + 1]]`.
        self._distinct = np.flatnonzero(first_equal == np.arange(len(first_equal)))
        self._rows = np.argsort(first_equal, kind="stable")
        self._starts = np.append(np.searchsorted(first_equal[self._rows], self._distinct), len(first_equal))
        self._searched = base
        if kind == "ivfpq":
            import faiss

            self._true = faiss.IndexFlatL2(base.d)
            for start in range(0, base.ntotal, _BLOCK):
                self._true.add(_rows(embeddings, self._distinct[start : start + _BLOCK]))
            self._searched = faiss.IndexRefine(base, self._true)

    @classmethod
    def build(cls, kind: ApproximateKind, embeddings: np.ndarray) -> ApproximateIndex:
        """Index embeddings `[count, dim]` float32, and tune the index.

        Raises:
            UserError: If there are fewer than two embeddings.
        """
        import faiss

        count, dim = embeddings.shape
        if count < 2:
            raise UserError(f"the kind {kind} needs at least 2 images, and there is {count}: use the kind exact")
        first_equal = find_equal(embeddings)
        distinct = np.flatnonzero(first_equal == np.arange(count))
        if kind == "hnsw":
            base = faiss.IndexHNSWFlat(dim, _LINKS)
        else:
            centres = max(1, min(int(4 * len(distinct) ** 0.5), len(distinct) // _POINTS_PER_CENTRE))
            bits = int(np.clip(np.log2(max(2, len(distinct) / _POINTS_PER_CENTRE)), 1, 8))
            base = faiss.IndexIVFPQ(faiss.IndexFlatL2(dim), dim, centres, _pieces(dim), bits)
            # Few points give few lists, and faiss need not complain of it.
            base.cp.min_points_per_centroid = base.pq.cp.min_points_per_centroid = 1
            sample = np.random.default_rng(0).permutation(distinct)[: max(_BLOCK, centres * 64)]
            base.train(_rows(embeddings, np.sort(sample)))
        return cls._filled(base, kind, embeddings, first_equal)

    @classmethod
    def extend(
        cls, base: Any, kind: ApproximateKind, embeddings: np.ndarray, first_equal: np.ndarray
    ) -> ApproximateIndex:
        """Index more embeddings, and tune the index.

        Args:
            base: What `read` gives: the index over the first of the embeddings.
            kind: Which it is.
            embeddings: All of them.
            first_equal: Of the first.
        """
        return cls._filled(base, kind, embeddings, find_equal(embeddings, known=first_equal))

    @staticmethod
    def read(stream: BinaryIO, kind: ApproximateKind, *, count: int, dim: int) -> Any:
        """Read the faiss index that `write` wrote.

        Args:
            stream: The file.
            kind: Which it is.
            count: How many embeddings it holds.
            dim: Their length.

        Raises:
            RuntimeError: If faiss cannot read it.
            ValueError: If it is another index.
        """
        import faiss

        base = faiss.read_index(faiss.PyCallbackIOReader(stream.read))
        expected = {"hnsw": faiss.IndexHNSWFlat, "ivfpq": faiss.IndexIVFPQ}[kind]
        if not isinstance(base, expected) or (base.ntotal, base.d) != (count, dim):
            raise ValueError(f"it is a {type(base).__name__} of {base.ntotal} rows of {base.d} numbers")
        return base

    def write(self, stream: BinaryIO) -> None:
        """Write faiss's index over the distinct embeddings."""
        import faiss

        faiss.write_index(self._base, faiss.PyCallbackIOWriter(stream.write))

    def search(self, queries: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find k neighbours of each query.

        Args:
            queries: `[num_queries, dim]`, float32.
            k: At most `count`.

        Returns:
            As `stml_tf.evaluation.neighbors.nearest_neighbors` does; the distances are true ones.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        squared, found = self._searched.search(queries, min(k, len(self._distinct)), params=self._parameters(k))
        distances, rows = np.sqrt(np.maximum(squared, 0)), np.where(found >= 0, self._distinct[found], -1)
        if len(self._distinct) < len(self._rows):
            distances, rows = self._with_copies(distances, found, k)
        # Fewer than k reached: only an exact search helps.
        lacking = np.flatnonzero((rows < 0).any(axis=1))
        if len(lacking):
            distances[lacking], rows[lacking] = nearest_neighbors(queries[lacking], self._embeddings, k=k)
        order = np.lexsort([rows, distances])  # True ties rank as in an exact search.
        return np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)

    def _with_copies(self, distances: np.ndarray, found: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        all_distances = np.full((len(found), k), np.inf, np.float32)
        all_rows = np.full((len(found), k), -1, np.int64)
        for query, (near, numbers) in enumerate(zip(distances, found, strict=True)):
            filled = 0
            for distance, number in zip(near, numbers, strict=True):
                if number < 0 or filled == k:
                    break
                copies = self._rows[self._starts[number] : self._starts[number + 1]][: k - filled]
                all_distances[query, filled : filled + len(copies)] = distance
                all_rows[query, filled : filled + len(copies)] = copies
                filled += len(copies)
        return all_distances, all_rows

    def _parameters(self, k: int) -> Any:
        import faiss

        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=min(max(self.effort, 2 * k), len(self._distinct)))
        lists = self._base.nlist
        return faiss.IndexRefineSearchParameters(
            k_factor=_CANDIDATES_PER_NEIGHBOR * max(1, self.effort / lists),
            base_index_params=faiss.SearchParametersIVF(nprobe=min(self.effort, lists)),
        )

    @classmethod
    def _filled(
        cls, base: Any, kind: ApproximateKind, embeddings: np.ndarray, first_equal: np.ndarray
    ) -> ApproximateIndex:
        distinct = np.flatnonzero(first_equal == np.arange(len(first_equal)))
        for start in range(base.ntotal, len(distinct), _BLOCK):
            base.add(_rows(embeddings, distinct[start : start + _BLOCK]))
        index = cls(base, kind, embeddings, first_equal)
        index._tune()
        return index

    def _tune(self) -> None:
        """Choose the effort, and measure what it finds, on a sample of the distinct embeddings."""
        count = len(self._distinct)
        if count < 2:
            self.recall = 1.0
            return
        sample = np.sort(np.random.default_rng(0).permutation(count)[:_SAMPLE])
        queries = _rows(self._embeddings, self._distinct[sample])
        k = min(_K + 1, count)  # Every one finds itself, which is not counted.
        distinct = self._embeddings if count == len(self._embeddings) else self._embeddings[self._distinct]
        true_distances, _ = nearest_neighbors(queries, distinct, k=k)
        if self.kind == "ivfpq":
            most = self._base.nlist * _MOST_CANDIDATES_PER_NEIGHBOR // _CANDIDATES_PER_NEIGHBOR
        else:
            most = min(_MOST_LINKS_HELD, count)
        self.effort = min(_FIRST_EFFORT, most)
        while True:
            squared, found = self._searched.search(queries, k, params=self._parameters(k))
            # By distance: among equals it does not matter which are found.
            near = np.sqrt(np.maximum(squared, 0)) <= true_distances[:, -1:] * (1 + 1e-5) + 1e-6
            near &= (found >= 0) & (found != sample[:, None])
            self.recall = float(np.minimum(near.sum(axis=1), k - 1).mean() / (k - 1))
            if self.recall >= WANTED_RECALL or self.effort == most:
                return
            self.effort = min(2 * self.effort, most)


def find_equal(embeddings: np.ndarray, *, known: np.ndarray | None = None) -> np.ndarray:
    """Find embeddings that are equal up to rounding, in bounded memory.

    Args:
        embeddings: `[count, dim]`, float32.
        known: What was found for the first of them, which stays.

    Returns:
        `[count]`, int64: for each, the first that is equal to it; itself where there is none before it.
    """
    count, dim = embeddings.shape
    directions = np.random.default_rng(0).standard_normal((dim, _PROJECTIONS)) / dim**0.5
    projections = np.empty((count, _PROJECTIONS))
    for start in range(0, count, _BLOCK):
        projections[start : start + _BLOCK] = embeddings[start : start + _BLOCK] @ directions
    scale = np.abs(projections).max(initial=0) or 1.0
    # Equal ones share a cell, but for the few that a border parts: those stay distinct, which costs a little space.
    cells = np.round(projections / (scale * 20 * _ROUNDING)).astype(np.int64)
    order = np.lexsort([np.arange(count), *cells.T])
    starts = np.flatnonzero(np.append(True, (np.diff(cells[order], axis=0) != 0).any(axis=1)))
    stops = np.append(starts[1:], count)
    first_equal = np.arange(count)
    for start, stop in zip(starts[stops - starts > 1], stops[stops - starts > 1], strict=True):
        rows = order[start:stop]
        for _ in range(_MOST_IN_A_CELL):
            if len(rows) < 2:
                break
            first, others = rows[0], rows[1:]
            difference = np.abs(embeddings[others] - embeddings[first]).max(axis=1)
            equal = difference <= _ROUNDING * np.abs(embeddings[first]).max()
            first_equal[others[equal]] = first
            rows = others[~equal]
    if known is not None:
        # What is indexed already keeps its place.
        first_equal[: len(known)] = known
        first_equal = first_equal[first_equal]
    return first_equal


def _rows(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(embeddings[rows], np.float32)


def _pieces(dim: int) -> int:
    """Choose how many pieces IVF-PQ cuts an embedding into: of about four numbers, all of one length."""
    return next(pieces for pieces in range(max(1, dim // 4), dim + 1) if dim % pieces == 0)
