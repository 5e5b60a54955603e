import numpy as np
import pytest

from stml_tf.evaluation.metrics import query_results, retrieval_metrics
from stml_tf.evaluation.query_gallery import query_gallery_results
from stml_tf.evaluation.query_results import bootstrap_interval


def test_each_query_has_its_own_result(random):
    embeddings = np.array([[0.0], [1.0], [1.1], [5.0], [9.0]])
    found = query_results(embeddings, [0, 1, 0, 0, 2], recall_at=(1, 2))
    assert found.rows.tolist() == [0, 2, 3]  # what has none of its class to find is left out
    assert found.nearest.tolist() == [1, 1, 2]
    assert found.found.tolist() == [[False, True], [False, True], [True, True]]
    assert found.average_precision.tolist() == pytest.approx([0.25, 0.25, 0.5])
    assert found.metrics() == retrieval_metrics(embeddings, [0, 1, 0, 0, 2], recall_at=(1, 2))


def test_queries_of_a_gallery_are_found_in_it():
    found = query_gallery_results(np.array([[0.0], [4.0], [3.9], [0.2]]), np.array([0, 1, 1, 0]), num_queries=2)
    assert found.nearest.tolist() == [1, 0]  # counted within the gallery
    assert found.metrics()["recall@1"] == 1


def test_an_interval_holds_the_mean_about_as_often_as_it_says(random):
    held = 0
    for trial in range(60):
        low, high = bootstrap_interval(random.random(80) < 0.3, seed=trial)
        held += low <= 0.3 <= high
    assert 51 <= held <= 60


def test_an_interval_shrinks_with_more_queries_and_is_none_where_all_agree(random):
    few, many = (np.ptp(bootstrap_interval(random.random(count))) for count in (100, 10_000))
    assert 8 < few / many < 12
    assert bootstrap_interval(np.ones(5)) == (1, 1)
    assert bootstrap_interval(np.array([0.5])) == (0.5, 0.5)
