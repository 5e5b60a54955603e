"""Suppression of TensorFlow's start-up notices about processor features, missing GPUs and rounding."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from stml_tf.cli.terminal import while_loading

LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # 0 shows everything, 3 only fatal errors


def hush_tensorflow() -> None:
    """Set TensorFlow's log level before it is imported, unless the environment already does.

    This is for programs: a library leaves the choice to its user.
    """
    os.environ.setdefault(LEVEL, "3")


def import_tensorflow() -> None:
    """Import TensorFlow and Keras, without their notices unless the log level asks for them.

    If the import fails, everything that they wrote is shown. Keras is configured as this program needs it, whatever
    KERAS_BACKEND and keras.json say.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with while_loading("TensorFlow"):
        _import_quietly()
    keras = import_module("keras")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")


def _import_quietly() -> None:
    if os.environ.get(LEVEL, "0") == "0":
        _import_both()
    else:
        with _stderr_held_back():
            _import_both()
        for name in ("tensorflow", "absl"):
            logging.getLogger(name).setLevel(logging.ERROR)


def _import_both() -> None:
    # Keras imports these two wherever they are installed, for wrappers and plots that nothing here uses. That takes
    # half as long as TensorFlow itself, so Keras is told that they are missing, as they well may be.
    hidden = [name for name in ("sklearn", "matplotlib") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        import_module("tensorflow")
        import_module("keras")
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    # The C++ runtime writes its first notices to file descriptor 2 before it reads the log level.
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
