import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.fitting.callbacks import (
    MeasureCallback,
    NeighborBatchesCallback,
    StopOnNonFinite,
    TrainingStopped,
    require_finite,
)
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


class Number:
    """A scalar on a device: reading it waits for the device."""

    def __init__(self, value):
        self.value, self.reads = value, 0

    def __float__(self):
        self.reads += 1
        return self.value


def test_the_device_is_seldom_waited_for(model):
    stop, loss = StopOnNonFinite(every=20), Number(1.0)
    stop.set_model(model)
    for batch in range(100):
        stop.on_train_batch_end(batch, {"loss": loss})
    assert loss.reads == 5


def test_a_loss_that_is_no_number_stops_within_some_steps(model, data):
    """Means carry a NaN on, whatever comes behind it."""
    views, ids = next(iter(data))
    poisoned = np.array(views)
    poisoned[0] = np.nan
    batches = tf.data.Dataset.from_tensor_slices((np.stack([views, poisoned, *[views] * 8]), np.stack([ids] * 10)))
    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    # Not always the loss: max pooling on the processor passes over NaN, which then shows in the gradient alone.
    with pytest.raises(TrainingStopped, match=r"stopped at step 6: gradient_norm.* became NaN or infinite"):
        model.fit(batches, verbose=0, shuffle=False, callbacks=[StopOnNonFinite(every=6), count])
    assert steps == [0, 1, 2, 3, 4]


def test_an_epoch_that_ends_before_the_next_look_is_looked_at(model, data):
    model.student.get_layer("f").kernel.assign(np.full((256, 4), np.nan))
    behind = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: pytest.fail("went on to the next callback")
    )
    with pytest.raises(TrainingStopped, match=r"stopped at step 2: .*loss.* became NaN.*epochs before are intact"):
        model.fit(data, verbose=0, shuffle=False, callbacks=[StopOnNonFinite(), behind])


@pytest.mark.parametrize(("of", "what"), [("weights", "weights"), ("optimizer", "the optimizer's variables")])
def test_what_became_infinite_in_the_last_step_is_not_kept(model, data, of, what):
    """The step's own loss and gradient were finite."""
    model.fit(data, verbose=0, shuffle=False)
    require_finite(model)
    variable = model.student.get_layer("f").bias if of == "weights" else model.optimizer.learning_rate
    variable.assign(variable * float("inf") if of == "optimizer" else [0.0, 0.0, np.inf, 0.0])
    with pytest.raises(TrainingStopped, match=f"stopped at step 2: {what} became NaN or infinite"):
        require_finite(model)
