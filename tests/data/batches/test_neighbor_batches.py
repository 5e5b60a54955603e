import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stml_tf.data.batches.neighbor_batches import NeighborBatches


def neighbor_table(num_images, num_neighbors):
    return (np.arange(num_images)[:, None] + np.arange(num_neighbors)) % num_images


@settings(max_examples=60, deadline=None)
@given(
    num_neighbors=st.integers(1, 5), per_step=st.integers(1, 6), extra=st.integers(0, 80), seed=st.integers(0, 10**6)
)
def test_every_image_is_a_query_once_before_any_is_one_twice(num_neighbors, per_step, extra, seed):
    batch_size = num_neighbors * per_step
    num_images = batch_size + extra
    batches = NeighborBatches(num_images, batch_size=batch_size, num_neighbors=num_neighbors, seed=seed)
    queries = np.concatenate([batches.queries(epoch).ravel() for epoch in range(2 * num_neighbors + 2)])
    assert len(queries) >= num_images
    for start in range(0, len(queries) - num_images + 1, num_images):
        np.testing.assert_array_equal(np.sort(queries[start : start + num_images]), np.arange(num_images))


def test_an_epoch_has_as_many_steps_as_batches_fit():
    batches = NeighborBatches(107, batch_size=20, num_neighbors=5)
    assert batches.steps_per_epoch == 5
    assert batches.batches(0, neighbor_table(107, 5)).shape == (5, 20)


@pytest.mark.parametrize("coverage", [True, False])
def test_queries_stand_beside_their_neighbors(coverage):
    table = neighbor_table(50, 4)
    batches = NeighborBatches(50, batch_size=12, num_neighbors=4, coverage=coverage)
    groups = batches.batches(3, table).reshape(-1, 4)
    np.testing.assert_array_equal(groups, table[batches.queries(3).ravel()])


def test_without_neighbors_an_epoch_is_every_image_once_in_random_order():
    batches = NeighborBatches(24, batch_size=6, num_neighbors=1)
    first, second = batches.batches(0), batches.batches(1)
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(epoch.ravel()), np.arange(24))
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match=r"shape \(24, 1\) given, \(24, 2\) expected"):
        NeighborBatches(24, batch_size=6, num_neighbors=2).batches(0)


@pytest.mark.parametrize("coverage", [True, False])
def test_the_seed_and_the_epoch_alone_decide(coverage):
    def queries(seed, epoch):
        return NeighborBatches(60, batch_size=20, num_neighbors=2, seed=seed, coverage=coverage).queries(epoch)

    np.testing.assert_array_equal(queries(1, 4), queries(1, 4))
    assert not np.array_equal(queries(1, 4), queries(2, 4))
    assert not np.array_equal(queries(1, 4), queries(1, 5))


def test_without_coverage_a_batch_repeats_no_query_but_an_epoch_leaves_images_out():
    batches = NeighborBatches(1000, batch_size=100, num_neighbors=1, coverage=False)
    queries = batches.queries(0)
    assert all(len(set(row)) == 100 for row in queries)
    # Ten independent draws of a tenth leave an image out with probability 0.9^10 = 0.35.
    assert 550 < len(np.unique(queries)) < 750


def test_a_batch_that_is_no_multiple_of_the_neighbors_is_refused():
    with pytest.raises(ValueError, match="batch size 10 must be a multiple of num_neighbors=3"):
        NeighborBatches(100, batch_size=10, num_neighbors=3)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="batch of 20 images cannot be drawn from 10"):
        NeighborBatches(10, batch_size=20, num_neighbors=2)


def test_a_neighbor_table_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(10, 3\) given, \(10, 2\) expected"):
        NeighborBatches(10, batch_size=4, num_neighbors=2).batches(0, neighbor_table(10, 3))
