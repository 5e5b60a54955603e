import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stml_tf.data.batches.class_batches import ClassBatches, SemiSupervisedBatches
from stml_tf.data.batches.neighbor_batches import NeighborBatches


def drawn(labels, *, classes=2, images=3, steps=5, seed=0):
    return ClassBatches(labels, classes_per_batch=classes, images_per_class=images, steps_per_epoch=steps, seed=seed)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=8),
    classes=st.integers(1, 8),
    images=st.integers(1, 5),
    seed=st.integers(0, 10**6),
)
def test_a_batch_is_balanced(sizes, classes, images, seed):
    classes = min(classes, len(sizes))
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)) * 3, sizes))
    batches = drawn(labels, classes=classes, images=images, seed=seed)
    epoch = batches.batches(seed % 7)
    assert epoch.shape == (5, batches.batch_size) == (5, classes * images)
    for batch in epoch:
        groups = batch.reshape(classes, images)
        in_group = labels[groups]
        assert (in_group == in_group[:, :1]).all()
        assert len(set(in_group[:, 0])) == classes
        for group, label in zip(groups, in_group[:, 0], strict=True):
            times = np.unique(group, return_counts=True)[1]
            assert len(times) == min(images, np.sum(labels == label))
            assert times.max() - times.min() <= 1


def test_classes_are_as_likely_however_large_they_are():
    labels = np.repeat([0, 1, 2, 3], [2, 20, 40, 200])
    epoch = drawn(labels, classes=2, images=2, steps=2000).batches(0)
    shares = np.bincount(labels[epoch[:, ::2].ravel()]) / epoch[:, ::2].size
    np.testing.assert_allclose(shares, 0.25, atol=0.03)


def test_all_images_of_a_class_have_their_turn():
    epoch = drawn(np.repeat([0, 1], 30), images=3, steps=100).batches(0)
    np.testing.assert_array_equal(np.unique(epoch), np.arange(60))


def test_the_seed_and_the_epoch_alone_decide():
    def epoch(seed, number):
        return drawn(np.repeat(np.arange(9), 4), seed=seed).batches(number)

    np.testing.assert_array_equal(epoch(1, 4), epoch(1, 4))
    assert not np.array_equal(epoch(1, 4), epoch(2, 4))
    assert not np.array_equal(epoch(1, 4), epoch(1, 5))


def test_too_few_classes_are_refused():
    with pytest.raises(ValueError, match="Batches of 3 classes cannot be drawn from 2 labelled classes: lower"):
        drawn(np.array([0, 0, 1]), classes=3)


def neighbor_batches(steps):
    return NeighborBatches(12, batch_size=6, num_neighbors=3, steps_per_epoch=steps)


def test_a_labelled_part_stands_before_queries_and_their_neighbours():
    labels = np.repeat(np.arange(4), 5)
    both = SemiSupervisedBatches(drawn(labels), neighbor_batches(5), num_labeled=20)
    assert (both.batch_size, both.num_neighbors, both.steps_per_epoch) == (12, 3, 5)
    table = (np.arange(12)[:, None] + np.arange(3)) % 12
    epoch = both.batches(2, table)
    np.testing.assert_array_equal(epoch[:, :6], drawn(labels).batches(2))
    np.testing.assert_array_equal(epoch[:, 6:], neighbor_batches(5).batches(2, table) + 20)
    assert epoch.shape == (5, 12)


def test_both_parts_need_the_same_number_of_batches():
    with pytest.raises(ValueError, match="has 5 batches an epoch and the unlabelled part 4: give both the same"):
        SemiSupervisedBatches(drawn(np.repeat([0, 1], 3)), neighbor_batches(4), num_labeled=6)


def test_more_steps_than_the_images_fill_go_through_them_again():
    batches = NeighborBatches(10, batch_size=4, num_neighbors=2, steps_per_epoch=10)
    times = np.bincount(batches.queries(0).ravel())
    np.testing.assert_array_equal(times, 2)
