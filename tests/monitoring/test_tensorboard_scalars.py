import keras
import numpy as np
import pytest

from stml_tf.monitoring.summaries import Summaries
from stml_tf.monitoring.tensorboard_scalars import OVERVIEW, FreeBaselines, TensorBoardScalars
from tests.monitoring.test_summaries import read


def train(log_dir, *, epochs, model=None, initial_epoch=0, extra=None, every=2, callbacks=()):
    class Add(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs.update(extra or {})

    if model is None:
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.25), "mse")
    summaries = Summaries(log_dir)
    images = np.ones((10, 2), np.float32)
    history = model.fit(
        images,
        images[:, :1],
        batch_size=2,
        epochs=epochs,
        initial_epoch=initial_epoch,
        verbose=0,
        callbacks=[Add(), TensorBoardScalars(summaries, every=every), *callbacks],
    )
    summaries.close()
    return model, history.history


def test_logs_of_fit_are_grouped(tmp_path):
    extra = {
        "relaxed_contrastive": 1.0,
        "gradient_norm": 2.0,
        "positive_share": 3.0,
        "recall@1": 4.0,
        "map@r": 5.0,
        "own/name": 6.0,
        "health": 7.0,
        "health/effective_rank": 8.0,
        "speed/epoch_seconds": 9.0,
        "queries": 10,
        "queries_without_match": 2,
    }
    _, history = train(tmp_path, epochs=2, extra=extra)
    written = read(tmp_path)
    assert set(written) == {
        "0_overview/health",
        "0_overview/recall@1",
        "0_overview/effective_rank",
        "0_overview/epoch_seconds",
        "health/effective_rank",
        "speed/epoch_seconds",
        "steps/loss",
        "loss/total",
        "loss/relaxed_contrastive",
        "train/learning_rate",
        "train/gradient_norm",
        "pseudo_labels/positive_share",
        "retrieval/recall@1",
        "retrieval/map@r",
        "own/name",
    }
    # TensorBoard sorts by name, digits before letters.
    groups = ["0_overview", "health", "loss", "own", "pseudo_labels", "retrieval", "speed", "steps", "train"]
    assert list(dict.fromkeys(tag.split("/")[0] for tag in sorted(written))) == groups
    assert written["0_overview/recall@1"] == written["retrieval/recall@1"] == [(1, 4.0), (2, 4.0)]
    assert written["train/learning_rate"] == [(1, 0.25), (2, 0.25)]
    assert written["train/gradient_norm"] == [(1, 2.0), (2, 2.0)]
    assert [step for step, _ in written["loss/total"]] == [1, 2]
    np.testing.assert_allclose([value for _, value in written["loss/total"]], history["loss"], rtol=1e-6)


def test_batches_are_counted_over_epochs_and_over_resumed_runs(tmp_path):
    model, _ = train(tmp_path, epochs=2)
    train(tmp_path, epochs=3, model=model, initial_epoch=2)
    # Five batches an epoch, every second one is written.
    assert [step for step, _ in read(tmp_path)["steps/loss"]] == [2, 4, 7, 9, 12, 14]


def test_every_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="every is 0, but must be at least 1 batch"):
        TensorBoardScalars(Summaries(tmp_path), every=0)


def test_short_runs_write_every_step_and_long_ones_seldom(tmp_path):
    train(tmp_path / "short", epochs=2, every=None)
    assert [step for step, _ in read(tmp_path / "short")["steps/loss"]] == list(range(1, 11))
    scalars = TensorBoardScalars(Summaries(None))
    for steps, epochs, distance in [(340, 1, 1), (100, 20, 4), (10_000, 90, 50), (None, 3, 1)]:
        scalars.set_params({"steps": steps, "epochs": epochs})
        scalars.on_train_begin()
        assert scalars._distance == distance


def test_free_baselines_are_lines_in_the_chart_of_recall(tmp_path):
    summaries = Summaries(tmp_path)
    train(tmp_path, epochs=2, callbacks=[FreeBaselines(summaries, {"frozen_features": 0.25, "whitened_features": 0.5})])
    assert read(tmp_path / "frozen_features") == {f"{OVERVIEW}/recall@1": [(0, 0.25), (1, 0.25), (2, 0.25)]}
    assert read(tmp_path / "whitened_features")[f"{OVERVIEW}/recall@1"][-1] == (2, 0.5)
