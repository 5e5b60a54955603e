"""What is found in images before a run, with a folder for each kind of trouble."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.recipe.load import load_recipe
from stml_tf.runs.check import check_folder, check_recipe
from stml_tf.runs.check_page import check_page
from stml_tf.runs.findings import Severity
from tests.data.test_image_quality import photograph

RECIPE = {
    "name": "checked",
    "data": {"name": "folder"},
    "model": {"backbone": "conv4", "embedding_dim": 4, "teacher_dim": 4},
    "views": {"size": 32},
    "sampling": {"num_neighbors": 2},
    "batch": {"size": 4},
    "training": {"epochs": 1},
}


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Training images, and test images of two classes; nothing is wrong with them."""
    for number in range(12):
        save(photograph(number), tmp_path / "data" / "train" / f"{number}.png")
    for number in range(4):
        save(photograph(100 + number), tmp_path / "data" / "test" / "ab"[number % 2] / f"{number}.png")
    return tmp_path / "data"


def look(folder, **data):
    recipe = load_recipe({**RECIPE, "data": {**RECIPE["data"], **data}})
    return check_recipe(recipe, data_dir=folder, steps=False)


def found(check):
    return {finding.kind: finding for finding in check.findings}


def test_a_sound_folder_gives_facts_and_no_findings(folder):
    check = look(folder)
    assert check.findings == [] and not check.refused
    train, test = check.sets["training"], check.sets["test"]
    assert (train.num_images, train.num_folders, train.formats, train.sides) == (12, 1, {"PNG": 12}, (120, 120, 120))
    assert test.classes == {"a": 2, "b": 2}
    assert [len(views.views) for views in check.views] == [5] * 6
    assert check.views[0].views[0].shape == (32, 32, 3)


def test_leaks_are_refused_unless_the_recipe_lets_them_through(folder):
    shutil.copy(folder / "train" / "3.png", folder / "test" / "a" / "copy.png")
    leaks = found(look(folder))["leaks"]
    assert leaks.severity is Severity.REFUSED
    assert leaks.files == ("test/a/copy.png is train/3.png",)
    assert leaks.told.startswith("1 of 5 test images are training images too, byte for byte")
    allowed = look(folder, allow_leaks=True)
    assert found(allowed)["leaks"].severity is Severity.ATTENTION and not allowed.refused
    assert "near_identical_test" not in found(allowed)  # told once


def test_test_images_that_look_like_training_images_are_told(folder):
    Image.open(folder / "train" / "3.png").resize((80, 60)).save(folder / "test" / "a" / "small.jpg")
    assert found(look(folder))["near_identical_test"].files == ("test/a/small.jpg looks like train/3.png",)


def test_identical_and_near_identical_images_of_a_set_are_told_apart(folder):
    shutil.copy(folder / "train" / "3.png", folder / "train" / "again.png")
    Image.open(folder / "train" / "5.png").save(folder / "train" / "5.jpg", quality=90)
    kinds = found(look(folder))
    assert kinds["identical"].files == ("train/again.png is train/3.png",)
    assert kinds["identical"].told == "1 image is byte for byte another one of the same set (1 group)"
    assert set(kinds["near_identical"].files[0].split(" looks like ")) == {"train/5.jpg", "train/5.png"}
    assert kinds["near_identical"].count == 2


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("blurred", lambda image: image.filter(ImageFilter.GaussianBlur(6))),
        ("dark", lambda image: image.point(lambda value: value // 4)),
        ("blank", lambda image: Image.new("RGB", image.size, (90, 20, 20))),
        ("grey", lambda image: image.convert("L")),
        ("tiny", lambda image: image.resize((20, 15))),
    ],
)
def test_each_kind_of_bad_image_is_named(folder, kind, change):
    save(change(photograph(50)), folder / "train" / "bad.png")
    findings = found(look(folder))
    assert set(findings) == {kind}
    assert findings[kind].files == ("train/bad.png",) and findings[kind].told.startswith("1 of 17 images ")
    assert findings[kind].severity is Severity.ATTENTION  # more than one in a hundred


def test_coloured_images_among_grey_ones_are_the_odd_ones_and_grey_alone_is_fine(folder):
    for path in folder.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert found(look(folder)) == {}
    save(photograph(50), folder / "train" / "coloured.png")
    assert found(look(folder))["grey"].files == ("train/coloured.png",)


def test_unreadable_images_are_refused_beyond_the_limit(folder):
    (folder / "train" / "bad.jpg").write_bytes(b"\xff\xd8\xff broken")
    refused = found(look(folder))["unreadable"]
    assert refused.severity is Severity.REFUSED
    assert "1 of 13 training images cannot be read; at most 0.01" in refused.told
    assert refused.files[0].startswith("train/bad.jpg: ")
    assert found(look(folder, max_unreadable=0.2))["unreadable"].severity is Severity.ATTENTION


def test_classes_of_one_image_and_classes_that_hold_most_are_told(folder):
    save(photograph(60), folder / "test" / "lonely" / "x.png")
    for number in range(4):
        save(photograph(70 + number), folder / "test" / "a" / f"more{number}.png")
    findings = found(look(folder))
    assert findings["singletons"].files == ("lonely",)
    assert "The test class a holds 6 of 9 images" in findings["large_class"].told


def test_what_is_left_out_is_told_with_the_reason(folder):
    (folder / "train" / "notes.txt").write_text("no image")
    (folder / "train" / ".hidden").write_text("no image")
    findings = [finding for finding in look(folder).findings if finding.kind == "left_out"]
    assert [(finding.told, finding.severity) for finding in findings] == [
        ("1 file or folder left out: no image", Severity.ATTENTION),
        ("1 file or folder left out: hidden", Severity.NOTE),
    ]


def test_the_worst_comes_first(folder):
    save(photograph(50).convert("L"), folder / "train" / "grey.png")
    (folder / "train" / ".hidden").write_text("no image")
    shutil.copy(folder / "train" / "3.png", folder / "test" / "a" / "copy.png")
    severities = [finding.severity for finding in look(folder).findings]
    assert severities == sorted(severities) and severities[0] is Severity.REFUSED


def test_too_few_images_are_refused_and_looked_at_all_the_same(folder):
    recipe = load_recipe({**RECIPE, "batch": {"size": 20}})
    check = check_recipe(recipe, data_dir=folder, steps=False)
    assert check.refused and "A batch of 20 images" in check.findings[0].told
    few = check_folder(folder)
    assert few.refused and few.recipe is None
    assert "holds 16 images; allowed: at least 20" in few.findings[0].told
    assert few.sets["training"].num_images == 16


def test_a_folder_is_checked_with_the_recipe_that_is_chosen_for_it(folder):
    for number in range(20, 30):
        save(photograph(number), folder / "train" / f"{number}.png")
    overrides = ["model.backbone=conv4", "model.weights=null", "model.freeze_batch_norm=false", "model.rewhiten=null"]
    check = check_folder(folder, overrides, steps=False)
    assert check.recipe.batch.size == 6 and check.sets["training"].num_images == 26
    assert not check.refused and check.steps is None


def test_weights_that_are_missing_are_refused_and_the_images_looked_at(folder):
    model = {"backbone": "resnet18", "weights": str(folder / "none.weights.h5")}
    recipe = load_recipe({**RECIPE, "model": model}, check_files=False)
    check = check_recipe(recipe, data_dir=folder)
    assert check.refused and "none.weights.h5 does not exist" in check.findings[0].told
    assert check.steps is None and check.sets["training"].num_images == 12


@pytest.mark.slow
def test_ten_steps_tell_time_and_memory_and_write_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder / "train" / "bad.jpg").write_bytes(b"\xff\xd8\xff broken")
    recipe = load_recipe({**RECIPE, "data": {"name": "folder", "max_unreadable": 0.1}})
    before = sorted(tmp_path.rglob("*"))
    steps = check_recipe(recipe, data_dir=folder).steps
    assert sorted(tmp_path.rglob("*")) == before
    assert steps.steps_per_epoch == 3 and steps.epochs == 1
    assert steps.images_per_second == pytest.approx(4 / steps.step_seconds)
    assert steps.epoch_seconds > 3 * steps.step_seconds
    assert 0 < steps.memory < steps.memory_there
    told = dict(steps.lines())
    assert told["Memory"].endswith("GiB at most in ten steps, with TensorFlow and all that was done before")
    assert "an epoch of 3 steps about" in told["Time"]


def test_json_and_page_hold_what_was_found(folder):
    save(photograph(50).convert("L"), folder / "train" / "grey <b>.png")
    check = look(folder)
    told = json.loads(json.dumps(check.as_json()))
    assert told["findings"][0]["kind"] == "grey" and told["findings"][0]["severity"] == "attention"
    assert told["sets"]["test"]["classes"] == {"a": 2, "b": 2} and told["refused"] is False
    page = check_page(check)
    assert "Needs attention" in page and "What the network sees" in page and "Training can begin." in page
    assert "grey &lt;b&gt;.png" in page and "grey <b>" not in page
    assert page.count("data:image/jpeg") == 1 + 6 * (1 + 5)


def test_images_in_memory_can_be_checked(monkeypatch):
    pixels = np.stack([np.asarray(photograph(number)) for number in range(8)])
    tested = np.stack([pixels[0], np.clip(pixels[1], 0, 254) + 1])
    catalog = Catalog("in memory", ImageSet(pixels), ImageSet(tested, np.array([0, 0]), ("a",)))
    monkeypatch.setattr("stml_tf.runs.check.open_catalog", lambda **data: catalog)
    check = check_recipe(load_recipe({**RECIPE, "data": {"name": "glyphs"}}), steps=False)
    assert check.sets["training"].num_folders == 0
    assert found(check)["leaks"].files == ("image 0 is image 0",)
    assert found(check)["near_identical_test"].files == ("image 1 looks like image 1",)
