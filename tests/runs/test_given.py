"""A model, a loss and images are handed to a run as what they are."""

import io
import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image
from rich.console import Console

from stml_tf import evaluate, export, load_recipe, registry, train
from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.formats.rule import Decoding
from stml_tf.data.sources.glyphs import load_glyphs
from stml_tf.errors import UserError
from stml_tf.runs.given import holding, naming_what_is_given

SMALL = (
    "data.num_classes=16",
    "data.instances=6",
    "data.image_size=16",
    "views.size=16",
    "model.embedding_dim=8",
    "model.teacher_dim=16",
    "batch.size=16",
    "sampling.num_neighbors=4",
    "training.epochs=1",
)
GLYPHS = load_glyphs(num_classes=16, instances=6, image_size=16)


def backbone(outputs="maps"):
    images = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(images / 255.0)
    return keras.Model(images, maps if outputs == "maps" else keras.layers.GlobalMaxPooling2D()(maps), name="mine")


def spread(labels, embeddings):
    same = ops.cast(labels[:, None] == labels[None, :], "float32")
    return ops.mean(same * ops.sum(ops.square(embeddings[:, None] - embeddings[None]), axis=-1))


def run(tmp_path, *overrides, **options):
    options = {"run_dir": tmp_path / "run", "saved_models": tmp_path / "saved_models", **options}
    return train(load_recipe("quickstart", [*SMALL, *overrides]), console=Console(file=io.StringIO()), **options)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    mine = Catalog("mine", GLYPHS.train, GLYPHS.test.take(range(24)))
    return run(tmp_path_factory.mktemp("given"), backbone=backbone(), images=mine)


def test_a_result_holds_metrics_history_folder_and_saved_model(result):
    written = json.loads((result.folder / "metrics.json").read_text())
    assert result.metrics == written["after_training"]
    assert [epoch["epoch"] for epoch in result.history] == [1]
    assert (result.saved_model / "saved_model.pb").exists()
    assert Path(result) == result.folder
    assert os.fspath(result) == str(result.folder)


def test_a_result_embeds_and_searches(result, tmp_path):
    embeddings = result.embed(GLYPHS.train.images)
    assert embeddings.shape == (48, 8)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    Image.fromarray(np.ascontiguousarray(GLYPHS.train.images[5])).save(tmp_path / "5.png")
    np.testing.assert_allclose(result.embed([tmp_path / "5.png"]), embeddings[5:6], atol=1e-5)
    np.testing.assert_allclose(result.embed(tmp_path), embeddings[5:6], atol=1e-5)
    found = result.search([tmp_path / "5.png"], k=3)
    assert [len(matches) for matches in found] == [3]
    assert str(found[0][0].path) == "image 5"
    assert found[0][0].distance == pytest.approx(0, abs=1e-3)
    assert found[0][0].similarity == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match="k is 49, but must be from 1 to 48"):
        result.search([tmp_path / "5.png"], k=49)


def test_other_images_are_never_measured_in_silence(result):
    with pytest.raises(UserError) as refused:
        evaluate(result)
    lines = str(refused.value).splitlines()
    assert lines[0] == f"{result.folder} cannot be opened without what it was made with:"
    assert lines[1].startswith(
        "  keras.Model 'mine' from (None, None, None, 3) to (None, None, None, 8) with 224 param"
    )
    assert lines[1].endswith("which was passed to train(): pass it again, as backbone=...")
    assert (
        lines[2]
        == "  mine: 48 training images, 24 test images, which was passed to train(): pass it again, as images=..."
    )
    mine = Catalog("mine", GLYPHS.train, GLYPHS.test.take(range(24)))
    assert evaluate(result, backbone=backbone(), images=mine) == pytest.approx(result.metrics, abs=1e-6)
    other = evaluate(result, backbone=backbone(), images=GLYPHS)
    assert other["queries"] == 48 and result.metrics["queries"] == 24


def test_a_saved_model_of_given_images_needs_images_too(result):
    with pytest.raises(UserError, match=r"pass it again, as images=\.\.\."):
        evaluate(result.saved_model)


def test_an_export_needs_what_was_given(result, tmp_path):
    with pytest.raises(UserError, match=r"pass it again, as backbone=\.\.\."):
        export(result, tmp_path)
    exported = export(result, tmp_path, backbone=backbone())
    with pytest.raises(UserError, match=r"images that were passed to train\(\): pass them again, as images=\.\.\."):
        export(result, tmp_path, backbone=backbone(), quantize=True)
    metadata = json.loads((exported / "assets.extra" / "metadata.json").read_text())
    assert {(record["kind"], record["name"]) for record in metadata["plugins"]} == {
        ("backbone", "given"),
        ("data set", "given"),
    }


def test_a_finished_run_is_not_resumed_with_something_else(result):
    with pytest.raises(UserError, match=r"cannot be resumed with other parts than it started with:\n  backbone: "):
        run(result.folder.parent, resume=True, backbone=backbone("vectors"), images=GLYPHS)


def test_the_model_that_was_given_stays_as_it_is(tmp_path):
    mine = backbone("vectors")
    before = [weight.copy() for weight in mine.get_weights()]
    trained = run(tmp_path, backbone=mine)
    for weight, old in zip(mine.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert evaluate(trained, backbone=mine) == pytest.approx(trained.metrics, abs=1e-6)


def test_a_loss_that_is_given_is_learned_from(tmp_path):
    labels = ("method=supervised", "supervision.classes_per_batch=4", "supervision.images_per_class=2")
    trained = run(tmp_path, *labels, loss=spread)
    assert "supervised" in trained.history[0]
    (record,) = json.loads((trained.folder / "plugins.json").read_text())["plugins"]
    assert (record["kind"], record["origin"]) == ("loss", "the loss tests.runs.test_given.spread")
    with pytest.raises(UserError, match="self_taught does not learn from labels; allowed with a method that does"):
        run(tmp_path, loss=spread)


@pytest.mark.parametrize("kind", ["folder", "paths", "pixels"])
def test_images_without_labels(tmp_path, kind):
    for index, pixels in enumerate(GLYPHS.train.images):
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / f"{index:02}.png")
    files = sorted(tmp_path.glob("*.png"))
    images = {"folder": tmp_path, "paths": files, "pixels": np.ascontiguousarray(GLYPHS.train.images)}[kind]
    trained = run(tmp_path, images=images, dry_run=True)
    assert (trained.saved_model, trained.metrics, trained.history) == (None, {}, [])
    with pytest.raises(UserError, match="has no SavedModel, as of a dry run"):
        trained.embed(files)
    assert "given" not in registry.sources


def test_a_folder_is_written_into_the_recipe(tmp_path):
    recipe = naming_what_is_given(load_recipe("quickstart"), images=tmp_path)
    assert (recipe.data.name, recipe.data.train, recipe.data.test) == ("folder", ".", None)


@pytest.mark.parametrize("kind", ["folder", "paths", "set", "catalog"])
def test_how_images_are_read_is_written_into_the_recipe(tmp_path, kind):
    faint = ImageSet([tmp_path / "a.png"], decoding=Decoding(background=(1, 2, 3), bit_depth=10))
    images = {"folder": tmp_path, "paths": [tmp_path / "a.png"], "set": faint}.get(
        kind, Catalog("mine", faint, None, max_unreadable=0.2)
    )
    (tmp_path / "a.png").touch()
    said = {} if kind in ("set", "catalog") else {"background": [1, 2, 3], "bit_depth": 10}
    given = load_recipe("quickstart", [f"data={json.dumps({'name': 'folder', 'allow_leaks': True, **said})}"])
    with holding(images=images if kind != "folder" else None):
        data = naming_what_is_given(given, images=images).data
        assert (data.background, data.bit_depth, data.allow_leaks) == ((1, 2, 3), 10, True)
        assert data.max_unreadable == (0.2 if kind == "catalog" else 0.01)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": np.zeros((3, 4, 4), np.uint8)}, r"images: an array of uint8 \[3, 4, 4\] given; allowed: a folder"),
        ({"images": np.zeros((3, 4, 4, 3))}, r"images: an array of float64 \[3, 4, 4, 3\] given; allowed"),
        ({"images": ["gone.png"]}, "images: 1 of 1 files do not exist; the first is gone.png"),
        ({"images": []}, "images: none given"),
        ({"images": 3}, "images: int given; allowed: a folder, a list of paths"),
        ({"images": [3]}, "images: a list that holds int given; allowed"),
        ({"images": "gone"}, "gone"),
        ({"backbone": "resnet"}, "backbone: str given; allowed: a keras.Model"),
        ({"backbone": keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])}, r"a model from \(None, 4\) to"),
        ({"loss": keras.losses.MeanSquaredError}, "allowed: a callable of labels"),
    ],
)
def test_what_cannot_be_used_is_refused(given, message):
    with pytest.raises(ValueError, match=message), holding(**given):
        pass


def test_a_model_that_cannot_be_copied_is_refused():
    class Subclassed(keras.Model):
        def call(self, images):
            return images

    with (
        pytest.raises(UserError, match="allowed: a functional or sequential keras"),
        holding(backbone=Subclassed()),
    ):
        pass


def test_test_images_are_labelled(result):
    with pytest.raises(UserError, match="images: list given; allowed: a folder with a folder for each class"):
        evaluate(result, images=[])
    assert ImageSet(GLYPHS.train.images).labels is None
