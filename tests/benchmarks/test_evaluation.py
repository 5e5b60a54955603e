"""Recall@1 and MAP@R of all images among each other, beside pytorch-metric-learning's calculator."""

import numpy as np
import pytest

from stml_tf.evaluation import retrieval_metrics

pytestmark = pytest.mark.benchmark


def test_evaluation(benchmarks):
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(500), 20)
    embeddings = random.standard_normal((500, 128))[labels] + 3 * random.standard_normal((len(labels), 128))
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    calculator = AccuracyCalculator(("precision_at_1", "mean_average_precision_at_r"), k="max_bin_count")

    def ours():
        return retrieval_metrics(embeddings, labels, recall_at=(1,))

    def theirs():
        return calculator.get_accuracy(embeddings, labels)

    found, expected = ours(), theirs()
    assert found["recall@1"] == pytest.approx(expected["precision_at_1"], abs=1e-3)
    assert found["map@r"] == pytest.approx(expected["mean_average_precision_at_r"], abs=1e-3)
    benchmarks.compare(
        "Recall@1 and MAP@R among 10,000 x 128, 500 classes", ours, "pytorch-metric-learning", theirs, rounds=5
    )
