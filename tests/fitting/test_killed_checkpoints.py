"""A process is killed before each single thing that saving a checkpoint does to the disk.

Whatever that is, the next process finds the checkpoint before it or the new one, whole, and goes on to the same end.
"""

import os
import random
import shutil
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from stml_tf import files
from stml_tf.fitting import checkpoints as module
from stml_tf.fitting.checkpoints import STATE, VARIABLES, Checkpoints

MOMENTS = [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]  # epochs, and batches of the next
RECALLS = {1: 0.9, 2: 0.2, 3: 0.5}
KILLED = 86
TOUCH_THE_DISK = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock")


@pytest.fixture(autouse=True)
def plain_state(monkeypatch):
    """A model is a dictionary of variables, so that a process can be forked without TensorFlow's threads."""
    monkeypatch.setattr(module, "_variables", lambda model: model)
    monkeypatch.setattr(files, "_sync", lambda path: None)  # A killed process takes nothing with it from memory.


def state_at(moment):
    """What training has made of two variables by then."""
    numbers = np.random.default_rng(moment).standard_normal(6).astype(np.float32)
    return {"student/kernel": Variable(numbers[:4]), "optimizer/iterations": Variable(numbers[4:])}


class Variable(SimpleNamespace):
    def __init__(self, value):
        super().__init__(value=value, dtype="float32", shape=value.shape)

    def numpy(self):
        return self.value

    def assign(self, value):
        self.value = value


def save(folder, moment):
    epoch, batch = moment
    metrics = {} if batch else {"recall@1": RECALLS[epoch]}
    Checkpoints(folder).save(state_at(moment), epoch=epoch, batch=batch, step=10 * epoch + batch, metrics=metrics)


def save_until_killed(folder, moment, number):
    """Save in a process that is killed before the so-many-th touch of the disk; give whether it was."""
    process = os.fork()
    if not process:
        touches = iter(range(number))

        def count(event, arguments):
            if event in TOUCH_THE_DISK and next(touches, None) is None:
                os._exit(KILLED)

        try:
            sys.addaudithook(count)
            save(folder, moment)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == KILLED


def found_in(folder):
    """What the next process restores: the moment, its state, and that of the best epoch."""
    checkpoints, restored = Checkpoints(folder), state_at((9, 9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Nothing may be found damaged.
        latest, best = checkpoints.latest(), checkpoints.best()
    checkpoints.restore(restored, latest)
    for name, variable in state_at((latest.epoch, latest.batch)).items():
        np.testing.assert_array_equal(restored[name].value, variable.value)
    return (latest.epoch, latest.batch), best and best.epoch


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def trained_until(folder, moments):
    for moment in moments:
        save(folder, moment)


@pytest.mark.parametrize(
    ("place", "removed"), [(1, None), (3, "epoch-0000-batch-00001"), (5, "epoch-0001-batch-00001")]
)
def test_killed_before_any_touch_of_the_disk_it_goes_on_as_if_nothing_had_been(tmp_path, place, removed):
    before, moment = MOMENTS[place - 1], MOMENTS[place]
    started, whole = tmp_path / "started", tmp_path / "whole"
    trained_until(started, MOMENTS[:place])
    shutil.copytree(started, whole)
    save(whole, moment)
    assert set(content(started)) - set(content(whole)) == {
        f"{removed}/{name}" for name in (STATE, VARIABLES) if removed
    }
    found = []
    for number in range(1000):
        folder = shutil.copytree(started, tmp_path / f"{number}")
        if not save_until_killed(folder, moment, number):
            break
        latest, best = found_in(folder)
        found.append(latest)
        epochs = [epoch for epoch, batch in MOMENTS[: MOMENTS.index(latest) + 1] if not batch]
        assert best == max(epochs, key=RECALLS.get, default=None)
        save(folder, moment)  # As the resumed process does, or again where it is there: what is old goes now.
        assert content(folder) == content(whole)
        assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}
    assert found == sorted(found), "once the new one can be found, it always is"
    assert set(found) == {before, moment}


def test_killed_again_while_it_mends_what_the_first_kill_left_it_still_goes_on(tmp_path):
    trained_until(tmp_path / "whole", MOMENTS)
    chance = random.Random(0)
    for number in range(5):
        folder, place, kills = tmp_path / f"{number}", 1, 0
        trained_until(folder, MOMENTS[:1])
        while place < len(MOMENTS):
            kills += save_until_killed(folder, MOMENTS[place], chance.randrange(60))
            place = MOMENTS.index(found_in(folder)[0]) + 1
        assert kills
        save(folder, MOMENTS[-1])
        assert content(folder) == content(tmp_path / "whole")


def test_killed_while_it_replaces_a_checkpoint_of_the_same_moment_one_of_both_is_there(tmp_path):
    trained_until(tmp_path / "started", MOMENTS[:2])
    for number in range(1000):
        folder = shutil.copytree(tmp_path / "started", tmp_path / f"{number}")
        if not save_until_killed(folder, MOMENTS[1], number):
            break
        assert found_in(folder) == (MOMENTS[1], 1)
    assert number > 10


def test_a_foreign_file_in_a_checkpoint_that_goes_stays(tmp_path):
    trained_until(tmp_path, MOMENTS[:1])
    note = tmp_path / "epoch-0000-batch-00001" / "notes.txt"
    note.write_text("mine")
    trained_until(tmp_path, MOMENTS[1:])
    assert note.read_text() == "mine"
    assert [path.name for path in note.parent.iterdir()] == ["notes.txt"]
