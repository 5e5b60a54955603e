import os
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.fitting.callbacks import NeighborBatchesCallback, TrainingInterrupted, TrainingStopped
from stml_tf.fitting.checkpoint_callback import CheckpointCallback
from stml_tf.fitting.checkpoints import Checkpoints
from stml_tf.fitting.resumable_fit import fit_from
from stml_tf.fitting.stop_signals import StopSignals

EPOCHS, STEPS, BATCH = 2, 4, 2


class Run:
    """A small network, trained on batches whose order depends on its weights at the beginning of the epoch."""

    def __init__(self, folder, **options):
        keras.utils.set_random_seed(0)
        self.model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), keras.layers.Dropout(0.5)])
        self.model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
        self.model.optimizer.build(self.model.trainable_variables)
        self.images = np.random.default_rng(0).normal(size=(STEPS * BATCH, 3)).astype(np.float32)
        self.seen = []
        self.batches = NeighborBatchesCallback(
            lambda: self.model(self.images).numpy(), lambda _, neighbors: neighbors[:STEPS], num_neighbors=BATCH
        )
        self.checkpoints = Checkpoints(folder)
        self.stop = StopSignals()
        self.callback = CheckpointCallback(self.checkpoints, self.batches, stop=self.stop, **options)

    def dataset(self, first_batch=0):
        def rows():
            epoch, batches = self.batches.current()
            for index in batches[first_batch:]:
                self.seen.append((epoch, *index))
                yield self.images[index], self.images[index] ** 2

        rows_of = tf.TensorSpec((BATCH, 3))
        dataset = tf.data.Dataset.from_generator(rows, output_signature=(rows_of, rows_of))
        return dataset.apply(tf.data.experimental.assert_cardinality(STEPS - first_batch))

    def fit(self, *others):
        if checkpoint := self.checkpoints.latest():
            self.callback.resume(self.model, checkpoint)
        with self.stop:
            fit_from(
                self.model,
                self.dataset,
                epochs=EPOCHS,
                epoch=self.callback.epoch,
                first_batch=self.callback.batch,
                callbacks=[self.batches, *others, self.callback],
            )
        return self


def signal_at(step, number=signal.SIGTERM):
    taken = []

    def on_train_batch_end(batch, logs):
        taken.append(batch)
        if len(taken) == step:
            os.kill(os.getpid(), number)

    return keras.callbacks.LambdaCallback(on_train_batch_end=on_train_batch_end)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("whole")).fit()


@pytest.mark.parametrize("step", [1, STEPS - 1, STEPS, STEPS + 2, EPOCHS * STEPS])
def test_stopped_after_any_step_and_gone_on_with_is_never_stopped(tmp_path, whole, step):
    stopped = Run(tmp_path)
    with pytest.raises(TrainingInterrupted):
        stopped.fit(signal_at(step))
    resumed = Run(tmp_path).fit()
    done = stopped.seen[:step]  # the input pipeline runs ahead of the steps
    assert done + resumed.seen == whole.seen
    for expected, actual in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert len(resumed.callback.history) == EPOCHS
    for expected, actual in zip(whole.callback.history, resumed.callback.history, strict=True):
        assert actual == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(tmp_path, number, status):
    run = Run(tmp_path)
    with pytest.raises(TrainingInterrupted, match=rf"batch 2 of epoch 2, as {number.name} asked.*--resume") as stopped:
        run.fit(signal_at(STEPS + 2, number))
    assert stopped.value.exit_status == status
    assert names(tmp_path) == ["epoch-0001", "epoch-0001-batch-00002"]


def test_a_signal_at_the_last_step_of_an_epoch_waits_for_its_end(tmp_path):
    with pytest.raises(TrainingInterrupted, match=r"Stopped after epoch 1, as SIGTERM asked"):
        Run(tmp_path).fit(signal_at(STEPS))
    assert names(tmp_path) == ["epoch-0001"]


def test_checkpoints_within_epochs_on_request(tmp_path):
    run = Run(tmp_path, every=3)
    run.checkpoints.keep = 100
    run.fit()
    # Every third of 8 steps, through both epochs.
    assert names(tmp_path) == ["epoch-0000-batch-00003", "epoch-0001", "epoch-0001-batch-00002", "epoch-0002"]


def test_an_epoch_keeps_what_it_logged(tmp_path, whole):
    run = Run(tmp_path)
    run.fit(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(a=float("nan"), b=epoch)))
    latest = run.checkpoints.latest()
    assert (latest.epoch, latest.batch, latest.step) == (EPOCHS, 0, EPOCHS * STEPS)
    assert [(logs["a"], logs["b"]) for logs in run.callback.history] == [(None, 0.0), (None, 1.0)]
    assert latest.extra == {"history": run.callback.history, "num_classes": None}
    assert latest.metrics == run.callback.history[-1]
    assert [logs["loss"] for logs in run.callback.history] == pytest.approx(
        [logs["loss"] for logs in whole.callback.history]
    )


def test_a_follower_writes_nothing_and_stops_all_the_same(tmp_path):
    with pytest.raises(TrainingInterrupted):
        Run(tmp_path / "none", every=1, write=False).fit(signal_at(STEPS + 1))
    assert not (tmp_path / "none").exists()


def test_a_disk_that_is_full_stops_training(tmp_path, monkeypatch):
    def full(path, **values):
        path.write(b"half of it")
        raise OSError(28, "No space left on device")

    run = Run(tmp_path)
    fill = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: epoch and monkeypatch.setattr(np, "savez", full)
    )
    with pytest.raises(TrainingStopped, match=r"Could not write checkpoint .*epoch-0002: .*No space left.*untouched"):
        run.fit(fill)
    monkeypatch.undo()
    assert names(tmp_path) == ["epoch-0001"]
    assert Run(tmp_path).fit().callback.epoch == EPOCHS


@pytest.mark.parametrize("at", [STEPS + 2, STEPS * 2])
def test_a_checkpoint_never_keeps_what_is_no_number(tmp_path, at):
    """Neither within an epoch nor at its end; the signal would have had one written."""
    run = Run(tmp_path, every=2)
    taken = []

    def spoil(batch, logs):
        taken.append(batch)
        if len(taken) == at:
            run.model.layers[0].bias.assign([0.0, np.nan, 0.0])

    with pytest.raises(TrainingStopped, match=rf"stopped at step {at}: weights became NaN .* epochs before are intact"):
        run.fit(keras.callbacks.LambdaCallback(on_train_batch_end=spoil), signal_at(at))
    kept = run.checkpoints.latest()
    assert kept.step < at
    Run(tmp_path).fit()


def test_a_folder_that_was_deleted_while_training_is_told(tmp_path):
    folder = tmp_path / "checkpoints"
    delete = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epoch and shutil.rmtree(folder))
    with pytest.raises(TrainingStopped, match="checkpoints was deleted while training, and what it held with it"):
        Run(folder).fit(delete)
    assert not folder.exists()
