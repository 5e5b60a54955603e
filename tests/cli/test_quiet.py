import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOISY = "import os\nos.write(2, b'notice from C++')\n"


def run(code, path=None, **environment):
    """Runs code in a process of its own, `path` first on its module path; returns what it wrote."""
    inherited = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    module_path = os.pathsep.join(map(str, filter(None, [path, Path.cwd(), os.environ.get("PYTHONPATH")])))
    environment = {**inherited, "PYTHONPATH": module_path, **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture
def noisy_modules(tmp_path):
    """A folder whose `tensorflow` and `keras` write notices to file descriptor 2, as the real ones do."""
    (tmp_path / "tensorflow.py").write_text(NOISY)
    (tmp_path / "keras.py").write_text(f"{NOISY}from unittest.mock import Mock\nconfig = Mock()\n")
    return tmp_path


QUIETLY = "from stml_tf.cli.quiet import *; hush_tensorflow(); import_tensorflow()"


def test_tensorflow_starts_without_a_word():
    done = run(f"{QUIETLY}; import keras, tensorflow as tf; keras.layers.Dense(1)(tf.ones((2, 3))); print('ready')")
    assert (done.stdout, done.stderr, done.returncode) == ("ready\n", "", 0)


def test_what_only_keras_asks_for_is_imported_later_if_at_all():
    later = "import sklearn.metrics, matplotlib.figure; print('there')"
    done = run(f"{QUIETLY}; print({{'sklearn', 'matplotlib'}} & sys.modules.keys()); {later}")
    assert done.stdout == "set()\nthere\n"


def test_notices_stay_where_nobody_asked_for_silence(noisy_modules):
    done = run("from stml_tf.cli.quiet import *; import_tensorflow()", noisy_modules)
    assert done.stderr == "notice from C++" * 2


def test_the_environment_decides_before_the_program(noisy_modules):
    assert "notice" in run(QUIETLY, noisy_modules, TF_CPP_MIN_LOG_LEVEL="0").stderr
    assert run(f"{QUIETLY}; print(os.environ[LEVEL])", noisy_modules, TF_CPP_MIN_LOG_LEVEL="1").stdout == "1\n"


def test_stderr_works_again_afterwards(noisy_modules):
    done = run(f"{QUIETLY}; import sys; print('from Python', file=sys.stderr); os.write(2, b'from C++')", noisy_modules)
    assert done.stderr.splitlines() == ["from Python", "from C++"]


def test_a_failing_import_shows_what_was_written(noisy_modules):
    (noisy_modules / "keras.py").write_text(NOISY + "raise ImportError('no keras today')")
    done = run(QUIETLY, noisy_modules)
    assert done.stderr.startswith("notice from C++" * 2)
    assert "ImportError: no keras today" in done.stderr


def test_keras_is_set_as_training_needs_it_whatever_its_settings_say(tmp_path):
    settings = {"floatx": "float16", "image_data_format": "channels_first", "backend": "torch", "epsilon": 1e-7}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    show = "import keras; print(keras.backend.backend(), keras.config.image_data_format(), keras.layers.Dense(1).dtype)"
    done = run(f"{QUIETLY}; {show}", KERAS_HOME=str(tmp_path), KERAS_BACKEND="jax")
    assert done.stdout == "tensorflow channels_last float32\n"
