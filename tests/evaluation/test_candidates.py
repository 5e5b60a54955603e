"""What the search for neighbours relies on: no candidate is farther off than said, and nothing nearer is left out."""

import numpy as np
import pytest

from stml_tf.evaluation import candidates
from stml_tf.evaluation.candidates import CandidateSearch
from stml_tf.evaluation.neighbors import nearest_neighbors

ROWS, DIM, K = 6000, 24, 5


def rows_of(kind, rows=ROWS, seed=0):
    random = np.random.default_rng(seed)
    embeddings = random.standard_normal((rows, DIM))
    if kind == "clusters":
        embeddings = random.standard_normal((30, DIM))[random.integers(0, 30, rows)] + 0.1 * embeddings
    if kind == "outlier":
        embeddings[17] *= 1000
    return (embeddings - embeddings.mean(axis=0)).astype(np.float32)


def squared_distances(queries, gallery):
    queries, gallery = queries.astype(np.float64), gallery.astype(np.float64)
    return ((queries[:, None] - gallery) ** 2).sum(axis=2)


@pytest.fixture
def rough(monkeypatch):
    """Products in bfloat16, whatever the processor and however little there is to do."""
    monkeypatch.setattr(candidates, "_ROUGH_LEAST", 0)
    monkeypatch.setattr(candidates, "has_native_bfloat16", lambda: True)


def check_bounds(embeddings):
    queries = embeddings[:40]
    search = CandidateSearch(embeddings, k=K, num_queries=40, held=ROWS * 16)
    found = search(queries)
    true = squared_distances(queries, embeddings)
    np.testing.assert_array_less(
        np.abs(found.squared - np.take_along_axis(true, found.indices, axis=1))[:, :K],
        np.broadcast_to(found.error[:, None], (40, K)),
    )
    np.put_along_axis(true, found.indices, np.inf, axis=1)
    assert (true.min(axis=1) >= found.beyond).all()
    return search


@pytest.mark.parametrize("kind", ["noise", "clusters", "outlier"])
def test_bounds_hold_for_float32(kind):
    assert check_bounds(rows_of(kind))._rough is None


@pytest.mark.parametrize("kind", ["noise", "clusters", "outlier"])
def test_bounds_hold_for_rough_products(rough, kind):
    embeddings = rows_of(kind)
    search = check_bounds(embeddings)
    # The bound of the rough products by themselves, on a gallery that is no multiple of a group's size.
    indices, beyond = search._rough(embeddings[:40])
    true = squared_distances(embeddings[:40], embeddings)
    np.put_along_axis(true, indices, np.inf, axis=1)
    assert (true.min(axis=1) >= beyond).all()
    assert all(len(set(row)) == len(row) for row in indices)


@pytest.mark.parametrize("kind", ["noise", "clusters", "outlier"])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_rough_products_and_float32_find_the_same(rough, monkeypatch, kind, exclude_self):
    embeddings = rows_of(kind)
    embeddings[4000:4100] = embeddings[0]  # more duplicates than there are candidates
    embeddings[5000:5010] = embeddings[1]
    roughly = nearest_neighbors(embeddings, k=K, exclude_self=exclude_self)
    monkeypatch.setattr(candidates, "_ROUGH_LEAST", np.inf)
    in_float32 = nearest_neighbors(embeddings, k=K, exclude_self=exclude_self)
    for a, b in zip(roughly, in_float32, strict=True):
        np.testing.assert_array_equal(a, b)
    first = [] if exclude_self else [4050]
    np.testing.assert_array_equal(roughly[1][4050], [*first, 0, *range(4000, 4003 + exclude_self)])


def test_a_large_gallery_is_searched_in_parts(rough):
    embeddings = rows_of("clusters")
    search = CandidateSearch(embeddings, k=1, num_queries=40, held=3500 * candidates._ROUGH_ROWS)
    assert [size for size, *_ in search._rough._parts] == [3000, 3000]
    found = search(embeddings[:40])
    true = squared_distances(embeddings[:40], embeddings)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(40))
    np.put_along_axis(true, found.indices, np.inf, axis=1)
    assert (true.min(axis=1) >= found.beyond).all()


def test_many_neighbors_are_left_to_float32(rough):
    embeddings = rows_of("noise")
    assert CandidateSearch(embeddings, k=100, num_queries=ROWS, held=10**6)._rough is None
    assert CandidateSearch(embeddings, k=5, num_queries=ROWS, held=10**6)._rough is not None
