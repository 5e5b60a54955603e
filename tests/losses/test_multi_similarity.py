import numpy as np
import pytest

from stml_tf.losses import MultiSimilarityLoss, multi_similarity_loss
from tests.losses.supervised_batch import LABELS, embeddings, unit


def slow_form(labels, x, alpha, beta, threshold, mining_margin):
    rows = unit(x)
    total = 0.0
    for i in range(len(labels)):
        positives = [rows[i] @ rows[j] for j in range(len(labels)) if j != i and labels[j] == labels[i]]
        negatives = [rows[i] @ rows[j] for j in range(len(labels)) if labels[j] != labels[i]]
        if mining_margin is not None:
            if not positives or not negatives:
                continue
            positives, negatives = (
                [s for s in positives if s < max(negatives) + mining_margin],
                [s for s in negatives if s > min(positives) - mining_margin],
            )
        total += np.log(1 + sum(np.exp(-alpha * (s - threshold)) for s in positives)) / alpha
        total += np.log(1 + sum(np.exp(beta * (s - threshold)) for s in negatives)) / beta
    return total / len(labels)


@pytest.mark.parametrize("options", [(2.0, 50.0, 0.5, 0.1), (2.0, 50.0, 1.0, 0.1), (3.0, 10.0, 0.2, None)])
def test_loss_equals_the_slow_form(options):
    names = ("alpha", "beta", "threshold", "mining_margin")
    loss = multi_similarity_loss(LABELS, embeddings(), **dict(zip(names, options, strict=True)))
    np.testing.assert_allclose(loss, slow_form(LABELS, embeddings(), *options), rtol=1e-5)


def test_classes_that_lie_apart_are_left_alone():
    x = np.array([[1, 0.1], [1, -0.1], [-1, 0.1], [-1, -0.1]], np.float32)
    assert multi_similarity_loss([0, 0, 1, 1], x) == 0.0
    assert multi_similarity_loss([0, 0, 1, 1], x, mining_margin=None) > 0.1


@pytest.mark.parametrize("option", ["alpha", "beta", "mining_margin"])
def test_impossible_options_are_refused(option):
    with pytest.raises(ValueError, match=f"{option}=-1 must be a number above 0"):
        MultiSimilarityLoss(**{option: -1})
