import numpy as np
import pytest

from stml_tf.losses import NPairsLoss, n_pairs_loss
from tests.losses.supervised_batch import LABELS, embeddings


def slow_form(labels, x, norm_weight):
    x = x.astype(np.float64)
    pairs = []
    for label in sorted(set(labels)):
        rows = [i for i in range(len(labels)) if labels[i] == label]
        pairs += list(zip(rows[::2], rows[1::2], strict=False))
    losses, norms = [], []
    for anchor, positive in pairs:
        others = [p for _, p in pairs if labels[p] != labels[anchor]]
        losses.append(np.log(1 + sum(np.exp(x[anchor] @ x[n] - x[anchor] @ x[positive]) for n in others)))
        norms += [x[anchor] @ x[anchor], x[positive] @ x[positive]]
    return np.mean(losses) + norm_weight * np.mean(norms) / 2


@pytest.mark.parametrize("norm_weight", [0.002, 0.5, 0])
def test_loss_equals_the_slow_form(norm_weight):
    loss = n_pairs_loss(LABELS, embeddings(), norm_weight=norm_weight)
    np.testing.assert_allclose(loss, slow_form(LABELS, embeddings(), norm_weight), rtol=1e-5)


def test_a_row_left_over_takes_no_part():
    x = embeddings()
    third_of_three = np.flatnonzero(LABELS == 0)[2]
    moved = x.copy()
    moved[third_of_three] += 100.0
    np.testing.assert_allclose(n_pairs_loss(LABELS, moved), n_pairs_loss(LABELS, x), rtol=1e-6)


def test_impossible_weight_is_refused():
    with pytest.raises(ValueError, match="norm_weight=-1 must be a number above 0"):
        NPairsLoss(norm_weight=-1)
