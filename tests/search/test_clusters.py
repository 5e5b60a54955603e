import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from stml_tf.search import clusters
from stml_tf.search.clusters import cluster_embeddings

SIZES = [40, 70, 10, 25, 30, 55]


def blobs(sizes=SIZES, dim=12):
    random = np.random.default_rng(0)
    centres = 4 * np.eye(dim)[: len(sizes)]
    labels = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (centres[labels] + 0.1 * random.standard_normal((len(labels), dim))).astype(np.float32), labels


@pytest.mark.parametrize("largest_full", [20_000, 10])
def test_clear_clusters_are_found_largest_first(monkeypatch, largest_full):
    monkeypatch.setattr(clusters, "_LARGEST_FULL_KMEANS", largest_full)
    monkeypatch.setattr(clusters, "_BLOCK", 17)
    embeddings, labels = blobs()
    found = cluster_embeddings(embeddings)
    assert found.sizes.tolist() == sorted(SIZES, reverse=True)
    assert len(set(zip(labels, found.labels, strict=True))) == len(SIZES)
    for number in range(len(SIZES)):
        own = embeddings[found.labels == number]
        expected = np.linalg.norm(own - own.mean(axis=0), axis=1)
        np.testing.assert_allclose(found.distances[found.labels == number], expected, atol=0.1)


def test_the_number_can_be_given():
    embeddings, _ = blobs()
    assert len(cluster_embeddings(embeddings, num_clusters=2).sizes) == 2
    np.testing.assert_array_equal(cluster_embeddings(embeddings, num_clusters=1).labels, 0)


@pytest.mark.parametrize(("num_clusters", "size", "spread"), [(12, 20, 1.0), (5, 200, 1.0), (100, 50, 0.7)])
def test_as_many_clusters_as_stand_apart(num_clusters, size, spread):
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_clusters), size)
    embeddings = random.standard_normal((num_clusters, 64))[labels] + spread * random.standard_normal((len(labels), 64))
    found = cluster_embeddings(embeddings.astype(np.float32))
    assert len(found.sizes) == pytest.approx(num_clusters, rel=0.05)
    assert normalized_mutual_info_score(labels, found.labels) > 0.95


def test_what_does_not_stand_apart_is_divided_all_the_same():
    embeddings = np.random.default_rng(0).standard_normal((1000, 64)).astype(np.float32)
    assert 10 < len(cluster_embeddings(embeddings).sizes) < 100


def test_a_sample_divides_all(monkeypatch):
    monkeypatch.setattr(clusters, "_SAMPLE", 100)
    embeddings, labels = blobs()
    assert len(set(zip(labels, cluster_embeddings(embeddings).labels, strict=True))) == len(SIZES)


def test_no_warning_comes_out(recwarn):
    cluster_embeddings(np.repeat(np.eye(5), 4, axis=0), num_clusters=9)
    assert not recwarn


@pytest.mark.parametrize("embeddings", [np.ones((1, 3)), np.ones((9, 3)), np.eye(3)])
def test_what_hardly_differs_is_one_cluster(embeddings):
    np.testing.assert_array_equal(cluster_embeddings(embeddings).labels, 0)


@pytest.mark.parametrize("number", [0, 201])
def test_refuses(number):
    with pytest.raises(ValueError, match=f"{number} clusters were asked for, but there can be 1 to 200"):
        cluster_embeddings(np.zeros((200, 2)), num_clusters=number)
