import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from rich.console import Console

from stml_tf import load_recipe
from stml_tf.errors import UserError
from stml_tf.fitting.callbacks import TrainingRuined
from stml_tf.runs import sweep as sweeping
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.result import TrainingResult
from stml_tf.runs.search_space import parse_parameters
from stml_tf.runs.study import Study

pytest.importorskip("optuna")

SMALL = (
    *("data.num_classes=16", "data.instances=6", "data.image_size=16", "views.size=16"),
    *("model.embedding_dim=8", "model.teacher_dim=16", "batch.size=16", "sampling.num_neighbors=4"),
    "training.epochs=3",
)
SIGMAS = "loss.sigma=0.1,0.3,1.0"
BY_SIGMA = {0.1: 0.2, 0.3: 0.7, 1.0: 0.5}


class Training:
    """Stands in for `train_recipe`: health and R@1 rise from epoch to epoch to what `reached` says of the recipe."""

    def __init__(self, monkeypatch):
        self.reached = lambda recipe: BY_SIGMA[recipe.loss.sigma]
        self.calls = []
        monkeypatch.setattr(sweeping, "train_recipe", self)
        monkeypatch.setattr(keras.utils, "clear_session", lambda: None)  # there is none

    def __call__(self, recipe, *, catalog, run_dir, watch, **options):
        self.calls.append((recipe, catalog, run_dir.name, options))
        RunFolder(run_dir).open(recipe, resume=True)
        score, history = self.reached(recipe), []
        for epoch in range(1, recipe.training.epochs + 1):
            logs = {"health": score * (epoch / recipe.training.epochs)}
            history.append({**logs, **({"recall@1": logs["health"] / 2} if catalog.test else {})})
            watch(epoch, history[-1])
        return TrainingResult(run_dir, metrics={"recall@1": score / 2} if catalog.test else {}, history=history)


@pytest.fixture
def training(monkeypatch):
    return Training(monkeypatch)


def sweep(folder, *params, overrides=(), **options):
    printed = io.StringIO()
    options = {"overrides": [*SMALL, *overrides], "folder": folder, **options}
    console = Console(file=printed, width=200)
    return sweeping.sweep("quickstart", parse_parameters(params), console=console, **options), printed.getvalue()


def test_the_best_score_wins_and_its_recipe_is_kept(training, tmp_path):
    found, printed = sweep(tmp_path / "out", SIGMAS)
    assert [(each.settings["loss.sigma"], each.score, each.ended, each.epochs) for each in found.outcomes] == [
        (0.3, 0.7, "complete", 3),
        (1.0, 0.5, "complete", 3),
        (0.1, 0.2, "complete", 3),
    ]
    assert found.best == {"loss.sigma": 0.3}
    assert load_recipe(found.recipe_file) == load_recipe("quickstart", [*SMALL, "loss.sigma=0.3"])
    assert [name for _, _, name, _ in training.calls] == ["trial-000", "trial-001", "trial-002"]
    assert all(options["export"] is False for *_, options in training.calls)
    assert "3 trials, chosen by the health score" in printed and "epoch 2/3  score 0.467" in printed


def test_a_small_product_is_tried_in_full_and_a_range_as_often_as_asked(training, tmp_path):
    training.reached = lambda recipe: recipe.loss.delta / 2
    found, _ = sweep(tmp_path / "grid", SIGMAS, "loss.delta=0.8,1.0")
    tried = {tuple(each.settings.values()) for each in found.outcomes}
    assert tried == {(sigma, delta) for sigma in (0.1, 0.3, 1.0) for delta in (0.8, 1.0)}
    found, _ = sweep(tmp_path / "range", "loss.delta=0.5..1.5:log", "sampling.num_neighbors=2,4", trials=5)
    assert len(found.outcomes) == 5
    assert all(0.5 <= each.settings["loss.delta"] <= 1.5 for each in found.outcomes)
    assert found.best == found.outcomes[0].settings
    assert found.best["loss.delta"] == max(each.settings["loss.delta"] for each in found.outcomes)


def test_test_classes_play_no_part_unless_asked_for(training, tmp_path):
    whole = load_recipe("quickstart", SMALL)
    sweep(tmp_path / "score", SIGMAS)
    sweep(tmp_path / "heldout", SIGMAS, on="heldout")
    found, printed = sweep(tmp_path / "test", SIGMAS, on="test")
    scored, held, tested = (training.calls[place][1] for place in (0, 3, 6))
    train_classes = set(tested.train.labels)
    assert scored.test is scored.gallery is None and set(scored.train.labels) == train_classes
    assert set(held.test.labels) <= train_classes and set(held.test.labels).isdisjoint(held.train.labels)
    assert set(tested.test.labels).isdisjoint(train_classes)
    assert "chosen by R@1 on the test classes" in printed
    assert found.outcomes[0].value == found.outcomes[0].recall == 0.35
    assert training.calls[0][0].data == whole.data


def test_a_collapse_is_a_result_and_a_refusal_is_one_too(training, tmp_path):
    def reached(recipe):
        if recipe.loss.sigma == 0.1:
            raise TrainingRuined("Training stopped after epoch 2, as the embedding collapses.")
        if recipe.loss.sigma == 1.0:
            raise UserError("A batch of 16 images cannot be drawn from 10.")
        return 0.4

    training.reached = reached
    found, printed = sweep(tmp_path / "out", SIGMAS)
    assert [(each.ended, each.value) for each in found.outcomes] == [
        ("complete", 0.4),
        ("collapsed", 0.0),
        ("failed", None),
    ]
    assert "collapsed after 0 s: Training stopped after epoch 2, as the embedding collapses." in printed
    assert "A batch of 16 images cannot be drawn" in found.outcomes[2].why


def test_combinations_that_the_recipe_refuses_fail_and_the_others_are_tried(training, tmp_path):
    training.reached = lambda recipe: 0.5
    found, _ = sweep(tmp_path / "out", "sampling.num_neighbors=4,5", "batch.size=16,20")
    assert [each.ended for each in found.outcomes].count("failed") == 1
    assert "batch.size: 16 given; allowed: a multiple" in found.outcomes[-1].why


def test_where_no_trial_comes_to_its_end_nothing_is_best(training, tmp_path):
    def reached(recipe):
        raise TrainingRuined("collapsed")

    training.reached = reached
    found, _ = sweep(tmp_path / "out", SIGMAS)
    assert found.best is None and found.recipe_file is None and not (tmp_path / "out" / "best.json").exists()


def test_what_falls_behind_the_others_is_pruned(training, tmp_path):
    training.reached = lambda recipe: 1 - recipe.loss.sigma / 10
    found, _ = sweep(tmp_path / "out", "loss.sigma=1,2,3,4,5,6")
    assert [each.ended for each in found.outcomes] == ["complete"] * 4 + ["pruned"] * 2
    assert all(each.epochs == 2 for each in found.outcomes if each.ended == "pruned")


def test_a_sweep_that_was_cut_off_goes_on_in_the_same_trial(training, tmp_path):
    cut_off = []

    def reached(recipe):
        if recipe.loss.sigma == 0.3 and not cut_off:
            cut_off.append(recipe)
            raise KeyboardInterrupt
        return BY_SIGMA[recipe.loss.sigma]

    training.reached = reached
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path / "out", SIGMAS)
    found, _ = sweep(tmp_path / "out", SIGMAS, resume=True)
    assert [name for _, _, name, _ in training.calls] == ["trial-000", "trial-001", "trial-001", "trial-002"]
    assert [each.settings["loss.sigma"] for each in found.outcomes] == [0.3, 1.0, 0.1]
    again, _ = sweep(tmp_path / "out", SIGMAS, resume=True)
    assert again == found and len(training.calls) == 4


def test_drawn_settings_are_kept_when_they_were_cut_off_and_new_ones_are_others(training, tmp_path):
    def reached(recipe):
        if len(training.calls) == 2:
            raise KeyboardInterrupt
        return 0.5

    training.reached = reached
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path / "out", "loss.sigma=0.1..1", trials=4)
    found, _ = sweep(tmp_path / "out", "loss.sigma=0.1..1", trials=4, resume=True)
    assert training.calls[1][0] == training.calls[2][0]
    assert training.calls[1][2] == training.calls[2][2] == "trial-001"
    assert len({each.settings["loss.sigma"] for each in found.outcomes}) == 4


def test_more_trials_may_be_asked_for_later(training, tmp_path):
    training.reached = lambda recipe: 0.5
    sweep(tmp_path / "out", "loss.sigma=0.1..1", trials=2)
    found, _ = sweep(tmp_path / "out", "loss.sigma=0.1..1", trials=3, resume=True)
    assert len(found.outcomes) == 3


def test_another_question_is_refused_in_the_same_folder(training, tmp_path):
    sweep(tmp_path / "out", SIGMAS)
    with pytest.raises(UserError, match="holds a sweep already: go on with --resume, or give another folder"):
        sweep(tmp_path / "out", SIGMAS)
    with pytest.raises(UserError, match=r"asked something else:\n  parameters: .*0.1.* in the sweep, .*0.2.* given"):
        sweep(tmp_path / "out", "loss.sigma=0.2,1.0", resume=True)
    with pytest.raises(UserError, match=r'chosen_by: "score" in the sweep, "heldout" given'):
        sweep(tmp_path / "out", SIGMAS, on="heldout", resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(UserError, match="is not empty and holds no sweep"):
        sweep(tmp_path / "mine", SIGMAS)


def test_without_labels_only_the_score_can_choose(training, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in range(20):
        (tmp_path / "photos" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    data = ['data={"name": "folder", "train": "photos", "test": null}']
    others = [override for override in SMALL if not override.startswith("data.")]
    options = {"overrides": [*data, *others], "data_dir": tmp_path}
    with pytest.raises(UserError, match="have no classes to hold out"):
        sweep(tmp_path / "a", SIGMAS, on="heldout", **options)
    with pytest.raises(UserError, match="has no test images to choose on: choose by the health score"):
        sweep(tmp_path / "b", SIGMAS, on="test", **options)


def test_without_optuna_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        UserError, match=r"A sweep needs Optuna, which is not installed: pip install 'stml-tf\[sweep\]'"
    ):
        Study(tmp_path / "optuna.db", parse_parameters([SIGMAS]))


def test_the_database_may_lie_in_a_folder_of_any_name(training, tmp_path):
    folder = tmp_path / "50 % off? #1"
    sweep(folder, SIGMAS)
    assert (folder / "optuna.db").exists()


@pytest.mark.slow
def test_a_sweep_that_is_killed_while_it_trains_goes_on_from_the_checkpoint(tmp_path):
    changed = [word for override in (*SMALL, "training.epochs=2") for word in ("--set", override)]
    arguments = ["sweep", "quickstart", "--param", "loss.sigma=0.3,1.0", "--resume", "-o", "out", *changed]

    def run(event):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-m", "tests.runs.troubled_run", event, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)

    assert run("killed_at(5)").returncode == -signal.SIGKILL  # in the second epoch, of three steps, of the first trial
    ended = run("None")
    assert ended.returncode == 0, ended.stderr
    assert "trial-000 (1 of 2)  loss.sigma=0.3\n  epoch 2/2" in ended.stdout
    assert "Train it: stml-tf train quickstart --set data.num_classes=16" in ended.stdout
    for name in ("trial-000", "trial-001"):
        metrics = json.loads((tmp_path / "out" / name / "metrics.json").read_text())
        assert len(metrics["epochs"]) == 2 and "saved_model" not in metrics and "after_training" not in metrics
        assert "test" not in json.loads((tmp_path / "out" / name / "images.json").read_text())["sets"]
        assert (tmp_path / "out" / name / "tensorboard").is_dir()
