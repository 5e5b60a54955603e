"""Divides images into clusters of look-alikes, with scikit-learn's k-means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import pairwise_distances, silhouette_score

_LARGEST_FULL_KMEANS = 20_000
_SAMPLE = 3_000
_BLOCK = 16_384


@dataclass(frozen=True, eq=False)
class Clusters:
    """A division into clusters, numbered from 0, the largest first.

    Attributes:
        labels: Int64 `[count]`: the cluster of each embedding.
        distances: Float32 `[count]`: Euclidean distance to the centre of its cluster.
    """

    labels: np.ndarray
    distances: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """How many embeddings each cluster has, int64 `[num_clusters]`."""
        return np.bincount(self.labels)


def cluster_embeddings(embeddings: np.ndarray, *, num_clusters: int | None = None, seed: int = 0) -> Clusters:
    """Divide embeddings into clusters.

    Args:
        embeddings: `[count, dim]`, finite numbers; may be a memory-mapped array, which is read a part at a time.
        num_clusters: How many; None chooses, see `choose_num_clusters`.
        seed: Of where the centres start.

    Returns:
        The division. Fewer clusters come back if fewer embeddings differ.

    Raises:
        ValueError: If there are more clusters than embeddings.
    """
    embeddings = np.asarray(embeddings, np.float32)
    count = len(embeddings)
    if num_clusters is None:
        num_clusters = choose_num_clusters(embeddings, seed=seed)
    if not 1 <= num_clusters <= count:
        raise ValueError(f"{num_clusters} clusters were asked for, but there can be 1 to {count}, the number of images")
    model = _kmeans(num_clusters, count, seed).fit(embeddings)
    labels, distances = np.empty(count, np.int64), np.empty(count, np.float32)
    for start in range(0, count, _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = embeddings[rows]
        labels[rows] = model.predict(block)
        distances[rows] = np.linalg.norm(block - model.cluster_centers_[labels[rows]], axis=1)
    found, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(found), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(found))
    return Clusters(rank[labels], distances)


def choose_num_clusters(embeddings: np.ndarray, *, seed: int = 0) -> int:
    """The number of clusters, of 2, 3, 4, 6, 8, 12 and so on, whose clusters are most apart.

    Measured by the mean silhouette (Rousseeuw, J. Comput. Appl. Math. 20, 1987) of a sample of 3,000 embeddings, which
    Ward's method divides once for all numbers. Of kinds that have a single image in the sample it knows nothing.

    Args:
        embeddings: `[count, dim]`, finite numbers.
        seed: Of the sample.

    Returns:
        The number; 1 where there are fewer than four embeddings that differ.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(embeddings))[:_SAMPLE])
    sample = np.unique(np.asarray(embeddings[rows], np.float32), axis=0)
    candidates = sorted(size << power for power in range(20) for size in (2, 3) if size << power <= len(sample) // 2)
    if not candidates:
        return 1
    distances = pairwise_distances(sample)
    divisions = cut_tree(linkage(sample, "ward"), candidates).T
    scores = [silhouette_score(distances, labels, metric="precomputed") for labels in divisions]
    return candidates[int(np.argmax(scores))]


def _kmeans(num_clusters: int, count: int, seed: int) -> KMeans | MiniBatchKMeans:
    if count <= _LARGEST_FULL_KMEANS:
        return KMeans(num_clusters, n_init=1, random_state=seed)
    # Every round of full k-means visits every image with every centre; many images settle for samples of them.
    batch_size = max(4096, 4 * num_clusters)
    return MiniBatchKMeans(num_clusters, n_init=1, batch_size=batch_size, compute_labels=False, random_state=seed)
