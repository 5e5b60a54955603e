"""Keeps TensorFlow's start-up notices from the terminal: of processor features, missing GPUs, rounding."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
FATAL_ONLY = "3"


def hush_tensorflow() -> None:
    """Ask for silence, before TensorFlow is imported. For programs: a library leaves the choice to its user.

    A level that the environment already names stays.
    """
    os.environ.setdefault(LEVEL, FATAL_ONLY)


def import_tensorflow() -> None:
    """Import TensorFlow and Keras: without notices where silence was asked for, as they are otherwise.

    What they wrote is shown after all if the import fails.
    """
    if os.environ.get(LEVEL) != FATAL_ONLY:
        import keras  # noqa: F401
        import tensorflow as tf  # noqa: F401

        return
    with _stderr_held_back():
        import keras  # noqa: F401
        import tensorflow as tf  # noqa: F401
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    # The C++ runtime writes its first notices to file descriptor 2 before it has read the level, so no setting of
    # Python's or TensorFlow's stops them.
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
