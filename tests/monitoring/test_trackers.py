import json
import struct
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from stml_tf.errors import UserError
from stml_tf.monitoring.trackers import MLflowTracker, Tracker, WandbTracker

SETTINGS = {"seed": 3, "loss.sigma": 0.5, "views.flip": True, "data.train": "[]"}
RESULTS = {"after_training": {"recall@1": 0.75, "queries": 8}}


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    return wandb


@pytest.fixture(scope="module")
def mlflow_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mlflow")  # one for all tests, as its database takes seconds to make


@pytest.fixture
def mlflow(mlflow_folder, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    monkeypatch.chdir(mlflow_folder)  # where artifacts go
    mlflow.set_tracking_uri(f"sqlite:///{mlflow_folder}/mlflow.db")
    yield mlflow
    mlflow.set_tracking_uri(None)


def fit(tracker: keras.callbacks.Callback, *, epochs: int, initial_epoch: int = 0) -> None:
    class Add(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs.update({"recall@1": (epoch + 1) / 10, "health": 0.5, "queries": 8})

    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    images = np.ones((4, 2), np.float32)
    model.fit(images, images[:, :1], epochs=epochs, initial_epoch=initial_epoch, verbose=0, callbacks=[Add(), tracker])


def offline_records(tracker):
    """Read what Weights & Biases keeps of a run until it is sent: a log of records, as LevelDB writes it."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # its process writes the end of the file
    block, header = 32_768, 7  # the file begins with such a header, too
    folder = Path(tracker._run.dir).parent
    content = (folder / f"run-{tracker.run_id}.wandb").read_bytes()
    records, at, parts = [], header, b""
    while at + header <= len(content):
        if block - at % block < header:
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + header])
        parts += content[at + header : at + header + length]
        at += header + length
        if kind in (1, 4):  # whole, or the last part
            records.append(Record.FromString(parts))
            parts = b""
    return records


def by_key(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.mark.usefixtures("wandb")
def test_weights_and_biases_keeps_a_run_offline(tmp_path):
    report = tmp_path / "report.html"
    report.write_text("a page")
    tracker = WandbTracker("a run", SETTINGS)
    fit(tracker, epochs=2)
    tracker.log_results(RESULTS, epoch=2, report=report)
    tracker.close("finished")
    records = offline_records(tracker)

    run = next(record.run for record in records if record.HasField("run"))
    assert (run.run_id, run.display_name) == (tracker.run_id, "a run")
    settings = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert SETTINGS.items() <= settings.items()
    epochs = [by_key(record.history.item) for record in records if record.HasField("history")]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2]
    assert [epoch["retrieval/recall@1"] for epoch in epochs] == [0.1, 0.2]
    assert epochs[0]["train/learning_rate"] == 0.25
    assert {"loss/total", "0_overview/health"} <= set(epochs[0])
    assert "train/queries" not in epochs[0]
    summary = by_key(item for record in records if record.HasField("summary") for item in record.summary.update)
    assert summary["results/after_training/recall@1"] == 0.75
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]
    assert (Path(tracker._run.dir) / "report.html").exists()


@pytest.mark.usefixtures("wandb")
def test_weights_and_biases_goes_on_with_a_run():
    first = WandbTracker("a run", SETTINGS)
    fit(first, epochs=2)
    first.close("killed")
    again = WandbTracker("a run", SETTINGS, run_id=first.run_id)
    fit(again, epochs=3, initial_epoch=1)  # the second epoch again, which no checkpoint held
    again.close("finished")
    records = [*offline_records(first), *offline_records(again)]
    assert {record.run.run_id for record in records if record.HasField("run")} == {first.run_id}
    epochs = [by_key(record.history.item)["epoch"] for record in records if record.HasField("history")]
    assert epochs == [1, 2, 2, 3]
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [1, 0]


def test_mlflow_keeps_a_run_in_a_file(tmp_path, mlflow):
    report = tmp_path / "report.html"
    report.write_text("a page")
    tracker = MLflowTracker("a run", SETTINGS | {f"option.{number}": number for number in range(120)})
    fit(tracker, epochs=2)
    tracker.log_results(RESULTS, epoch=2, report=report)
    tracker.close("finished")

    client = mlflow.MlflowClient()
    run = client.get_run(tracker.run_id)
    assert (run.info.run_name, run.info.status) == ("a run", "FINISHED")
    assert run.data.params["loss.sigma"] == "0.5"
    assert len(run.data.params) == 124
    recall = client.get_metric_history(tracker.run_id, "retrieval/recall_at_1")
    assert [(each.step, each.value) for each in recall] == [(1, 0.1), (2, 0.2)]
    assert run.data.metrics["results/after_training/recall_at_1"] == 0.75
    assert [each.path for each in client.list_artifacts(tracker.run_id)] == ["report.html"]
    assert mlflow.active_run() is None


def test_mlflow_goes_on_with_a_run_below_one_of_the_caller(mlflow):
    client = mlflow.MlflowClient()
    with mlflow.start_run() as outer:
        first = MLflowTracker("a run", SETTINGS)
        fit(first, epochs=1)
        first.close("killed")
        assert client.get_run(first.run_id).info.status == "KILLED"
        again = MLflowTracker("a run", SETTINGS, run_id=first.run_id)
        fit(again, epochs=2, initial_epoch=1)
        again.close("failed")
        assert mlflow.active_run().info.run_id == outer.info.run_id
    run = client.get_run(first.run_id)
    assert again.run_id == first.run_id
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.parentRunId"] == outer.info.run_id
    assert [each.step for each in client.get_metric_history(first.run_id, "retrieval/recall_at_1")] == [1, 2]


def test_mlflow_that_does_not_take_a_run_is_refused(mlflow):
    mlflow.set_tracking_uri("nowhere://")
    with pytest.raises(UserError, match=r"MLflow does not take the run: .*nowhere.*Set MLFLOW_TRACKING_URI"):
        MLflowTracker("a run", SETTINGS)


@pytest.mark.parametrize(("tracker", "title"), [(WandbTracker, "Weights & Biases"), (MLflowTracker, "MLflow")])
def test_a_tracker_that_is_not_installed_names_its_extra(tracker, title, monkeypatch):
    monkeypatch.setitem(sys.modules, tracker.package, None)
    with pytest.raises(UserError, match=rf"{title} is not installed: pip install 'stml-tf\[{tracker.package}\]'"):
        tracker.require()


def test_a_folder_of_the_same_name_is_not_a_package(monkeypatch, tmp_path):
    (tmp_path / "trackers_own_files").mkdir()  # as Weights & Biases makes where it runs
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(WandbTracker, "package", "trackers_own_files")
    with pytest.raises(UserError, match="is not installed"):
        WandbTracker.require()


def test_a_tracker_that_is_lost_does_not_end_the_training():
    class Failing(Tracker):
        package, title, advice = "json", "The tracker", ""
        calls = 0

        def _start(self, name, settings, run_id):
            return "id"

        def _log(self, values, epoch):
            self.calls += 1
            raise ConnectionError("the server is gone")

        def _end(self, values, epoch, report):
            self.calls += 1

        _close = _end

    told = []
    tracker = Failing("a run", SETTINGS, warn=told.append)
    fit(tracker, epochs=2)
    tracker.log_results(RESULTS, epoch=2, report=None)
    tracker.close("finished")
    assert told == ["The tracker is lost, and the run goes on without it: the server is gone"]
    assert tracker.calls == 1
