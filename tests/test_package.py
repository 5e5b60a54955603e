"""What people see of the package before they train: its names, its types, its command."""

import os
import subprocess
import sys
from importlib.resources import files

import click
import pytest

import stml_tf
from stml_tf.cli.main import main

PUBLIC = [
    "Gallery",
    "Recipe",
    "UserError",
    "__version__",
    "evaluate",
    "export",
    "load_recipe",
    "register_backbone",
    "register_loss",
    "register_method",
    "register_source",
    "train",
]


def test_dir_shows_the_public_names_and_nothing_else():
    assert dir(stml_tf) == PUBLIC
    assert sorted(stml_tf.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name):
    assert getattr(stml_tf, name)


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="module 'stml_tf' has no attribute 'trian'"):
        _ = stml_tf.trian


def test_export_is_the_function_whatever_has_been_imported():
    import stml_tf.export.saved_model

    assert stml_tf.export.__name__ == "export" and callable(stml_tf.export)
    from stml_tf.export import Embedder

    assert Embedder.__name__ == "Embedder"


def test_types_are_shipped():
    assert (files("stml_tf") / "py.typed").is_file()


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
    )


def test_the_package_is_a_command():
    done = run("-m", "stml_tf", "--version")
    assert (done.returncode, done.stdout) == (0, f"stml-tf, version {stml_tf.__version__}\n")


def test_a_shell_completes_the_names_of_recipes():
    done = run(
        "-m", "stml_tf", _STML_TF_COMPLETE="bash_complete", COMP_WORDS="stml-tf train omniglot_m", COMP_CWORD="2"
    )
    named = [line.removeprefix("plain,") for line in done.stdout.splitlines() if line.startswith("plain,")]
    assert named == ["omniglot_mean_shift", "omniglot_moco"]
    assert "file,omniglot_m" in done.stdout
    assert "_STML_TF_COMPLETE=bash_source" in main.get_help(click.Context(main))


def test_naming_things_loads_no_tensorflow():
    code = "import sys, stml_tf; stml_tf.register_loss('mine', print); stml_tf.load_recipe; "
    done = run("-c", f"{code}sys.exit('tensorflow' in sys.modules)")
    assert done.returncode == 0, done.stderr
