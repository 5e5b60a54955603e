import numpy as np
import pytest

from stml_tf.search import clusters
from stml_tf.search.clusters import choose_num_clusters, cluster_embeddings

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


def test_the_number_that_fits_is_chosen():
    assert choose_num_clusters(blobs()[0]) == 6
    assert choose_num_clusters(blobs([50, 40, 30])[0]) == 3


@pytest.mark.parametrize("embeddings", [np.ones((1, 3)), np.ones((9, 3)), np.eye(3)])
def test_what_hardly_differs_is_one_cluster(embeddings):
    np.testing.assert_array_equal(cluster_embeddings(embeddings).labels, 0)


@pytest.mark.parametrize("number", [0, 201])
def test_refuses(number):
    with pytest.raises(ValueError, match=f"{number} clusters were asked for, but there can be 1 to 200"):
        cluster_embeddings(np.zeros((200, 2)), num_clusters=number)
