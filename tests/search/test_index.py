import io

import numpy as np
import pytest

from stml_tf.evaluation.neighbors import nearest_neighbors
from stml_tf.search import index as module
from stml_tf.search.index import WANTED_RECALL, ApproximateIndex, find_equal


def embeddings_of(count, dim=16, seed=0):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, 4)) @ random.standard_normal((4, dim)) + 0.1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def share_of_true_neighbors(index, embeddings, queries, k=10):
    _, true = nearest_neighbors(queries, embeddings, k=k)
    _, found = index.search(queries, k=k)
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(true, found, strict=True)])


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_finds_what_it_says_and_ranks_by_true_distance(kind):
    embeddings, queries = embeddings_of(4000), embeddings_of(200, seed=1)
    index = ApproximateIndex.build(kind, embeddings)
    assert index.recall >= 0.9
    assert share_of_true_neighbors(index, embeddings, embeddings[:200]) == pytest.approx(index.recall, abs=0.05)
    distances, indices = index.search(queries, k=7)
    assert (distances.dtype, indices.dtype, distances.shape) == (np.float32, np.int64, (200, 7))
    assert (np.diff(distances, axis=1) >= 0).all()
    np.testing.assert_allclose(distances, np.linalg.norm(queries[:, None] - embeddings[indices], axis=2), atol=1e-5)
    assert all(len(set(row)) == 7 for row in indices)


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_more_can_be_added_and_a_file_keeps_it(kind):
    embeddings = embeddings_of(1500)
    embeddings[1200:1300] = embeddings[400:500]
    first = ApproximateIndex.build(kind, embeddings[:1000])
    index = ApproximateIndex.extend(first._base, kind, embeddings, first.first_equal)
    stream = io.BytesIO()
    index.write(stream)
    stream.seek(0)
    base = ApproximateIndex.read(stream, kind, count=1400, dim=embeddings.shape[1])
    loaded = ApproximateIndex(base, kind, embeddings, index.first_equal, effort=index.effort)
    assert base.ntotal == 1400
    distances, indices = loaded.search(embeddings[1000:], k=2)
    assert (distances[:, 0] < 1e-6).mean() > 0.9
    assert (indices == np.arange(1000, 1500)[:, None]).any(axis=1).mean() > 0.9
    for one, other in zip(index.search(embeddings, k=5), loaded.search(embeddings, k=5), strict=True):
        np.testing.assert_array_equal(one, other)


def test_copies_of_one_picture_do_not_hide_the_others():
    copies, others = np.repeat(embeddings_of(1, dim=64, seed=9), 2000, axis=0), embeddings_of(3000, dim=64)
    rounding = 1e-7 * np.random.default_rng(0).standard_normal(copies.shape, dtype=np.float32)
    embeddings = np.concatenate([others[:1500], copies + rounding, others[1500:]])
    index = ApproximateIndex.build("hnsw", embeddings)
    assert index._base.ntotal < 3100, "copies are indexed once"
    assert index.recall >= WANTED_RECALL
    assert share_of_true_neighbors(index, embeddings, others[:300]) >= 0.95
    _, found = index.search(others, k=1)
    assert (found[:, 0] == [*range(1500), *range(3500, 5000)]).mean() > 0.99, "each finds itself"
    distances, found = index.search(copies[:1], k=2000)
    assert len(set(found[0])) == 2000
    assert set(found[0]) == set(range(1500, 3500))
    assert distances.max() < 1e-5


def test_equal_up_to_rounding_is_found_and_what_was_known_stays():
    rows = embeddings_of(50)
    embeddings = np.concatenate([rows, rows[::-1] * (1 + 1e-7), rows + 1e-3])
    equal = find_equal(embeddings)
    np.testing.assert_array_equal(equal[:50], np.arange(50))
    assert (equal[50:100] == np.arange(50)[::-1]).mean() > 0.95, "but for those that a border parts"
    np.testing.assert_array_equal(equal[100:], np.arange(100, 150))
    known = np.arange(60)
    np.testing.assert_array_equal(find_equal(embeddings, known=known)[:60], known)
    np.testing.assert_array_equal(find_equal(np.zeros((3, 4), np.float32)), [0, 0, 0])


def test_a_recall_that_cannot_be_reached_is_told(monkeypatch):
    monkeypatch.setattr(module, "_MOST_LINKS_HELD", 12)
    embeddings = np.random.default_rng(0).standard_normal((4000, 96), dtype=np.float32)
    index = ApproximateIndex.build("hnsw", embeddings)
    assert (index.effort, index.recall < WANTED_RECALL) == (12, True)


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
@pytest.mark.parametrize(("count", "dim"), [(2, 7), (40, 1), (90, 13)])
def test_small_galleries_of_any_dimension_get_all_they_ask_for(kind, count, dim, capfd):
    embeddings = embeddings_of(count, dim=dim)
    index = ApproximateIndex.build(kind, embeddings)
    _, indices = index.search(embeddings[:2], k=count)
    np.testing.assert_array_equal(np.sort(indices), np.tile(np.arange(count), (2, 1)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_among_duplicates_any_of_them_counts_as_found(kind):
    embeddings = np.repeat(embeddings_of(40), 25, axis=0)
    assert ApproximateIndex.build(kind, embeddings).recall == 1


def test_a_search_that_proposes_too_few_is_made_exactly():
    embeddings = embeddings_of(1500)
    index = ApproximateIndex.build("ivfpq", embeddings)
    index.effort = 1  # One list holds some forty.
    for result, expected in zip(
        index.search(embeddings[:3], k=500),
        nearest_neighbors(embeddings[:3], embeddings, k=500),
        strict=True,
    ):
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_names_the_least_number():
    with pytest.raises(ValueError, match="the kind hnsw needs at least 2 images, and there is 1: use the kind exact"):
        ApproximateIndex.build("hnsw", np.ones((1, 4), np.float32))
