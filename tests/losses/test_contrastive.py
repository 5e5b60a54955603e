import numpy as np
import pytest

from stml_tf.losses import ContrastiveLoss, contrastive_loss
from tests.losses.supervised_batch import LABELS, embeddings, unit


def slow_form(labels, rows, margin):
    losses = []
    for i in range(len(labels)):
        for j in range(i):
            apart = np.sqrt(np.sum((rows[i] - rows[j]) ** 2))
            losses.append(apart**2 / 2 if labels[i] == labels[j] else max(0.0, margin - apart) ** 2 / 2)
    return np.mean(losses)


@pytest.mark.parametrize("margin", [1.0, 2.5])
def test_loss_equals_the_slow_form(margin):
    x = embeddings()
    expected = slow_form(LABELS, x.astype(np.float64), margin)
    np.testing.assert_allclose(contrastive_loss(LABELS, x, margin=margin), expected, rtol=1e-5)
    expected = slow_form(LABELS, unit(x), margin)
    np.testing.assert_allclose(contrastive_loss(LABELS, x, margin=margin, normalize=True), expected, rtol=1e-5)


def test_two_rows_by_hand():
    x = np.array([[0.0], [0.6]], np.float32)
    np.testing.assert_allclose(contrastive_loss([1, 1], x), 0.6**2 / 2, rtol=1e-6)
    np.testing.assert_allclose(contrastive_loss([1, 2], x), 0.4**2 / 2, rtol=1e-6)


@pytest.mark.parametrize("margin", [0, -1.0, float("nan"), "1", True])
def test_impossible_margin_is_refused(margin):
    with pytest.raises(ValueError, match=r"margin=.* must be a number above 0"):
        ContrastiveLoss(margin=margin)
