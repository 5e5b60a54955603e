import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stml_tf.monitoring.figures import figure_to_png, retrieval_figure
from stml_tf.monitoring.summaries import Summaries, TensorBoardScalars


def read(log_dir):
    events = EventAccumulator(str(log_dir), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: [(event.step, tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def test_scalars_and_text_come_back(tmp_path):
    summaries = Summaries(tmp_path / "tensorboard")
    summaries.scalars({"loss/total": 0.5, "retrieval/recall@1": np.float32(0.25)}, step=3)
    summaries.scalars({"loss/total": tf.constant(0.125)}, step=4)
    summaries.text("recipe", "# quickstart", step=0)
    summaries.close()
    written = read(tmp_path / "tensorboard")
    assert written["loss/total"] == [(3, 0.5), (4, 0.125)]
    assert written["retrieval/recall@1"] == [(3, 0.25)]
    assert written["recipe"][0][1] == b"# quickstart"


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summaries = Summaries(None)
    summaries.scalars({"loss/total": 0.5}, step=3)
    summaries.text("recipe", "# quickstart", step=0)
    summaries.flush()
    summaries.close()
    assert not list(tmp_path.iterdir())


def test_images_come_back(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    png = figure_to_png(retrieval_figure([pixels], [[(pixels, True)]], [[(pixels, False)]]))
    summaries = Summaries(tmp_path)
    summaries.image("pixels", pixels, step=1)
    summaries.image("retrieval", png, step=2)
    summaries.close()
    written = read(tmp_path)
    # An image summary holds width, height and the encoded images.
    (step, (width, height, encoded)) = written["pixels"][0]
    assert (step, int(width), int(height)) == (1, 9, 6)
    np.testing.assert_array_equal(tf.io.decode_png(encoded), pixels)
    np.testing.assert_array_equal(tf.io.decode_png(written["retrieval"][0][1][2]), tf.io.decode_png(png))


def train(log_dir, *, epochs, model=None, initial_epoch=0, extra=None):
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
        callbacks=[Add(), TensorBoardScalars(summaries, every=2)],
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
    }
    _, history = train(tmp_path, epochs=2, extra=extra)
    written = read(tmp_path)
    assert set(written) == {
        "batch/loss",
        "loss/total",
        "loss/relaxed_contrastive",
        "train/learning_rate",
        "train/gradient_norm",
        "pseudo_labels/positive_share",
        "retrieval/recall@1",
        "retrieval/map@r",
        "own/name",
    }
    assert written["train/learning_rate"] == [(1, 0.25), (2, 0.25)]
    assert written["train/gradient_norm"] == [(1, 2.0), (2, 2.0)]
    assert [step for step, _ in written["loss/total"]] == [1, 2]
    np.testing.assert_allclose([value for _, value in written["loss/total"]], history["loss"], rtol=1e-6)


def test_batches_are_counted_over_epochs_and_over_resumed_runs(tmp_path):
    model, _ = train(tmp_path, epochs=2)
    train(tmp_path, epochs=3, model=model, initial_epoch=2)
    # Five batches an epoch, every second one is written.
    assert [step for step, _ in read(tmp_path)["batch/loss"]] == [2, 4, 7, 9, 12, 14]


def test_every_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="every is 0, but must be at least 1 batch"):
        TensorBoardScalars(Summaries(tmp_path), every=0)
