"""Processes that are killed, asked to stop, or out of disk space, and go on as if nothing had been."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

RECIPE = (
    *("data.num_classes=16", "data.instances=6", "data.image_size=16", "views.size=16"),
    *("model.embedding_dim=8", "model.teacher_dim=16", "batch.size=16", "sampling.num_neighbors=4"),
    *("training.epochs=4", "training.deterministic=true", "training.checkpoint_steps=2"),
)


def train(folder, event="None"):
    overrides = [word for override in RECIPE for word in ("--set", override)]
    arguments = ["train", "quickstart", *overrides, "--run-dir", "run", "--resume"]
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "tests.runs.troubled_run", event, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=600,
    )


def checkpoints(folder):
    return sorted(path.name for path in (folder / "run" / "checkpoints").glob("epoch-*"))


def variables(folder):
    with np.load(folder / "run" / "checkpoints" / "epoch-0004" / "variables.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert train(folder).returncode == 0
    return folder


def assert_nothing_has_been(folder, whole):
    """The run ends with the same bits, and the same numbers of every epoch."""
    ended = train(folder)
    assert ended.returncode == 0, ended.stderr
    expected, actual = variables(whole), variables(folder)
    assert expected.keys() == actual.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(actual[key], value, err_msg=key)
    there, here = (json.loads((path / "run" / "metrics.json").read_text()) for path in (whole, folder))
    for written in (there, here):
        del written["sha256"]  # the seal of what holds the times too
    for epoch in (each for written in (there, here) for each in (*written["epochs"], written["best_epoch"])):
        for name in [name for name in epoch if name.startswith("speed/")]:
            del epoch[name]
    assert Path(here.pop("saved_model")).relative_to(folder) == Path(there.pop("saved_model")).relative_to(whole)
    assert here == there


@pytest.mark.slow
def test_killed_at_random_and_in_the_middle_of_writing_or_removing_the_result_is_the_same_to_the_last_bit(
    whole, tmp_path
):
    """Of 12 steps; what a process does so long after a step depends on the machine, but not that there is much left."""
    random = np.random.default_rng(0)
    first = int(random.integers(1, 5)), float(random.uniform(0, 0.3))
    for event in (f"killed_after{first}", "killed_in_write(2)", "killed_in_removal()"):
        ended = train(tmp_path, event)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert not (tmp_path / "run" / "metrics.json").exists()
    assert_nothing_has_been(tmp_path, whole)


@pytest.mark.slow
def test_asked_to_stop_it_finishes_the_step_says_how_to_go_on_and_goes_on(whole, tmp_path):
    stopped = train(tmp_path, "signalled('SIGTERM', 4)")
    assert stopped.returncode == 143
    assert re.search(
        r"Stopped after batch 1 of epoch 2, as SIGTERM asked.* repeat the command with --resume", stopped.stderr
    )
    assert "Traceback" not in stopped.stderr
    assert checkpoints(tmp_path)[-1] == "epoch-0001-batch-00001"
    stopped = train(tmp_path, "signalled('SIGINT', 1)")
    assert stopped.returncode == 130
    assert checkpoints(tmp_path)[-1] == "epoch-0001-batch-00002"
    assert_nothing_has_been(tmp_path, whole)


@pytest.mark.slow
def test_out_of_disk_space_it_says_so_and_goes_on_from_the_checkpoint_before(whole, tmp_path):
    stopped = train(tmp_path, "disk_full_at(5)")
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("Error: The disk is full (")
    assert "Could not write checkpoint run/checkpoints/epoch-0002: File too large." in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert checkpoints(tmp_path)[-1] == "epoch-0001-batch-00001"
    assert_nothing_has_been(tmp_path, whole)
