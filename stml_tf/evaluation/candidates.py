"""Candidates for the nearest neighbours: found quickly, a few more than needed, with a bound on what was missed.

`faiss.knn` takes float32 products. With a GPU or a processor with native bfloat16, and few neighbours to find among
many rows, TensorFlow takes rough products first, and faiss is left with the queries that these cannot settle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import faiss
import numpy as np

from stml_tf.distribution.processor import has_native_bfloat16

__all__ = ["CandidateSearch", "Candidates"]

_SPARE = 16
_ROUGH_SPARE = 32
_ROUGH_GROUP = 32
_ROUGH_MOST = 64  # With more neighbours, re-examining candidates costs more than rough products save.
_ROUGH_ROWS = 128
_ROUGH_LEAST = 2**36  # With fewer multiply-adds, starting TensorFlow does not pay off.


class Candidates(NamedTuple):
    """Gallery rows that may be the nearest of some queries, by ascending distance.

    Attributes:
        squared: `[rows, count]` float32, squared distances, each off by at most `error`.
        indices: `[rows, count]` int64, rows of the gallery.
        error: `[rows]` float32, the largest error of a squared distance.
        beyond: `[rows]` float32, the smallest squared distance that any other gallery row can have.
    """

    squared: np.ndarray
    indices: np.ndarray
    error: np.ndarray
    beyond: np.ndarray


class CandidateSearch:
    """A search for candidates in a gallery.

    Args:
        gallery: `[num_gallery, dim]` float32, centred, as errors grow with the distance from the origin.
        k: Number of neighbours to find.
        num_queries: Number of queries in total.
        held: Approximate number of distances to hold at a time.
    """

    def __init__(self, gallery: np.ndarray, *, k: int, num_queries: int, held: int) -> None:
        self.gallery = gallery
        self.k = k
        self.count = min(k + _SPARE, len(gallery))
        self._largest_norm = np.einsum("nd,nd->n", gallery, gallery).max()
        few = k <= _ROUGH_MOST and len(gallery) >= 4 * _ROUGH_GROUP * (k + _ROUGH_SPARE)
        rough = few and num_queries * gallery.size >= _ROUGH_LEAST and (has_native_bfloat16() or _has_gpu())
        self._rough = _RoughSearch(gallery, count=k + _ROUGH_SPARE, held=held) if rough else None

    def __call__(self, queries: np.ndarray) -> Candidates:
        """Find the candidates of queries `[rows, dim]` float32, centred like the gallery."""
        if self._rough is None:
            return self._by_faiss(queries)
        indices, beyond = self._rough(queries)
        squared = np.empty(indices.shape, np.float32)
        pointers = map(faiss.swig_ptr, (squared, queries, self.gallery, indices))
        faiss.fvec_L2sqr_by_idx(*pointers, queries.shape[1], *indices.shape)
        order = np.argsort(squared, axis=1)
        squared, indices = np.take_along_axis(squared, order, axis=1), np.take_along_axis(indices, order, axis=1)
        error = self._error(queries, squared)
        found = Candidates(
            squared[:, : self.count],
            indices[:, : self.count],
            error,
            np.minimum(beyond, squared[:, self.count] - error),
        )
        unsettled = np.flatnonzero(squared[:, self.k - 1] + 2 * error >= beyond)
        if unsettled.size:
            for known, better in zip(found, self._by_faiss(queries[unsettled]), strict=True):
                known[unsettled] = better
        return found

    def _by_faiss(self, queries: np.ndarray) -> Candidates:
        squared, indices = faiss.knn(queries, self.gallery, self.count)
        error = self._error(queries, squared)
        beyond = squared[:, -1] - error if self.count < len(self.gallery) else np.full(len(queries), np.inf)
        return Candidates(squared, indices, error, beyond)

    def _error(self, queries: np.ndarray, squared: np.ndarray) -> np.ndarray:
        """Bound the error of the k nearest squared distances, `[rows]`, when products are float32."""
        norms = np.einsum("nd,nd->n", queries, queries)
        # Rounding errors of a product of d terms add up like a random walk to sqrt(d) units in the last place;
        # 200,000 distances in 512 dimensions used a third of that. A neighbour's norm is bounded by its distance.
        units = (np.sqrt(queries.shape[1]) + 8) * 2.0**-24
        return units * (norms + np.minimum(self._largest_norm, 2 * norms + 2 * squared[:, self.k - 1]))


class _RoughSearch:
    """A search for the best few by products in bfloat16, or in the GPU's float32, in blocks."""

    def __init__(self, gallery: np.ndarray, *, count: int, held: int) -> None:
        import tensorflow as tf

        self._type = tf.float32 if _has_gpu() else tf.bfloat16
        self._count = count
        # Products are fast if blocks have many rows, so a large gallery is searched a part at a time.
        parts = np.array_split(gallery, -(-len(gallery) // max(4 * _ROUGH_GROUP * count, held // _ROUGH_ROWS)))
        self._rows = max(1, held // len(parts[0]))
        self._parts = [self._part(part) for part in parts]
        self._best = tf.function(self._best_of_block, reduce_retracing=True)

    def _part(self, gallery: np.ndarray) -> tuple[int, Any, Any]:
        import tensorflow as tf

        padding = -len(gallery) % _ROUGH_GROUP  # with rows that are infinitely far away
        half_norms = np.einsum("nd,nd->n", gallery, gallery) / 2
        rows = tf.pad(tf.cast(gallery, self._type), [[0, padding], [0, 0]])
        return len(gallery), rows, tf.constant(np.pad(half_norms, (0, padding), constant_values=np.inf))

    def __call__(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return candidates, int64 `[rows, candidates]`, and the least squared distance of all others, `[rows]`."""
        first, indices, beyond = 0, [], []
        for size, gallery, half_norms in self._parts:
            of_part, bound = self._search(queries, gallery, half_norms)
            indices.append(first + of_part)
            beyond.append(bound)
            first += size
        return np.concatenate(indices, axis=1), np.minimum.reduce(beyond)

    def _search(self, queries: np.ndarray, gallery: Any, half_norms: Any) -> tuple[np.ndarray, np.ndarray]:
        starts = range(0, len(queries), self._rows)
        blocks = [self._best(queries[start : start + self._rows], gallery, half_norms) for start in starts]
        worst, indices = (np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*blocks, strict=True))
        norms = np.einsum("nd,nd->n", queries, queries)
        squared = norms - 2 * worst
        # Rounding both factors to bfloat16's 8 bits changes a product by at most 2**-8 of itself, rounding the sum by
        # 2**-9 of the sum; by Cauchy-Schwarz, neither exceeds the product of the norms. TensorFloat-32 has 11 bits.
        reach = np.sqrt(norms) + np.sqrt(np.maximum(squared, 0))
        return indices, squared - 3 * 2.0**-8 * np.sqrt(norms) * reach

    def _best_of_block(self, queries: Any, gallery: Any, half_norms: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        products = tf.matmul(tf.cast(queries, self._type), gallery, transpose_b=True)
        scores = tf.cast(products, tf.float32) - half_norms
        # The best few are in the few groups with the best maxima, and the maxima of groups are found quickly.
        groups = tf.reshape(scores, [tf.shape(scores)[0], -1, _ROUGH_GROUP])
        _, leading = tf.math.top_k(tf.reduce_max(groups, axis=2), self._count, sorted=False)
        members = tf.reshape(tf.gather(groups, leading, batch_dims=1), [tf.shape(scores)[0], -1])
        best, places = tf.math.top_k(members, self._count)
        groups_of_best = tf.gather(leading, places // _ROUGH_GROUP, batch_dims=1)
        return best[:, -1], tf.cast(groups_of_best * _ROUGH_GROUP + places % _ROUGH_GROUP, tf.int64)


def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
