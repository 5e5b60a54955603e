import numpy as np
import pytest

from stml_tf.losses import SupervisedContrastiveLoss, supervised_contrastive_loss
from tests.losses.supervised_batch import LABELS, embeddings, unit


def slow_form(labels, x, temperature):
    rows = unit(x)
    losses = []
    for i in range(len(labels)):
        positives = [p for p in range(len(labels)) if p != i and labels[p] == labels[i]]
        total = sum(np.exp(rows[i] @ rows[a] / temperature) for a in range(len(labels)) if a != i)
        if positives:
            losses.append(-np.mean([np.log(np.exp(rows[i] @ rows[p] / temperature) / total) for p in positives]))
    return np.mean(losses)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_loss_equals_the_slow_form(temperature):
    loss = supervised_contrastive_loss(LABELS, embeddings(), temperature=temperature)
    np.testing.assert_allclose(loss, slow_form(LABELS, embeddings(), temperature), rtol=1e-5)


def test_rows_that_all_coincide_are_guessed_at():
    # Eight rows of four classes: each picks its one positive out of seven.
    loss = supervised_contrastive_loss([0, 0, 1, 1, 2, 2, 3, 3], np.ones((8, 3), np.float32))
    np.testing.assert_allclose(loss, np.log(7), rtol=1e-6)


def test_impossible_temperature_is_refused():
    with pytest.raises(ValueError, match="temperature=0 must be a number above 0"):
        SupervisedContrastiveLoss(temperature=0)
