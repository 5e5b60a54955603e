"""Saves checkpoints in processes that are killed before each single thing that they do to the disk.

Run as `python -m tests.fitting.killed_checkpoints CHECK FOLDER`, apart from the other tests: a process without
TensorFlow is forked in a millisecond. A model is a dictionary of variables here.
"""

# ruff: noqa: E402
import os
import random
import shutil
import sys
import types
import warnings
from pathlib import Path

import numpy as np

sys.modules["keras"] = types.SimpleNamespace(
    Model=object, Variable=object, backend=types.SimpleNamespace(standardize_dtype=str)
)

from stml_tf import files
from stml_tf.fitting import checkpoints as module
from stml_tf.fitting.checkpoints import STATE, VARIABLES, Checkpoints

module._variables = lambda model: model
files._sync = lambda path: None  # A killed process takes nothing with it from memory.

_scan = os.scandir


class _LastFirst:
    """What is in a folder, in the worst order there is: its lock first."""

    def __init__(self, path="."):
        with _scan(path) as entries:
            self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

    def __iter__(self):
        return self.entries

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


os.scandir = _LastFirst

MOMENTS = [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]  # epochs, and batches of the next
RECALLS = {1: 0.9, 2: 0.2, 3: 0.5}
KILLED = 86
TOUCH_THE_DISK = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock")


class Variable(types.SimpleNamespace):
    def __init__(self, value):
        super().__init__(value=value, dtype="float32", shape=value.shape)

    def numpy(self):
        return self.value

    def assign(self, value):
        self.value = value


def state_at(moment):
    """What training has made of two variables by then."""
    numbers = np.random.default_rng(moment).standard_normal(6).astype(np.float32)
    return {"student/kernel": Variable(numbers[:4]), "optimizer/iterations": Variable(numbers[4:])}


def save(folder, moment):
    epoch, batch = moment
    metrics = {} if batch else {"recall@1": RECALLS[epoch]}
    Checkpoints(folder).save(state_at(moment), epoch=epoch, batch=batch, step=10 * epoch + batch, metrics=metrics)


def save_all(folder, moments):
    for moment in moments:
        save(folder, moment)
    return folder


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
    """What the next process restores, which is whole: the moment, and the best epoch."""
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


def names(folder):
    return {path.name for path in folder.iterdir()}


def killed_while_it_saves(folder, place, removed):
    """It finds the checkpoint before or the new one, goes on, and ends with the very files of one never killed."""
    before, moment = MOMENTS[place - 1], MOMENTS[place]
    started = save_all(folder / "started", MOMENTS[:place])
    whole = save_all(shutil.copytree(started, folder / "whole"), [moment])
    gone = {f"{removed}/{name}" for name in (STATE, VARIABLES) if removed}
    assert set(content(started)) - set(content(whole)) == gone
    found = []
    for number in range(1000):
        copy = shutil.copytree(started, folder / f"{number}")
        if not save_until_killed(copy, moment, number):
            break
        latest, best = found_in(copy)
        found.append(latest)
        epochs = [epoch for epoch, batch in MOMENTS[: MOMENTS.index(latest) + 1] if not batch]
        assert best == max(epochs, key=RECALLS.get, default=None)
        save(copy, moment)  # As the resumed process does, or again where it is there: what is old goes now.
        assert (content(copy), names(copy)) == (content(whole), names(whole)), number
    assert found == sorted(found), "once the new one can be found, it always is"
    assert set(found) == {before, moment}
    assert len(found) > 20


def before_any_is_removed(folder):
    killed_while_it_saves(folder, 1, None)


def while_the_first_is_removed(folder):
    killed_while_it_saves(folder, 3, "epoch-0000-batch-00001")


def while_one_within_an_epoch_is_removed(folder):
    killed_while_it_saves(folder, 5, "epoch-0001-batch-00001")


def again_and_again(folder):
    """Also while it mends what the kill before has left."""
    whole, chance = save_all(folder / "whole", MOMENTS), random.Random(0)
    for number in range(10):
        trained, place, kills = save_all(folder / f"{number}", MOMENTS[:1]), 1, 0
        while place < len(MOMENTS):
            kills += save_until_killed(trained, MOMENTS[place], chance.randrange(60))
            place = MOMENTS.index(found_in(trained)[0]) + 1
        assert kills
        save(trained, MOMENTS[-1])
        assert content(trained) == content(whole)


def while_one_of_the_same_moment_is_replaced(folder):
    started = save_all(folder / "started", MOMENTS[:2])
    for number in range(1000):
        copy = shutil.copytree(started, folder / f"{number}")
        if not save_until_killed(copy, MOMENTS[1], number):
            break
        assert found_in(copy) == (MOMENTS[1], 1)
    assert number > 20


def with_a_foreign_file_in_one_that_goes(folder):
    note = save_all(folder / "run", MOMENTS[:1]) / "epoch-0000-batch-00001" / "notes.txt"
    note.write_text("mine")
    save_all(folder / "run", MOMENTS[1:])
    assert note.read_text() == "mine"
    assert names(note.parent) == {"notes.txt"}


CHECKS = {
    check.__name__: check
    for check in (
        before_any_is_removed,
        while_the_first_is_removed,
        while_one_within_an_epoch_is_removed,
        again_and_again,
        while_one_of_the_same_moment_is_replaced,
        with_a_foreign_file_in_one_that_goes,
    )
}

if __name__ == "__main__":
    CHECKS[sys.argv[1]](Path(sys.argv[2]))
    print("as if nothing had been")
