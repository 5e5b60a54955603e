import re

import pytest
from click.testing import CliRunner

from stml_tf.cli.main import main
from stml_tf.recipe.load import shipped_recipes


def call(monkeypatch, *arguments, width=80):
    monkeypatch.setenv("COLUMNS", str(width))
    return CliRunner().invoke(main, ["recipes", *arguments])


@pytest.mark.parametrize("width", [24, 40, 56, 57, 80, 200])
def test_the_list_fits_the_terminal(monkeypatch, width):
    lines = call(monkeypatch, width=width).output.splitlines()
    assert max(map(len, lines)) <= width
    named = [line.split()[0] for line in lines[:-1] if re.match(r"\w", line)]
    assert set(shipped_recipes()) <= set(named)
    # Whatever is not cut off: each word that is shown is whole.
    assert "BN-Inception" in " ".join(lines)


def test_recipes_on_the_same_data_stand_together(monkeypatch):
    groups = [group.splitlines() for group in call(monkeypatch, width=200).output.split("\n\n")]
    names = [[line.split()[0] for line in group] for group in groups[:-1]]
    assert names[0] == ["glyphs_semi", "grocery", "quickstart"]
    assert [len({name.partition("_")[0] for name in group}) for group in names[1:]] == [1] * (len(names) - 1)
    assert sorted(name for group in names for name in group) == sorted(shipped_recipes())
    assert groups[1][1].split("  ")[-1].strip() == "Cars196, GoogLeNet with 128 dimensions: BYOL"


def test_all_is_said_of_a_named_recipe(monkeypatch):
    output = call(monkeypatch, "cars_byol", "quickstart", width=60).output
    assert max(map(len, output.splitlines())) <= 60
    for name in ("cars_byol", "quickstart"):
        assert shipped_recipes()[name] in " ".join(output.split())


def test_an_unknown_name_is_refused(monkeypatch):
    result = call(monkeypatch, "cars_bylo")
    assert result.exit_code == 2
    assert '"cars_bylo" given; allowed: the name of a shipped recipe' in result.output
    assert 'did you mean "cars_byol"?' in result.output
