import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.fitting.callbacks import MeasureCallback, NeighborBatchesCallback, StopOnNonFinite, TrainingStopped
from stml_tf.methods import SelfTaughtModel
from stml_tf.models import build_student


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    model = SelfTaughtModel(build_student("conv4", embedding_dim=4, teacher_dim=4), num_neighbors=2)
    model.compile(keras.optimizers.SGD(1e-2))
    return model


@pytest.fixture
def data(random):
    views = random.normal(size=(2, 6, 2, 16, 16, 3)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((views, np.tile(np.arange(6), (2, 1))))


def test_without_neighbors_nothing_is_embedded():
    def embed():
        raise AssertionError("embedded in vain")

    callback = NeighborBatchesCallback(embed, lambda epoch, neighbors: (epoch, neighbors), num_neighbors=1)
    callback.on_epoch_begin(4)
    assert callback.current() == (4, (4, None))


def test_neighbors_are_found_anew_at_each_epoch(model, data):
    positions = [np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([[0.0], [10.0], [1.0], [11.0]])]
    seen = []

    def batches(epoch, neighbors):
        seen.append((epoch, neighbors.tolist()))
        return neighbors

    callback = NeighborBatchesCallback(lambda: positions[len(seen)], batches, num_neighbors=2)
    with pytest.raises(ValueError, match="No epoch has begun"):
        callback.current()
    model.fit(data, epochs=2, verbose=0, shuffle=False, callbacks=[callback])
    assert seen == [(0, [[0, 1], [1, 0], [2, 3], [3, 2]]), (1, [[0, 2], [1, 3], [2, 0], [3, 1]])]
    epoch, current = callback.current()
    assert epoch == 1
    np.testing.assert_array_equal(current, seen[-1][1])


def test_an_epoch_that_goes_on_keeps_its_batches():
    callback = NeighborBatchesCallback(
        lambda: np.array([[0.0], [1.0]]), lambda epoch, neighbors: neighbors, num_neighbors=2
    )
    callback.go_on(3, np.array([[7, 7]]))
    callback.on_epoch_begin(3)
    epoch, batches = callback.current()
    assert (epoch, batches.tolist()) == (3, [[7, 7]])
    callback.on_epoch_begin(4)
    epoch, batches = callback.current()
    assert (epoch, batches.tolist()) == (4, [[0, 1], [1, 0]])


def test_measures_reach_the_callbacks_behind_and_the_history(model, data):
    behind = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["recall@1"]))
    seen = []
    callbacks = [MeasureCallback(lambda: {"recall@1": 0.25}), behind]
    history = model.fit(data, epochs=2, verbose=0, shuffle=False, callbacks=callbacks).history
    assert seen == history["recall@1"] == [0.25, 0.25]


def test_a_number_that_is_none_stops_before_a_callback_behind_keeps_it(model, data):
    behind = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: kept.append(batch))
    kept = []
    callbacks = [StopOnNonFinite(), behind]
    model.fit(data, epochs=1, verbose=0, shuffle=False, callbacks=callbacks)
    assert kept == [0, 1]
    model.student.get_layer("f").kernel.assign(np.full((256, 4), np.nan))
    with pytest.raises(TrainingStopped, match=r"stopped at step 3: .*loss.* became NaN.*epochs before are intact"):
        model.fit(data, epochs=2, initial_epoch=1, verbose=0, shuffle=False, callbacks=callbacks)
    assert kept == [0, 1]
