"""Whatever stands in a recipe, it is valid or one message says what is wrong."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from stml_tf.cli.main import main
from stml_tf.recipe.errors import RecipeError
from stml_tf.recipe.load import load_recipe, save_recipe
from tests.recipe.mutations import ODD, TEXTS, mutated

MUTANTS = 1_000


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Recipes of several methods and kinds of data, with every key spelled out."""
    folder = tmp_path_factory.mktemp("recipes")
    whole = []
    for name in ("quickstart", "omniglot", "cub", "omniglot_moco", "omniglot_semi", "omniglot_byol"):
        save_recipe(load_recipe(name, check_files=False), folder / name)
        whole.append(json.loads((folder / name).read_text()))
    return whole


def outcome(*arguments):
    result = CliRunner().invoke(main, list(arguments))
    assert isinstance(result.exception, SystemExit | None), (arguments, result.exception)
    assert result.exit_code in (0, 2), result.output
    assert "Traceback" not in result.output
    if result.exit_code:
        assert result.stderr.startswith(("Error: ", "Usage: "))
        assert result.stdout == ""
        assert len(result.stderr) < 10_000
    return "valid" if result.exit_code == 0 else "refused"


def test_1000_mutated_recipes_are_valid_or_refused_in_one_message(documents, tmp_path, capsys):
    random, outcomes = np.random.default_rng(0), Counter()
    file = tmp_path / "recipe.json"
    for _ in range(MUTANTS):
        file.write_bytes(mutated(documents[random.integers(len(documents))], random))
        outcomes[outcome("validate", str(file))] += 1
    with capsys.disabled():
        print(f"\n{MUTANTS} mutated recipes: {dict(outcomes)}")
    assert outcomes["refused"] > 700 and outcomes["valid"] > 30


def test_what_is_valid_is_written_and_read_again(documents, tmp_path):
    """NaN in options used to become null."""
    random, file, valid = np.random.default_rng(1), tmp_path / "recipe.json", 0
    for _ in range(2000):  # few of them are valid, and how few depends on the recipes that there are
        file.write_bytes(mutated(documents[random.integers(len(documents))], random))
        try:
            recipe = load_recipe(file, check_files=False)
        except RecipeError:
            continue
        save_recipe(recipe, tmp_path / "again.json")
        assert load_recipe(tmp_path / "again.json", check_files=False) == recipe
        valid += 1
        if valid == 20:
            break
    assert valid == 20


def test_overrides_and_paths_are_valid_or_refused_in_one_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = (
        "seed",
        "about",
        "optimizer.options",
        "optimizer.options.x.y",
        "views.crop_scale.0",
        "__class__",
        "name",
        "",
    )
    keys += (".".join(["a"] * 2000), "optimizer.options." + ".".join(["a"] * 900), "9" * 400, "a..b", "data")
    values = [*(json.dumps(value) for value in ODD), *TEXTS, "\udcff", "=", "'"]
    outcomes = Counter(outcome("validate", "quickstart", "--set", f"{key}={value}") for key in keys for value in values)
    assert outcomes["refused"] > 500 and outcomes["valid"] > 10
    for path in (
        "",
        "x" * 300,
        "x" * 5000,
        "/",
        "..",
        "quickstart\0",
        "/dev/null",
        "/proc/self/mem",
        "a\udcff",
        "[red]",
    ):
        assert outcome("validate", path) == "refused"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": NaN}', r"name: NaN given; allowed: numbers, which NaN and Infinity are not"),
        ('{"optimizer": {"options": {"a": [1e999]}}}', r"optimizer\.options\.a\.0: Infinity given; allowed: numbers"),
        (
            '{"loss": {"sigma": 1e300}}',
            r"loss\.sigma: 1e\+300 given; allowed: numbers up to 3\.4e\+38, the largest of flo",
        ),
        ('{"about": "\\ud800"}', r'about: "\\ud800" given; allowed: text without'),
        ('{"about": "a\\u0000"}', r"about: .* given; allowed: text without the zero character"),
        (f'{{"seed": {"9" * 400}}}', r"seed: 999.*\.\.\. given; allowed: whole numbers from -2\^63 to 2\^63 - 1"),
        (f'{{"seed": {"9" * 4301}}}', r"a number cannot be read \(Exceeds the limit"),
        (f'{{"{"k" * 201}": 1}}', r'the key "kkk.*\.\.\. given; allowed: keys of a recipe'),
        (f'{{"about": {"[" * 21 + "]" * 21}}}', r"about(\.0){19}: nested too deep; allowed: 20 objects and lists"),
        ("[" * 100_000, r"nested too deep to be read"),
        (f'{{"model": {{"weights": "{"w" * 5000}"}}}}', r"model\.weights: .* given; allowed: up to 4,096 characters"),
        ("x" * 2_000_000, r"2,000,000 bytes given; allowed: up to 1,048,576 in a recipe"),
    ],
)
def test_what_no_value_may_be_is_refused_by_its_key(tmp_path, text, message):
    file = tmp_path / "recipe.json"
    file.write_text(text)
    with pytest.raises(RecipeError, match=message) as refused:
        load_recipe(file)
    assert len(str(refused.value)) < 500


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def forbidden(self, **_):
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "recipe.json").write_text("{}")
    monkeypatch.setattr(Path, "read_text", forbidden)
    with pytest.raises(RecipeError, match=r"recipe\.json: cannot be read \(Permission denied\); allowed: a JSON file"):
        load_recipe(tmp_path / "recipe.json")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed=2147483648", "seed: 2147483648 given; allowed: a whole number >= 0 and <= 2147483647"),
        (
            "model.embedding_dim=2147483648",
            "model.embedding_dim: 2147483648 given; allowed: a whole number >= 1 and <=",
        ),
        ("views.size=100000", "views.size: 100000 given; allowed: a whole number >= 16 and <= 4096"),
        ("data.instances=1000000000", "data.instances: 1000000000 given; allowed: a whole number >= 2 and <= 1048576"),
        ("data.instances=100000", "data.instances: 100000 given; allowed: so many that num_classes (1000) times"),
        ("batch.size=6000", "views.size: 4096 given; allowed: so much that the 6000 images of a step, in 2 views each"),
        ('supervision.options={"dim": 3}', 'supervision.options: {"dim": 3} given; dim is known from the data'),
    ],
)
def test_what_cannot_be_computed_is_refused(override, line):
    with pytest.raises(RecipeError) as refused:
        load_recipe("quickstart", [override, *(["views.size=4096"] if override == "batch.size=6000" else [])])
    assert line in str(refused.value)
