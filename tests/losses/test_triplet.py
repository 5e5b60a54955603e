import numpy as np
import pytest

from stml_tf.losses import TripletLoss, triplet_loss
from tests.losses.supervised_batch import LABELS, embeddings, unit


def semi_hard(apart, labels, margin):
    losses = []
    for a in range(len(labels)):
        negatives = [apart[a, n] for n in range(len(labels)) if labels[n] != labels[a]]
        for p in range(len(labels)):
            if p != a and labels[p] == labels[a]:
                farther = [d for d in negatives if d > apart[a, p]]
                losses.append(max(0.0, apart[a, p] - (min(farther) if farther else max(negatives)) + margin))
    return np.mean(losses)


def hard(apart, labels, margin):
    losses = []
    for a in range(len(labels)):
        positives = [apart[a, p] for p in range(len(labels)) if labels[p] == labels[a] and p != a]
        negatives = [apart[a, n] for n in range(len(labels)) if labels[n] != labels[a]]
        if positives:
            losses.append(max(0.0, max(positives) - min(negatives) + margin))
    return np.mean(losses)


def every(apart, labels, margin):
    losses = []
    for a in range(len(labels)):
        for p in range(len(labels)):
            for n in range(len(labels)):
                if p != a and labels[p] == labels[a] != labels[n]:
                    losses.append(max(0.0, apart[a, p] - apart[a, n] + margin))
    return np.mean([loss for loss in losses if loss > 0])


SLOW_FORMS = {"semi_hard": semi_hard, "hard": hard, "all": every}


@pytest.mark.parametrize("mining", SLOW_FORMS)
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_loss_equals_the_slow_form(mining, squared, normalize):
    rows = unit(embeddings()) if normalize else embeddings().astype(np.float64)
    apart = np.array([[np.sum((a - b) ** 2) for b in rows] for a in rows])
    expected = SLOW_FORMS[mining](apart if squared else np.sqrt(apart), LABELS, 0.3)
    loss = triplet_loss(LABELS, embeddings(), margin=0.3, mining=mining, squared=squared, normalize=normalize)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert expected > 0.01


def test_each_mining_picks_its_negative():
    # Squared distances from the first row: positive 4, negatives 1, 9 and 25.
    x = np.array([[0.0], [2.0], [-1.0], [-3.0], [-5.0]], np.float32)
    labels = [0, 0, 1, 2, 3]
    plain = {"margin": 6.0, "normalize": False}
    # As an anchor the second row is nearer to the first, 4, than to any negative: 9, 25, 49.
    np.testing.assert_allclose(triplet_loss(labels, x, mining="semi_hard", **plain), (4 - 9 + 6 + 4 - 9 + 6) / 2)
    np.testing.assert_allclose(triplet_loss(labels, x, mining="hard", **plain), (4 - 1 + 6 + 4 - 9 + 6) / 2)
    np.testing.assert_allclose(triplet_loss(labels, x, mining="all", **plain), (9 + 1 + 1) / 3)


def test_without_a_farther_negative_the_farthest_is_taken():
    x = np.array([[0.0], [10.0], [1.0], [2.0]], np.float32)
    loss = triplet_loss([0, 0, 1, 2], x, margin=1.0, normalize=False)
    np.testing.assert_allclose(loss, (100 - 4 + 1 + 100 - 81 + 1) / 2)


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match=r"'semihard'; allowed: all, hard, semi_hard; did you mean \"semi_hard\"\?"):
        TripletLoss(mining="semihard")
    with pytest.raises(ValueError, match=r"'easy'; allowed: all, hard, semi_hard"):
        triplet_loss(LABELS, embeddings(), mining="easy")
    with pytest.raises(ValueError, match="margin=0 must be a number above 0"):
        TripletLoss(margin=0)
