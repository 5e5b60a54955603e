import numpy as np
import pytest

from stml_tf.evaluation import query_gallery_metrics, retrieval_metrics


@pytest.fixture
def rows(random):
    return random.normal(size=(30, 4)).astype(np.float32), random.integers(0, 5, 30)


def test_queries_search_the_gallery_alone(rows):
    embeddings, labels = rows
    measured = query_gallery_metrics(embeddings, labels, num_queries=10, recall_at=(1, 3))
    ranks = np.argsort(((embeddings[:10, None] - embeddings[None, 10:]) ** 2).sum(-1), axis=1)
    correct = labels[10:][ranks] == labels[:10, None]
    findable = correct.any(axis=1)
    assert measured["recall@1"] == pytest.approx(correct[findable, :1].any(axis=1).mean())
    assert measured["recall@3"] == pytest.approx(correct[findable, :3].any(axis=1).mean())
    assert measured["queries"] + measured["queries_without_match"] == 10


def test_a_copy_of_the_query_in_the_gallery_counts(rows):
    embeddings, labels = rows
    doubled = np.concatenate([embeddings, embeddings]), np.concatenate([labels, labels])
    assert query_gallery_metrics(*doubled, num_queries=30)["recall@1"] == 1.0


def test_without_a_gallery_the_rows_search_each_other(rows):
    assert query_gallery_metrics(*rows, num_queries=None) == retrieval_metrics(*rows)


@pytest.mark.parametrize("num_queries", [0, 30])
def test_queries_and_gallery_are_needed(rows, num_queries):
    with pytest.raises(ValueError, match=f"num_queries is {num_queries} of 30 rows, but has to leave a row on either"):
        query_gallery_metrics(*rows, num_queries=num_queries)
