"""Keeps TensorFlow's start-up notices from the terminal: of processor features, missing GPUs, rounding."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from stml_tf.cli.terminal import while_loading

LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # 0 shows everything, 3 fatal errors alone


def hush_tensorflow() -> None:
    """Ask TensorFlow for silence, before it is imported; a level that the environment already names stays.

    This is for programs: a library leaves the choice to its user.
    """
    os.environ.setdefault(LEVEL, "3")


def import_tensorflow() -> None:
    """Import TensorFlow and Keras, without their notices where the level asks for none.

    What they wrote is shown after all if the import fails. Keras is set as this program needs it, whatever
    KERAS_BACKEND and keras.json say for others.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with while_loading("TensorFlow"):
        _import_quietly()
    keras = import_module("keras")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")


def _import_quietly() -> None:
    if os.environ.get(LEVEL, "0") == "0":
        import_module("tensorflow")
        import_module("keras")
    else:
        with _stderr_held_back():
            import_module("tensorflow")
            import_module("keras")
        for name in ("tensorflow", "absl"):
            logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    # The C++ runtime writes its first notices to file descriptor 2 before it has read the level, so the level does not
    # stop them.
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
