"""`check` of a recipe and of a folder: what it prints and its exit status; galleries are in test_search."""

import json
import shutil

import pytest
from click.testing import CliRunner
from PIL import Image

from stml_tf.cli.main import main
from tests.data.test_image_quality import photograph


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture
def recipe(tmp_path):
    """A recipe and its data, in which eight training images are dark."""
    for number in range(20):
        path = tmp_path / "data" / "train" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = photograph(number)
        (image.point(lambda value: value // 4) if number < 8 else image).save(path)
    for number in range(4):
        path = tmp_path / "data" / "test" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(100 + number).save(path)
    document = {
        "name": "checked",
        "data": {"name": "folder"},
        "model": {"backbone": "conv4", "embedding_dim": 4, "teacher_dim": 4},
        "views": {"size": 32},
        "sampling": {"num_neighbors": 2},
        "batch": {"size": 4},
    }
    (tmp_path / "checked.json").write_text(json.dumps(document))
    return tmp_path / "checked.json"


def call(*arguments):
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


def test_what_needs_attention_comes_first_with_number_and_five_names(recipe):
    result = call(recipe, "--data-dir", "data", "--no-steps")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "checked: 20 training images, 4 test images"
    assert lines[2] == "Needs attention"
    assert lines[3].startswith("  8 of 24 images are dark: 99 % of their pixels are below 80 of 255. Look at them")
    assert lines[4:10] == [*(f"      train/{number:02d}.png" for number in range(5)), "      and 3 more"]
    told = result.stdout
    assert "No images found that are unreadable, in training and test, identical," in told
    assert "Training    20 PNG in 1 folder; shorter side 120 px" in told
    assert "2 classes: largest a (2), smallest b (2), none with a single image" in told
    assert "Views       2 of 32 px; batches of 4 images, conv4" in told
    assert "Time" not in told


def test_what_training_would_refuse_ends_with_status_1(recipe, tmp_path):
    shutil.copy(tmp_path / "data" / "train" / "09.png", tmp_path / "data" / "test" / "a" / "copy.png")
    result = call(recipe, "--data-dir", "data", "--no-steps", "--json", "--html", "page.html")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["refused"] and told["findings"][0]["files"] == ["test/a/copy.png is train/09.png"]
    assert "Training would not begin" in (tmp_path / "page.html").read_text()
    assert call(recipe, "--data-dir", "data", "--no-steps", "--html", "page.html").exit_code == 2


def test_a_folder_is_checked_as_train_would_take_it(recipe, tmp_path):
    small = ("model.backbone=conv4", "model.weights=null", "model.rewhiten=null")
    result = call("data/train", *(word for setting in small for word in ("--set", setting)), "--no-steps")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("train: 20 training images\n")
    few = tmp_path / "few"
    few.mkdir()
    Image.new("RGB", (9, 9)).save(few / "a.png")
    result = call(few)
    assert result.exit_code == 1 and "Training would not begin" in result.stdout
    assert "holds 1 images; allowed: at least 20" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data/train", "--data-dir", "data"], "which is a folder of images itself: omit --data-dir"),
        (["checked.json"], "The data are in a folder of your own: say where with --data-dir DIR."),
        (["empty"], "holds no images"),
        (["none.json"], "none.json"),
        (["checked.json", "--data-dir", "data", "--html", "page.txt"], "has to end in .html or .htm"),
    ],
)
def test_wrong_use_ends_with_status_2(recipe, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    result = call(*arguments)
    assert result.exit_code == 2 and message in result.output
