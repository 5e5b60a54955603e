import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stml_tf.evaluation.neighbors import nearest_neighbors, neighbor_chunks


def slow_neighbors(queries, gallery, k, skip=None, first=None):
    """Rank by (distance, index), one query at a time, from plain differences in float64."""
    result = []
    for row, query in enumerate(queries.astype(np.float64)):
        distances = np.sqrt(((gallery.astype(np.float64) - query) ** 2).sum(axis=1)).astype(np.float32)
        ranked = sorted(
            (column for column in range(len(gallery)) if skip is None or column != row),
            key=lambda column: (not (first and column == row), distances[column], column),
        )
        result.append(ranked[:k])
    return np.array(result)


def random_rows(rows, dim, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


def test_goldens():
    golden = np.load(Path(__file__).parents[1] / "goldens" / "retrieval.npz")
    embeddings, expected = golden["embeddings"], golden["nearest_neighbors_5"]
    distances, indices = nearest_neighbors(embeddings, k=5)
    # Rows 16 and 17 are identical, and the golden leaves their order to chance: compare them as one.
    np.testing.assert_array_equal(np.where(indices == 17, 16, indices), np.where(expected == 17, 16, expected))
    np.testing.assert_array_equal(indices[:, 0], np.arange(len(embeddings)))
    differences = embeddings[:, None] - embeddings[indices]
    np.testing.assert_allclose(distances, np.linalg.norm(differences, axis=2), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_the_slow_form_whatever_the_blocks_and_the_duplicates(data):
    rows, dim = data.draw(st.integers(2, 30)), data.draw(st.integers(1, 5))
    # A grid of few values: most rows have duplicates, and most distances tie.
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    embeddings = random.integers(0, data.draw(st.integers(1, 4)), (rows, dim)).astype(np.float32)
    chunk_size = data.draw(st.integers(1, 12))
    exclude_self = data.draw(st.booleans())
    k = data.draw(st.integers(1, rows - exclude_self))
    _, indices = nearest_neighbors(embeddings, k=k, exclude_self=exclude_self, chunk_size=chunk_size)
    expected = slow_neighbors(embeddings, embeddings, k, skip=exclude_self or None, first=not exclude_self)
    np.testing.assert_array_equal(indices, expected)

    queries = random.integers(0, 4, (7, dim)).astype(np.float32)
    distances, indices = nearest_neighbors(queries, embeddings, k=min(k, rows), chunk_size=chunk_size)
    np.testing.assert_array_equal(indices, slow_neighbors(queries, embeddings, min(k, rows)))
    direct = np.linalg.norm(queries[:, None] - embeddings[indices], axis=2)
    np.testing.assert_allclose(distances, direct, rtol=1e-6)


@pytest.mark.parametrize("exclude_self", [False, True])
def test_equals_the_slow_form_where_few_of_a_block_are_near(exclude_self):
    # Sixty blocks: of the later ones, hardly anything is nearer than what is found. Every fifth row is there twice.
    embeddings = random_rows(3000, 3)
    embeddings[::5] = embeddings[1::5]
    distances, indices = nearest_neighbors(embeddings, k=4, exclude_self=exclude_self, chunk_size=50)
    some = np.arange(0, 3000, 97)
    direct = np.linalg.norm(embeddings[some, None].astype(np.float64) - embeddings, axis=2).astype(np.float32)
    direct[np.arange(len(some)), some] = np.inf if exclude_self else -1
    expected = np.argsort(direct, axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(indices[some], expected)
    np.testing.assert_allclose(distances[some], np.maximum(np.take_along_axis(direct, expected, 1), 0), rtol=1e-6)


def test_own_index_leads_beside_duplicates_and_is_left_out_by_index():
    embeddings = np.tile(random_rows(1, 8), (50, 1))
    distances, indices = nearest_neighbors(embeddings, k=3, chunk_size=7)
    np.testing.assert_array_equal(indices[:, 0], np.arange(50))
    np.testing.assert_array_equal(distances, 0)
    _, others = nearest_neighbors(embeddings, k=49, exclude_self=True, chunk_size=7)
    for row in range(50):
        np.testing.assert_array_equal(others[row], np.delete(np.arange(50), row))


def test_near_duplicates_far_from_the_origin_keep_their_order():
    # A tight cloud 1e4 away from zero: without centring, float32 products would see one single point.
    offsets = 2.0 ** np.arange(-6, 4)
    embeddings = np.full((10, 3), 1e4, np.float32)
    embeddings[:, 0] += offsets
    distances, indices = nearest_neighbors(embeddings[:1], embeddings, k=10)
    np.testing.assert_array_equal(indices[0], np.arange(10))
    np.testing.assert_allclose(distances[0], offsets - offsets[0], rtol=1e-5)


def test_near_duplicates_within_a_wide_cloud_keep_their_order():
    embeddings = random_rows(500, 64)
    step = np.eye(64, dtype=np.float32)[0] * 1e-4
    embeddings[100:105] = embeddings[0] + step * np.arange(1, 6)[:, None]
    _, indices = nearest_neighbors(embeddings, k=6)
    np.testing.assert_array_equal(indices[0], [0, 100, 101, 102, 103, 104])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge_embeddings_rank_alike(scale):
    embeddings = random_rows(40, 6)
    distances, indices = nearest_neighbors(embeddings, k=10)
    scaled_distances, scaled_indices = nearest_neighbors((embeddings * np.float32(scale)), k=10)
    np.testing.assert_array_equal(indices, scaled_indices)
    np.testing.assert_allclose(scaled_distances, distances * scale, rtol=1e-5)


def test_ties_and_near_ties_among_many_neighbors_keep_the_order_of_float64():
    # Of a thousand neighbours only the doubtful are looked at again. Here every fourth row is there twice, and another
    # moved by less than float32 products can tell.
    embeddings = random_rows(1500, 48)
    embeddings[1::4] = embeddings[::4]
    embeddings[2::4] = embeddings[::4] * np.float32(1 + 1e-5)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    distances, indices = nearest_neighbors(embeddings[:60], embeddings, k=1000)
    differences = embeddings[:60, None].astype(np.float64) - embeddings
    exact = np.sqrt((differences**2).sum(axis=2))
    np.testing.assert_allclose(distances, np.take_along_axis(exact, indices, axis=1), rtol=2e-6)
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :1000], rtol=2e-6)
    expected = np.argsort(exact.astype(np.float32), axis=1, kind="stable")[:, :1000]
    # Where an order differs, float32 cannot tell the two distances apart.
    found, wanted = (np.take_along_axis(exact, each, axis=1) for each in (indices, expected))
    np.testing.assert_allclose(found, wanted, rtol=3e-7)
    np.testing.assert_array_equal(indices[:, :32], expected[:, :32])


def test_a_collapsed_gallery_is_searched_all_the_same():
    embeddings = np.ones((3000, 16), np.float32)
    embeddings[2999] = 0
    distances, indices = nearest_neighbors(embeddings, k=3)
    np.testing.assert_array_equal(indices[5], [5, 0, 1])
    np.testing.assert_array_equal(indices[2999], [2999, 0, 1])
    np.testing.assert_allclose(distances[2999], [0, 4, 4])


def test_types_and_half_precision_input():
    distances, indices = nearest_neighbors(random_rows(9, 4).astype(np.float16), k=2)
    assert (distances.dtype, indices.dtype, distances.shape) == (np.float32, np.int64, (9, 2))


def test_chunks_cover_all_queries_in_order():
    embeddings = random_rows(100, 4)
    distances, indices = nearest_neighbors(embeddings, k=60)
    seen = []
    for rows, chunk_distances, chunk_indices in neighbor_chunks(embeddings, k=60, chunk_size=50):
        seen.extend(range(rows.start, rows.stop))
        np.testing.assert_array_equal(chunk_distances, distances[rows])
        np.testing.assert_array_equal(chunk_indices, indices[rows])
    assert seen == list(range(100))


def test_memory_stays_far_below_the_distance_matrix():
    embeddings = random_rows(5000, 4)  # all distances in float32 would be 100 MB
    tracemalloc.start()
    nearest_neighbors(embeddings, k=5, chunk_size=512)
    for _ in neighbor_chunks(embeddings[:200], embeddings, k=4000, chunk_size=512):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize(
    ("queries", "gallery", "options", "message"),
    [
        (random_rows(5, 3), None, {"k": 6}, "k is 6, but must be from 1 to the number of candidates, here 5"),
        (random_rows(5, 3), None, {"k": 5, "exclude_self": True}, "number of candidates, here 4"),
        (random_rows(5, 3), None, {"k": 0}, "k is 0, but must be from 1"),
        (random_rows(5, 3), random_rows(5, 4), {"k": 1}, "queries have 3 dimensions and the gallery 4"),
        (random_rows(5, 3), random_rows(5, 3), {"k": 1, "exclude_self": True}, "exclude_self is for a search among"),
        (np.empty((0, 3)), None, {"k": 1}, r"queries have the shape \(0, 3\)"),
        (random_rows(5, 3), np.empty((0, 3)), {"k": 1}, r"gallery have the shape \(0, 3\)"),
        (np.arange(3.0), None, {"k": 1}, r"queries have the shape \(3,\)"),
        (np.array([[0.0], [np.nan], [np.inf]]), None, {"k": 1}, "infinity in 2 of 3 rows, the first is 1"),
        (random_rows(5, 3), None, {"k": 1, "chunk_size": 0}, "chunk_size is 0, but must be at least 1"),
    ],
)
def test_bad_input_is_refused_before_the_search(queries, gallery, options, message):
    with pytest.raises(ValueError, match=message):
        neighbor_chunks(queries, gallery, **options)
