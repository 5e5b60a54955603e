import signal
from types import SimpleNamespace

import pytest
from rich.console import Console

from stml_tf.errors import UserError
from stml_tf.fitting.callbacks import TrainingInterrupted, TrainingStopped
from stml_tf.monitoring import Display
from stml_tf.monitoring.trackers import TRACKERS
from stml_tf.recipe.load import load_recipe
from stml_tf.runs import trackers
from stml_tf.runs.fit import GivenUp
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.measure import Measured
from stml_tf.runs.prepare import prepare

LOGGING = load_recipe("quickstart", ['training.log_to=["wandb","mlflow"]'])


@pytest.fixture
def opened(monkeypatch):
    """The trackers that a run opens, each of which remembers what was asked of it."""
    opened = []

    class Noting:
        title = "A tracker"

        def __init__(self, name, settings, *, run_id, warn):
            self.name, self.settings, self.given = name, settings, run_id
            self.run_id = run_id or f"id {len(opened)}"
            opened.append(self)

        def log_results(self, results, *, epoch, report):
            self.results, self.epoch, self.report = results, epoch, report

        def close(self, status):
            self.status = status

    monkeypatch.setattr(trackers, "TRACKERS", dict.fromkeys(TRACKERS, Noting))
    return opened


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "trial-003")
    folder.path.mkdir()
    return SimpleNamespace(recipe=LOGGING, folder=folder, console=None, display=Display(Console(quiet=True)))


def test_a_resumed_run_goes_on_where_it_was_logged(run, opened):
    for _ in range(2):
        with trackers.tracked(run) as callbacks:
            assert callbacks == opened[-2:]
    assert [each.given for each in opened] == [None, None, "id 0", "id 1"]
    assert {each.name for each in opened} == {"trial-003"}
    assert opened[0].settings["loss.sigma"] == LOGGING.loss.sigma


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "finished"),
        (TrainingInterrupted("SIGTERM came", signal.SIGTERM), "killed"),
        (KeyboardInterrupt(), "killed"),
        (GivenUp(), "killed"),
        (TrainingStopped("no longer a number"), "failed"),
        (MemoryError(), "failed"),
    ],
)
def test_trackers_learn_how_a_run_ended(run, opened, error, status):
    try:
        with trackers.tracked(run):
            if error:
                raise error
    except BaseException as raised:
        assert raised is error
    assert [each.status for each in opened] == [status, status]


def test_each_tracker_is_told_what_was_measured_in_the_end(run, opened):
    results = {"after_training": Measured({"recall@1": 0.5}, queries=None)}
    with trackers.tracked(run) as callbacks:
        trackers.log_results(callbacks, run, results)
    assert [each.results for each in opened] == [{"after_training": {"recall@1": 0.5}}] * 2
    assert [each.epoch for each in opened] == [LOGGING.training.epochs] * 2
    assert [each.report for each in opened] == [run.folder.path / "report.html"] * 2


def test_only_the_first_worker_logs(run, opened, monkeypatch):
    monkeypatch.setattr(trackers, "is_chief", lambda: False)
    with trackers.tracked(run) as callbacks:
        assert callbacks == []
    assert opened == []


def test_a_tracker_that_refuses_leaves_no_other_open(run, opened, monkeypatch):
    def refuse(*_, **__):
        raise UserError("MLflow does not take the run")

    monkeypatch.setitem(trackers.TRACKERS, "mlflow", type("Refusing", (), {"title": "MLflow", "__new__": refuse}))
    with pytest.raises(UserError, match="MLflow does not take the run"), trackers.tracked(run):
        pass
    assert [each.status for each in opened] == ["failed"]


def test_a_missing_package_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(TRACKERS["mlflow"], "package", "no_such_package")
    recipe = load_recipe("quickstart", ['training.log_to=["mlflow"]'])
    with pytest.raises(UserError, match=r"MLflow is not installed: pip install"):
        prepare(recipe, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
