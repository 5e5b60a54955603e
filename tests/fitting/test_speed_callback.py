import keras
import numpy as np
import pytest

from stml_tf.fitting import speed_callback
from stml_tf.fitting.record_callback import RecordCallback
from stml_tf.fitting.speed_callback import SpeedCallback


class Clock:
    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class Busy(keras.callbacks.Callback):
    """Takes 5 s before an epoch's steps, 2 s a step and 100 s after them."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def on_epoch_begin(self, epoch, logs=None):
        self.clock.now += 5

    def on_train_batch_end(self, batch, logs=None):
        self.clock.now += 2

    def on_epoch_end(self, epoch, logs=None):
        self.clock.now += 100


def test_an_epoch_costs_search_and_steps_and_not_what_is_measured_after_it(monkeypatch):
    clock, written = Clock(), []
    monkeypatch.setattr(speed_callback, "time", clock)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    record = RecordCallback(lambda epochs: written.append(len(epochs)), epochs=[{"loss": 1.0}])
    callbacks = [SpeedCallback(images_per_batch=60), Busy(clock), record]
    model.fit(np.ones((6, 2)), np.ones((6, 1)), batch_size=2, epochs=2, verbose=0, callbacks=callbacks)
    assert written == [2, 3]
    first, *epochs = record.epochs
    assert first == {"loss": 1.0}
    for logs in epochs:
        assert logs["speed/epoch_seconds"] == pytest.approx(11)
        assert logs["speed/images_per_second"] == pytest.approx(30)
        assert logs["learning_rate"] == pytest.approx(0.25)
        assert 0.01 < logs["speed/peak_memory_gb"] < 1000


def test_what_is_not_finite_is_recorded_as_unknown():
    record = RecordCallback(lambda epochs: None)
    record.on_epoch_end(0, {"loss": float("nan"), "recall@1": 0.5})
    assert record.epochs == [{"loss": None, "recall@1": 0.5}]
