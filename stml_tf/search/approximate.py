"""Approximate nearest neighbours with faiss: most of the true neighbours for a fraction of the work.

HNSW (Malkov, Yashunin, arXiv 1603.09320) walks a graph over all embeddings and is the faster one. IVF-PQ (Jégou, Douze,
Schmid, TPAMI 2011) keeps a few bytes per embedding in lists around centres, and is the smaller one. Both only propose
candidates, which are then ranked by their true distance. How hard they look is chosen on a sample of the gallery: the
least effort that finds 95 % of the true ten nearest, or as many as more effort would.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stml_tf.evaluation.neighbors import nearest_neighbors

_WANTED_RECALL = 0.95
_SAMPLE = 200
_K = 10
_LEAST_GAIN = 0.002  # Twice the effort has to be worth something.
_FIRST_EFFORT = 16
_MOST_LINKS_HELD = 4096
_BLOCK = 65_536
_CANDIDATES_PER_NEIGHBOR = {"hnsw": 2, "ivfpq": 10}
_LINKS = 32
_POINTS_PER_CENTRE = 39  # Below this, faiss warns that there is too little to learn from.


class ApproximateIndex:
    """Search of a gallery's embeddings that may miss some neighbours.

    Args:
        index: faiss's index over them.
        kind: Which it is.
        effort: How hard to look: lists visited by IVF-PQ, nodes kept in view by HNSW.

    Attributes:
        recall: The share of the true ten nearest that was found on a sample; None until `tune`.
    """

    def __init__(self, index: Any, kind: Literal["hnsw", "ivfpq"], *, effort: int = _FIRST_EFFORT) -> None:
        self._index = index
        self._kind = kind
        self.effort = effort
        self.recall: float | None = None

    @classmethod
    def build(cls, kind: Literal["hnsw", "ivfpq"], embeddings: np.ndarray) -> ApproximateIndex:
        """Index embeddings `[count, dim]` float32, and tune the index.

        Raises:
            ValueError: If there are fewer than two embeddings.
        """
        import faiss

        count, dim = embeddings.shape
        if count < 2:
            raise ValueError(f"the kind {kind} needs at least 2 images, and there is {count}: use the kind exact")
        if kind == "hnsw":
            index = faiss.IndexHNSWFlat(dim, _LINKS)
        else:
            centres = max(1, min(int(4 * count**0.5), count // _POINTS_PER_CENTRE))
            bits = int(np.clip(np.log2(max(2, count / _POINTS_PER_CENTRE)), 1, 8))
            index = faiss.IndexIVFPQ(faiss.IndexFlatL2(dim), dim, centres, _pieces(dim), bits)
            # Few points give few lists, and faiss need not complain of it.
            index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
            index.train(_sample(embeddings, max(_BLOCK, centres * 64)))
        built = cls(index, kind)
        built.add(embeddings)
        built.tune(embeddings)
        return built

    @classmethod
    def load(cls, file: Path, kind: Literal["hnsw", "ivfpq"], *, effort: int = _FIRST_EFFORT) -> ApproximateIndex:
        """Read what `save` wrote."""
        import faiss

        return cls(faiss.read_index(str(file)), kind, effort=effort)

    def save(self, file: Path) -> None:
        import faiss

        faiss.write_index(self._index, str(file))

    def add(self, embeddings: np.ndarray) -> None:
        """Index more embeddings `[count, dim]` float32, behind those that are there."""
        for block in _blocks(embeddings):
            self._index.add(block)

    def tune(self, embeddings: np.ndarray) -> None:
        """Choose the effort, and measure what it finds, on a sample of all the embeddings `[count, dim]`."""
        rows = np.sort(np.random.default_rng(0).permutation(len(embeddings))[:_SAMPLE])
        k = min(_K + 1, len(embeddings))  # Every row finds itself, which is not counted.
        true_distances, _ = nearest_neighbors(embeddings[rows], embeddings, k=k)
        most = self._index.nlist if self._kind == "ivfpq" else min(_MOST_LINKS_HELD, len(embeddings))
        effort, self.recall = min(_FIRST_EFFORT, most), -1.0
        while True:
            before, self.effort = (self.effort, self.recall), effort
            found_distances, found = self.search(embeddings[rows], embeddings, k=k)
            self.recall = _share_found(rows, true_distances, found_distances, found)
            if self.recall < before[1] + _LEAST_GAIN:
                self.effort, self.recall = before
                return
            if self.recall >= _WANTED_RECALL or effort == most:
                return
            effort = min(2 * effort, most)

    def search(self, queries: np.ndarray, embeddings: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find k neighbours of each query.

        Args:
            queries: `[num_queries, dim]`, float32.
            embeddings: `[count, dim]`, float32: all that is indexed, in the same order.
            k: At most `count`.

        Returns:
            As `stml_tf.evaluation.neighbors.nearest_neighbors` does; the distances are true ones.
        """
        candidates = min(len(embeddings), max(_CANDIDATES_PER_NEIGHBOR[self._kind] * k, _FIRST_EFFORT))
        if self._kind == "hnsw":
            self._index.hnsw.efSearch = max(self.effort, candidates)
        else:
            self._index.nprobe = self.effort
        _, proposed = self._index.search(np.ascontiguousarray(queries, np.float32), candidates)
        distances = np.empty((len(queries), k), np.float32)
        indices = np.empty((len(queries), k), np.int64)
        for row, query in enumerate(queries):
            # Sorted, so that true ties rank as in an exact search. Fewer than k proposed: only an exact search helps.
            own = np.sort(proposed[row][proposed[row] >= 0])
            if len(own) < k:
                (distances[row],), (indices[row],) = nearest_neighbors(query[None], embeddings, k=k)
            else:
                (distances[row],), (chosen,) = nearest_neighbors(query[None], embeddings[own], k=k)
                indices[row] = own[chosen]
        return distances, indices


def _share_found(rows: np.ndarray, true_distances: np.ndarray, found_distances: np.ndarray, found: np.ndarray) -> float:
    """Of each row's true neighbours, itself left out, the share that was found."""
    others = true_distances.shape[1] - 1
    # By distance: among duplicates it does not matter which are found.
    near = (found_distances <= true_distances[:, -1:] * (1 + 1e-6)) & (found != rows[:, None])
    return float(np.minimum(near.sum(axis=1), others).mean() / others) if others else 1.0


def _pieces(dim: int) -> int:
    """How many pieces IVF-PQ cuts an embedding into: of about four numbers, all of one length."""
    return next(pieces for pieces in range(max(1, dim // 4), dim + 1) if dim % pieces == 0)


def _sample(embeddings: np.ndarray, most: int) -> np.ndarray:
    rows = np.sort(np.random.default_rng(0).permutation(len(embeddings))[:most])
    return np.ascontiguousarray(embeddings[rows], np.float32)


def _blocks(embeddings: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(embeddings), _BLOCK):
        yield np.ascontiguousarray(embeddings[start : start + _BLOCK], np.float32)
