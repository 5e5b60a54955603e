import numpy as np
import pytest

from stml_tf.losses import LiftedStructureLoss, lifted_structure_loss
from tests.losses.supervised_batch import LABELS, embeddings, unit


def slow_form(labels, rows, margin):
    apart = np.array([[np.sqrt(np.sum((a - b) ** 2)) for b in rows] for a in rows])
    losses = []
    for i in range(len(labels)):
        for j in range(i):
            if labels[i] == labels[j]:
                crowd = sum(np.exp(margin - apart[i, k]) for k in range(len(labels)) if labels[k] != labels[i])
                crowd += sum(np.exp(margin - apart[j, k]) for k in range(len(labels)) if labels[k] != labels[j])
                losses.append(max(0.0, np.log(crowd) + apart[i, j]) ** 2)
    return sum(losses) / (2 * len(losses))


@pytest.mark.parametrize("margin", [1.0, 0.2])
def test_loss_equals_the_slow_form(margin):
    x = embeddings()
    expected = slow_form(LABELS, x.astype(np.float64), margin)
    np.testing.assert_allclose(lifted_structure_loss(LABELS, x, margin=margin), expected, rtol=1e-5)
    expected = slow_form(LABELS, unit(x), margin)
    np.testing.assert_allclose(lifted_structure_loss(LABELS, x, margin=margin, normalize=True), expected, rtol=1e-5)


def test_impossible_margin_is_refused():
    with pytest.raises(ValueError, match="margin=0 must be a number above 0"):
        LiftedStructureLoss(margin=0)
