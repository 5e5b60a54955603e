import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from stml_tf.monitoring.figures import figure_to_png, retrieval_figure
from stml_tf.monitoring.summaries import Summaries


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


def test_histograms_and_settings_come_back(tmp_path):
    summaries = Summaries(tmp_path)
    summaries.histogram("health/cosines", np.array([0.0, 0.1, 0.9]), step=1)
    summaries.hparams({"batch.size": 60, "flip": True, "backbone": "conv4"}, metrics={"0_overview/recall@1": "R@1"})
    summaries.close()
    assert read(tmp_path)["health/cosines"][0][1][:, 2].sum() == 3
    plugins = EventAccumulator(str(tmp_path)).Reload().summary_metadata
    started = plugin_data_pb2.HParamsPluginData.FromString(
        plugins["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info
    assert started.hparams["batch.size"].number_value == 60
    assert started.hparams["flip"].bool_value and started.hparams["backbone"].string_value == "conv4"
    experiment = plugin_data_pb2.HParamsPluginData.FromString(
        plugins["_hparams_/experiment"].plugin_data.content
    ).experiment
    assert [(info.name.tag, info.display_name) for info in experiment.metric_infos] == [("0_overview/recall@1", "R@1")]


def test_a_folder_below_is_a_run_of_its_own(tmp_path):
    below = Summaries(tmp_path).beside("frozen_features")
    below.scalars({"0_overview/recall@1": 0.5}, step=0)
    below.close()
    assert read(tmp_path / "frozen_features")["0_overview/recall@1"] == [(0, 0.5)]
    assert Summaries(None).beside("frozen_features").log_dir is None
