"""Lays embeddings out in two dimensions, for people to look at."""

from __future__ import annotations

import warnings

import numpy as np

from stml_tf.errors import UserError

FEWEST = 5
_STEPS = 500  # half of the default's: what moves later is not seen
_DIMS = 50  # t-SNE's distances lose nothing that shows, and take a fraction of the time


def lay_out(embeddings: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, str]:
    """Lay embeddings out so that what is near each other stays near each other.

    Args:
        embeddings: `[images, dim]`, of at least five images; a thousand take a few seconds.
        seed: Of the start.

    Returns:
        Points `[images, 2]`, scaled to [0, 1], and the method: UMAP if the extra `umap` is installed, else t-SNE.

    Raises:
        UserError: If there are fewer than five images.
    """
    count = len(embeddings)
    if count < FEWEST:
        raise UserError(f"{count} images given, but a map needs {FEWEST} or more.")
    embeddings = np.asarray(embeddings, np.float64)
    # Images that are all alike have no map; a little noise spreads them out evenly.
    embeddings = embeddings + np.random.default_rng(seed).normal(0, 1e-6, embeddings.shape)
    try:
        from umap import UMAP
    except ImportError:
        points, method = _tsne(embeddings, seed), "t-SNE"
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that one thread alone is used, as the seed asks for
            points, method = UMAP(n_neighbors=min(15, count - 1), random_state=seed).fit_transform(embeddings), "UMAP"
    points = np.asarray(points, np.float64)
    least, most = points.min(axis=0), points.max(axis=0)
    return (points - least) / np.maximum(most - least, 1e-12), method


def _tsne(embeddings: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    settings = {"perplexity": min(30, (len(embeddings) - 1) / 3), "max_iter": _STEPS, "random_state": seed}
    # Threads meet thousands of times: beside other work on the machine that takes minutes, and alone it saves little.
    with threadpool_limits(1):
        reduced = PCA(min(_DIMS, *embeddings.shape), random_state=seed).fit_transform(embeddings)
        return TSNE(init="pca", **settings).fit_transform(reduced)
