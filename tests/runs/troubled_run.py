"""Trains with the command line, in a process of its own, to which something happens on the way.

Run as `python -m tests.runs.troubled_run EVENT ARGUMENT...`: EVENT is one of the calls below, or None; the arguments
are those of `stml-tf`.
"""

# ruff: noqa: E402
import os
import resource
import signal
import sys
import threading

from stml_tf.cli.quiet import hush_tensorflow, import_tensorflow

hush_tensorflow()
import_tensorflow()

import numpy as np

from stml_tf import files
from stml_tf.cli import main as cli
from stml_tf.fitting.checkpoint_callback import CheckpointCallback
from stml_tf.models.whitening import PrincipalComponents, Whitening
from tests.methods.tiny_student import logical_cpus  # noqa: F401


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name, happen):
    usual = getattr(owner, name)

    def changed(*args, **kwargs):
        happen(*args)
        return usual(*args, **kwargs)

    setattr(owner, name, changed)


def killed_in_write(number):
    writes = []

    def half(path, **values):
        writes.append(path)
        if len(writes) == number:
            path.write(b"half of it")
            die()

    before(np, "savez", half)


def killed_in_removal():
    """Where an old checkpoint is removed, half of which is gone: so the versions before removed it."""

    def half(folder, names):
        (folder / "state.json").unlink()
        die()

    before(files, "delete_whole", half)


def at_step(step, happen):
    steps = []

    def count(*_):
        steps.append(0)
        if len(steps) == step:
            happen()

    before(CheckpointCallback, "on_train_batch_end", count)


def killed_at(step):
    at_step(step, die)


def killed_after(step, seconds):
    """In the middle of whatever the process does so long after a step."""
    at_step(step, threading.Timer(seconds, die).start)


def signalled(name, step):
    at_step(step, lambda: os.kill(os.getpid(), getattr(signal, name)))


def disk_full_at(step):
    """Files cannot grow beyond what TensorBoard's take and a checkpoint needs."""
    at_step(step, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY)))


def mirrored():
    """The signs of eigenvectors are anyone's choice: this process makes another one."""
    usual = PrincipalComponents.whitening

    def negated(self, dim, power):
        return Whitening(*(-part for part in usual(self, dim, power)))

    PrincipalComponents.whitening = negated


if __name__ == "__main__":
    eval(sys.argv[1])
    cli.main(sys.argv[2:])
