import numpy as np
import pytest

from stml_tf.evaluation.neighbors import nearest_neighbors
from stml_tf.search.approximate import ApproximateIndex


def embeddings_of(count, dim=16, seed=0):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, 4)) @ random.standard_normal((4, dim)) + 0.1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def share_of_true_neighbors(index, embeddings, queries, k=10):
    _, true = nearest_neighbors(queries, embeddings, k=k)
    _, found = index.search(queries, embeddings, k=k)
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(true, found, strict=True)])


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_finds_what_it_says_and_ranks_by_true_distance(kind):
    embeddings, queries = embeddings_of(4000), embeddings_of(200, seed=1)
    index = ApproximateIndex.build(kind, embeddings)
    assert index.recall >= 0.9
    assert share_of_true_neighbors(index, embeddings, embeddings[:200]) == pytest.approx(index.recall, abs=0.05)
    distances, indices = index.search(queries, embeddings, k=7)
    assert (distances.dtype, indices.dtype, distances.shape) == (np.float32, np.int64, (200, 7))
    assert (np.diff(distances, axis=1) >= 0).all()
    np.testing.assert_allclose(distances, np.linalg.norm(queries[:, None] - embeddings[indices], axis=2), atol=1e-5)
    assert all(len(set(row)) == 7 for row in indices)


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_more_can_be_added_and_a_file_keeps_it(kind, tmp_path):
    embeddings = embeddings_of(1500)
    index = ApproximateIndex.build(kind, embeddings[:1000])
    index.add(embeddings[1000:])
    index.tune(embeddings)
    index.save(tmp_path / "index")
    loaded = ApproximateIndex.load(tmp_path / "index", kind, effort=index.effort)
    distances, indices = loaded.search(embeddings[1000:], embeddings, k=1)
    assert (distances < 1e-6).mean() > 0.9
    assert (indices[:, 0] == np.arange(1000, 1500)).mean() > 0.9
    for one, other in zip(
        index.search(embeddings, embeddings, k=5), (loaded.search(embeddings, embeddings, k=5)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
@pytest.mark.parametrize(("count", "dim"), [(2, 7), (40, 1), (90, 13)])
def test_small_galleries_of_any_dimension_get_all_they_ask_for(kind, count, dim, capfd):
    embeddings = embeddings_of(count, dim=dim)
    index = ApproximateIndex.build(kind, embeddings)
    _, indices = index.search(embeddings[:2], embeddings, k=count)
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
        index.search(embeddings[:3], embeddings, k=500),
        nearest_neighbors(embeddings[:3], embeddings, k=500),
        strict=True,
    ):
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_names_the_least_number():
    with pytest.raises(ValueError, match="the kind hnsw needs at least 2 images, and there is 1: use the kind exact"):
        ApproximateIndex.build("hnsw", np.ones((1, 4), np.float32))
