"""`train --images` and `init`: what is chosen has tests of its own in tests/recipe/test_for_images.py."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from stml_tf.cli.main import main
from stml_tf.recipe.load import load_recipe
from stml_tf.runs import train as training
from stml_tf.runs.result import TrainingResult
from stml_tf.search import Gallery
from tests.toy_network import save_photograph

SMALL = ["--backbone", "conv4"]


@pytest.fixture
def images(tmp_path):
    """Twenty photographs, flat."""
    for number in range(20):
        save_photograph(tmp_path / "my photos" / f"{number:02d}.png", number)
    return tmp_path / "my photos"


@pytest.fixture
def asked(monkeypatch, toy_model):
    """Records what training is asked for; the network that comes of it is a toy."""
    calls = []

    def body(recipe, **options):
        calls.append((recipe, options))
        return TrainingResult(options["run_dir"], saved_model=toy_model)

    monkeypatch.setattr(training, "train_recipe", body)
    return calls


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_train_chooses_a_recipe_and_makes_a_gallery(asked, images):
    result = call("train", "--images", images, *SMALL, "--set", "loss.sigma=1.5")
    assert result.exit_code == 0, result.output
    [(recipe, options)] = asked
    assert (recipe.name, recipe.model.backbone, recipe.loss.sigma) == ("my-photos", "conv4", 1.5)
    assert (options["data_dir"], options["run_dir"]) == (images, Path("runs/my-photos"))
    assert "Chosen for these images: conv4 at 64 px, batches of 4 images, 30 epochs" in result.output
    assert "Without labels retrieval cannot be measured" in result.output
    assert "Search it: stml-tf search galleries/my-photos photo.jpg" in result.output
    assert len(Gallery.load("galleries/my-photos")) == 20


def test_train_passes_options_on(asked, images, tmp_path):
    for number in range(100, 104):
        save_photograph(tmp_path / "test" / "ab"[number % 2] / f"{number}.png", number)
    weights = tmp_path / "mine.weights.h5"
    weights.touch()
    options = ["--test", tmp_path / "test", "--weights", weights, "--name", "dogs", "--dry-run"]
    result = call("train", "--images", images, *SMALL, *options)
    assert result.exit_code == 0, result.output
    [(recipe, given)] = asked
    assert (recipe.name, recipe.data.test, recipe.model.weights) == ("dogs", str(tmp_path / "test"), str(weights))
    assert given["dry_run"]
    assert "recipe.json" not in result.output
    assert not Path("galleries").exists()


def test_a_gallery_that_is_there_is_refused_before_training(asked, images):
    assert call("train", "--images", images, *SMALL).exit_code == 0
    result = call("train", "--images", images, *SMALL)
    assert result.exit_code == 2
    assert "holds a gallery already" in result.output
    assert len(asked) == 1
    assert call("train", "--images", images, *SMALL, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Neither was given: train takes either RECIPE"),
        (["quickstart", "--images", "."], "Both were given: train takes either RECIPE"),
        (["--images", ".", "--data-dir", "."], "omit --data-dir"),
        (["quickstart", "--backbone", "conv4"], "give --set model.backbone=conv4"),
        (["quickstart", "--name", "a b"], "give --set name='a b'"),
        (["--images", "."], "holds no images"),
        (["."], "To train on the images in it: stml-tf train --images ."),
    ],
)
def test_what_does_not_go_together_is_one_message(asked, arguments, message):
    result = call("train", *arguments)
    assert (result.exit_code, asked) == (2, [])
    assert message in result.output
    assert "Traceback" not in result.output


def test_init_writes_the_recipe_that_train_would_choose(asked, images):
    result = call("init", images, "-o", "my.json", *SMALL, "--set", "seed=3")
    assert result.exit_code == 0, result.output
    assert f"stml-tf train my.json --data-dir '{images}'" in result.output
    call("train", "--images", images, *SMALL, "--set", "seed=3")
    assert load_recipe("my.json") == asked[0][0]
    assert json.loads(Path("my.json").read_text())["reasons"]["batch.size"]


def test_init_does_not_write_over_a_file(images):
    assert call("init", images, "-o", "my.json", *SMALL).exit_code == 0
    again = call("init", images, "-o", "my.json", *SMALL)
    assert (again.exit_code, "my.json exists already" in again.output) == (2, True)
    assert call("init", images, "-o", "my.json", *SMALL, "--overwrite").exit_code == 0
    Path("other.json").write_text("{}")
    other = call("init", images, "-o", "other.json", *SMALL, "--overwrite")
    assert (other.exit_code, "was not written by this command" in other.output) == (2, True)
    assert "has to end in .json" in call("init", images, "-o", "my.txt", *SMALL).output


@pytest.mark.slow
def test_from_photographs_to_a_search(tmp_path):
    random = np.random.default_rng(0)
    for thing in range(4):
        color = random.integers(0, 256, 3)
        for number in range(10):
            pixels = (color + random.normal(0, 20, (40, 48, 3))).clip(0, 255).astype(np.uint8)
            path = tmp_path / "things" / f"thing {thing}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    tiny = [f"--set={each}" for each in ("views.size=16", "model.embedding_dim=16", "model.teacher_dim=16")]
    result = call("train", "--images", tmp_path / "things", *SMALL, *tiny, "--set", "training.epochs=1")
    assert result.exit_code == 0, result.output
    assert json.loads(Path("runs/things/recipe.json").read_text())["reasons"]["data.train_classes"]
    photo = tmp_path / "things" / "thing 2" / "3.png"
    found = call("search", "galleries/things", photo, "-k", "3")
    assert found.exit_code == 0, found.output
    assert str(photo) in found.output
