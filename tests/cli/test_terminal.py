"""Whatever a file is called, no command lets its name act upon the terminal."""

import ast
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

import stml_tf.cli
from stml_tf.cli.errors import Refused, Stopped
from stml_tf.cli.main import main
from stml_tf.cli.terminal import say, tell, visible
from stml_tf.monitoring import say as say_of_a_run
from stml_tf.recipe.load import load_recipe, save_recipe
from tests.toy_network import export_toy, save_photograph

HARMFUL = "a\x1b]0;title\x07b\x1b[31mc\x9bd\re\x08f\x7f"
HARMLESS = "a\\x1b]0;title\\x07b\\x1b[31mc\\x9bd\\x0de\\x08f\\x7f"


def controls(text):
    return {letter for letter in text if ord(letter) < 32 or 127 <= ord(letter) < 160} - {"\n"}


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_nothing_is_printed_but_through_the_functions_that_escape():
    """`rich` prints tables, of names of ours."""
    printing = ("print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write")
    for file in Path(stml_tf.cli.__file__).parent.glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        found = [f"{file.name}:{call.lineno}" for call in calls if ast.unparse(call.func) in printing]
        assert not found or file.name == "terminal.py", f"{found}: use tell or say"


@pytest.mark.parametrize("speak", [tell, say])
def test_what_is_said_is_escaped_but_for_line_ends(capsys, speak):
    speak(f"{HARMFUL}\nend")
    spoken = capsys.readouterr()
    assert spoken.out + spoken.err == f"{HARMLESS}\nend\n"


def test_a_run_and_errors_say_the_same(capsys):
    say_of_a_run(Console(), HARMFUL)
    for error in (Stopped, Refused):
        error(HARMFUL).show()
    spoken = capsys.readouterr()
    assert spoken.out + spoken.err == f"{HARMLESS}\n" + 2 * f"Error: {HARMLESS}\n"
    assert visible(os.fsdecode(b"\xff")) == "\\xff"


@pytest.mark.parametrize("name", main.commands)
def test_a_usage_error_repeats_what_was_typed_harmlessly(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [
        HARMFUL for parameter in main.commands[name].params if isinstance(parameter, click.Argument) for _ in range(2)
    ]
    for typed in ([*arguments, f"--{HARMFUL}"], [*arguments, HARMFUL, HARMFUL, HARMFUL]):
        status, output = run(name, *typed)
        assert status == 2
        assert not controls(output), output


def test_an_unknown_command_and_a_missing_file_are_repeated_harmlessly(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (
        [HARMFUL],
        ["search", HARMFUL, HARMFUL],
        ["validate", HARMFUL],
        ["train", HARMFUL],
        ["train", "quickstart", "--set", f"seed={HARMFUL}"],
        ["train", "--images", HARMFUL],
        ["evaluate", HARMFUL],
        ["export", HARMFUL, HARMFUL],
        ["convert-weights", HARMFUL, "--backbone", HARMFUL, "-o", HARMFUL],
    ):
        status, output = run(*arguments)
        assert status == 2, arguments
        assert not controls(output), arguments


def test_what_succeeds_names_its_files_harmlessly(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = export_toy(tmp_path / f"model{HARMFUL}")
    photos, gallery = tmp_path / f"photos{HARMFUL}", tmp_path / f"gallery{HARMFUL}"
    for number in range(4):
        save_photograph(photos / f"{number}{HARMFUL}.png", number // 2)
    (photos / f"bad{HARMFUL}.jpg").write_bytes(b"no image")
    recipe = tmp_path / f"recipe{HARMFUL}.json"
    save_recipe(load_recipe("quickstart"), recipe)
    for arguments in (
        ["embed", model, photos, "-o", f"e{HARMFUL}.npz"],
        ["index", model, photos, "-o", gallery],
        ["search", gallery, photos, "--html", f"s{HARMFUL}.html", "-k", 2],
        ["duplicates", gallery, "--threshold", 0.9],
        ["duplicates", gallery, "--threshold", 0.9, "-o", f"d{HARMFUL}.csv"],
        ["cluster", gallery],
        ["cluster", gallery, "--json"],
        ["check", gallery],
        ["add", gallery, photos],
        ["update", gallery],
        ["remove", gallery, photos / f"1{HARMFUL}.png"],
        ["validate", recipe],
        ["validate", recipe, "--set", f"model.weights={HARMFUL}"],
    ):
        status, output = run(*arguments)
        assert status in (0, 1), (arguments, output)
        assert output
        assert not controls(output), arguments
