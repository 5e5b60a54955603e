import numpy as np
import pytest

from stml_tf.evaluation.agreement import mean_agreement, pseudo_label_agreement


def slow_agreement(similarity, labels, image_ids):
    """Average precision from its definition: precision at each hit, walking down the ranking (no ties)."""
    pairs = [
        (similarity[i, j], labels[i] == labels[j])
        for i in range(len(labels))
        for j in range(len(labels))
        if image_ids[i] != image_ids[j]
    ]
    ranked = [hit for _, hit in sorted(pairs, reverse=True)]
    precisions = [sum(ranked[: rank + 1]) / (rank + 1) for rank, hit in enumerate(ranked) if hit]
    return np.mean(precisions)


def batch(seed=0):
    random = np.random.default_rng(seed)
    image_ids = np.repeat(np.arange(6), 2)
    labels = np.array([0, 0, 1, 1, 2, 2])[image_ids]
    return random.random((12, 12)), labels, image_ids


def test_equals_the_slow_form():
    similarity, labels, image_ids = batch()
    agreement = pseudo_label_agreement(similarity, labels, image_ids)
    assert agreement == pytest.approx(slow_agreement(similarity, labels, image_ids))
    assert 0 < agreement < 1


def test_true_labels_agree_and_views_of_one_image_do_not_count():
    similarity, labels, image_ids = batch()
    truth = (labels[:, None] == labels).astype(float)
    assert pseudo_label_agreement(truth, labels, image_ids) == 1
    same_image = image_ids[:, None] == image_ids
    changed = np.where(same_image, -5.0, similarity)
    assert pseudo_label_agreement(changed, labels, image_ids) == pseudo_label_agreement(similarity, labels, image_ids)


def test_a_constant_similarity_scores_the_share_of_pairs():
    _, labels, image_ids = batch()
    # Each of 12 rows has 10 rows of other images, 2 of them in its class.
    assert pseudo_label_agreement(np.ones((12, 12)), labels, image_ids) == pytest.approx(0.2)


def test_nothing_to_find_is_nan():
    assert np.isnan(pseudo_label_agreement(np.ones((4, 4)), [0, 0, 1, 1], [7, 7, 8, 8]))


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"similarity \(3, 3\), labels \(2,\) and image_ids \(2,\) do not fit"):
        pseudo_label_agreement(np.ones((3, 3)), [0, 1], [0, 1])


def test_the_mean_over_batches_leaves_out_those_that_tell_nothing(random):
    labels = np.array([0, 0, 1, 1, 2, 3])
    similarities = [random.random((4, 4)), random.random((4, 4)), random.random((4, 4))]
    batches = [(np.zeros((2, 2, 1)), np.array(ids)) for ids in ([0, 1], [4, 5], [2, 3])]

    def similarity_of(views, image_ids):
        return similarities[[0, 4, 2].index(image_ids[0])]

    known = [
        pseudo_label_agreement(similarities[k], labels[np.repeat(batches[k][1], 2)], np.repeat(batches[k][1], 2))
        for k in (0, 2)
    ]
    assert mean_agreement(similarity_of, batches, labels) == pytest.approx(np.mean(known))
    assert mean_agreement(similarity_of, batches[1:2], labels) is None
