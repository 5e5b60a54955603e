"""Exact neighbours, the queries being the gallery, beside faiss's flat search."""

import faiss
import numpy as np
import pytest

from stml_tf.evaluation import nearest_neighbors

pytestmark = pytest.mark.benchmark


@pytest.mark.parametrize(("dim", "k"), [(512, 5), (512, 1000), (1024, 5)])
def test_neighbors(benchmarks, dim, k):
    embeddings = np.random.default_rng(0).standard_normal((20_000, dim)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    benchmarks.compare(
        f"neighbours, 20,000 x {dim}, k {k}",
        lambda: nearest_neighbors(embeddings, k=k),
        "`faiss.knn`",
        lambda: faiss.knn(embeddings, embeddings, k),
        reach="0.65",
        rounds=3,
    )
