import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from stml_tf import evaluate, export, train
from stml_tf.data.catalog import Catalog
from stml_tf.data.formats.rule import Decoding
from stml_tf.data.sources.folder import load_labeled_folder
from stml_tf.data.sources.glyphs import load_glyphs
from stml_tf.errors import UserError
from stml_tf.fitting.health_callback import SCORE, HealthCallback
from stml_tf.models import build_backbone
from stml_tf.recipe.load import load_recipe
from stml_tf.runs import evaluate as evaluation

SMALL = (
    "views.size=16",
    "model.embedding_dim=8",
    "model.teacher_dim=16",
    "batch.size=16",
    "sampling.num_neighbors=4",
    "training.epochs=1",
)
GLYPHS = ("data.num_classes=16", "data.instances=6", "data.image_size=16")


def run(tmp_path, recipe, **options):
    return train(
        recipe,
        run_dir=tmp_path / "run",
        saved_models=tmp_path / "saved_models",
        console=Console(file=io.StringIO()),
        **options,
    ).folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(tmp_path_factory.mktemp("finished"), load_recipe("quickstart", [*SMALL, *GLYPHS]))


def metadata_of(folder: Path) -> dict:
    return json.loads((folder / "assets.extra" / "metadata.json").read_text())


def size_of_weights(folder: Path) -> int:
    return sum(file.stat().st_size for file in (folder / "variables").iterdir())


def pixels_of_glyphs() -> tf.Tensor:
    return tf.constant(load_glyphs(num_classes=16, instances=6, image_size=16).test.images)


def embeddings_by(folder: Path) -> np.ndarray:
    return tf.saved_model.load(str(folder)).signatures["pixels"](pixels=pixels_of_glyphs())["embedding"].numpy()


def test_eight_bit_weights_take_less_and_say_what_they_cost(finished, tmp_path):
    original, small = export(finished, tmp_path), export(finished, tmp_path, quantize=True)
    assert small.name == "2"
    assert size_of_weights(small) < 0.4 * size_of_weights(original)
    cost = metadata_of(small)["quantization"]
    cosines = (embeddings_by(original) * embeddings_by(small)).sum(axis=1)
    assert cost["images"] == len(cosines)
    assert cost["least_cosine"] == pytest.approx(cosines.min(), abs=1e-4)
    assert 0.99 < cosines.min() < 0.999999
    for folder, dtype in ((original, "float32"), (small, "int8")):
        one_query = 1.01 / len(cosines)  # Embeddings by the SavedModel differ in their last digits.
        assert cost[f"recall@1_{dtype}"] == pytest.approx(evaluate(folder)["recall@1"], abs=one_query)
    card = (small / "assets.extra" / "model_card.md").read_text()
    assert f"R@1 is {cost['recall@1_int8']:.4f} in place of {cost['recall@1_float32']:.4f}" in card
    assert "quantization" not in metadata_of(original)
    assert "Weights are kept as they were trained." in (original / "assets.extra" / "model_card.md").read_text()


def test_without_test_images_the_training_images_tell_the_cosine(tmp_path):
    glyphs = load_glyphs(num_classes=8, instances=6, image_size=16, train_classes=0.5).train
    for index, pixels in enumerate(glyphs.images):
        (tmp_path / "data" / "train").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "data" / "train" / f"{index}.png")
    data = 'data={"name": "folder", "train": "train", "test": null}'
    folder = run(tmp_path, load_recipe("quickstart", [data, *SMALL]), data_dir=tmp_path / "data")
    exported = export(folder, tmp_path / "out", quantize=True, data_dir=tmp_path / "data")
    assert set(metadata_of(exported)["quantization"]) == {"images", "least_cosine"}
    assert metadata_of(exported)["quantization"]["images"] == len(glyphs)
    card = (exported / "assets.extra" / "model_card.md").read_text()
    assert "there were no test images to measure R@1 on" in card
    with pytest.raises(ValueError, match="train"):
        export(folder, tmp_path / "out", quantize=True, data_dir=tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1"]


def test_options_of_the_export_reach_the_saved_model(finished, tmp_path):
    original, exported = export(finished, tmp_path), export(finished, tmp_path, dtype="float16", batch_size=5)
    assert (metadata_of(exported)["dtype"], metadata_of(exported)["batch_size"]) == ("float16", 5)
    embeddings = embeddings_by(exported)
    assert embeddings.dtype == np.float16
    np.testing.assert_allclose(embeddings, embeddings_by(original), atol=1e-3)


def write_classes(folder: Path, *, classes: int, images: int, seed: int = 0) -> None:
    """Coarse patterns, one for a class, under much noise."""
    for number in range(classes):
        base = np.random.default_rng([seed, number]).integers(0, 256, (4, 4, 3))
        (folder / f"class{number}").mkdir(parents=True)
        for image in range(images):
            noise = np.random.default_rng([seed, number, image]).integers(-60, 60, base.shape)
            pixels = (base + noise).clip(0, 255).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
            Image.fromarray(pixels).save(folder / f"class{number}" / f"{image}.png")


@pytest.fixture(scope="module")
def not_normalized(tmp_path_factory):
    """A run on files, one test image of which is cut in half, with embeddings that are not normalised."""
    tmp_path = tmp_path_factory.mktemp("not_normalized")
    write_classes(tmp_path / "data" / "train", classes=4, images=6)
    write_classes(tmp_path / "data" / "test", classes=4, images=6, seed=1)
    broken = tmp_path / "data" / "test" / "class1" / "3.png"
    broken.write_bytes(broken.read_bytes()[:90])
    (tmp_path / "data" / "test" / "class1" / "notes.txt").write_text("no image")
    data = 'data={"name": "folder", "max_unreadable": 0.05, "background": [9, 9, 9]}'
    recipe = load_recipe("quickstart", [data, *SMALL, "evaluation.normalize=false"])
    return run(tmp_path, recipe, data_dir=tmp_path / "data"), tmp_path / "data"


def test_an_image_that_training_leaves_out_is_left_out_of_every_measurement(not_normalized, tmp_path):
    folder, data = not_normalized
    assert (folder / "unreadable.txt").read_text().startswith(f"{data / 'test/class1/3.png'}\tit is damaged or cut off")
    assert (folder / "left_out.txt").read_text() == f"{data / 'test/class1/notes.txt'}\tno image\n"
    reached = json.loads((folder / "metrics.json").read_text())["after_training"]
    assert reached["queries"] == 23
    small = export(folder, tmp_path, quantize=True, data_dir=data)
    assert metadata_of(small)["quantization"]["images"] == 23
    assert evaluate(folder, data_dir=data)["queries"] == 23


def test_what_is_measured_is_what_is_exported_is_what_is_evaluated(not_normalized, tmp_path):
    folder, data = not_normalized
    reached = json.loads((folder / "metrics.json").read_text())["after_training"]
    exported = export(folder, tmp_path)
    assert metadata_of(exported)["normalize"] is False
    assert metadata_of(exported)["background"] == [9, 9, 9]
    assert "The run is not over" not in (exported / "assets.extra" / "model_card.md").read_text()
    for source in (folder, exported):
        assert evaluate(source, data_dir=data) == pytest.approx(reached, abs=1e-6)


def test_all_of_another_folder_is_measured(finished, not_normalized, tmp_path):
    write_classes(tmp_path / "photos", classes=6, images=3, seed=5)
    for source in (finished, export(finished, tmp_path / "out"), not_normalized[0]):
        assert evaluate(source, data_dir=tmp_path / "photos")["queries"] == 18
    with pytest.raises(UserError, match="holds images of 1 classes"):
        shutil.copytree(tmp_path / "photos" / "class0", tmp_path / "one" / "class0")
        evaluate(finished, data_dir=tmp_path / "one")


@pytest.mark.parametrize("kind", ["a folder", "a catalog", "a catalog that says so itself"])
def test_other_images_are_read_as_the_run_read_its_own_unless_they_say_otherwise(tmp_path, kind):
    for number in range(4):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), 300 + number, np.uint16)).save(path)
    recipe = load_recipe("quickstart", ['data={"name": "folder", "bit_depth": 10, "background": [9, 9, 9]}'])
    images = tmp_path if kind == "a folder" else Catalog("mine", *[load_labeled_folder(tmp_path)] * 2)
    if kind.endswith("itself"):
        images = images.decoded(Decoding(bit_depth=12))
    found, _ = evaluation._test_images(recipe, evaluation._test_catalog(images), None, None)
    assert found.decoding == (Decoding(bit_depth=12) if kind.endswith("itself") else Decoding((9, 9, 9), 10))


def test_a_folder_that_was_split_by_class_is_known_by_its_classes(tmp_path):
    write_classes(tmp_path / "data" / "all", classes=6, images=4)
    data = 'data={"name": "folder", "train": "all", "train_classes": 0.5}'
    folder = run(tmp_path, load_recipe("quickstart", [data, *SMALL, "batch.size=8"]), data_dir=tmp_path / "data")
    assert evaluate(folder, data_dir=tmp_path / "data")["queries"] == 12
    moved = (tmp_path / "data").rename(tmp_path / "moved")
    assert evaluate(export(folder, tmp_path / "out"), data_dir=moved)["queries"] == 12
    (moved / "all" / "class5").rename(moved / "all" / "another")
    assert evaluate(folder, data_dir=moved / "all")["queries"] == 24


def test_the_card_of_a_run_that_is_not_over_says_so(finished, tmp_path):
    unfinished = shutil.copytree(finished, tmp_path / "run")
    (unfinished / "metrics.json").unlink()
    card = (export(unfinished, tmp_path / "out") / "assets.extra" / "model_card.md").read_text()
    assert "The run is not over: these are the weights of its last checkpoint, after epoch 1 of 1" in card


def test_the_network_that_a_run_keeps_is_the_one_that_is_measured_and_exported_later(tmp_path, monkeypatch):
    usual = HealthCallback.on_epoch_end

    def fall(self, epoch, logs=None):
        usual(self, epoch, logs)
        logs[SCORE] = 1 / (epoch + 1)

    monkeypatch.setattr(HealthCallback, "on_epoch_end", fall)
    recipe = load_recipe("quickstart", [*SMALL, *GLYPHS, "training.epochs=2", "training.keep=best"])
    folder = run(tmp_path, recipe)
    kept = json.loads((folder / "metrics.json").read_text())["after_training"]
    assert evaluate(folder) == pytest.approx(kept, abs=1e-6)
    there, later = (
        embeddings_by(path)
        for path in (tmp_path / "saved_models" / recipe.name / "1", export(folder, tmp_path / "later"))
    )
    np.testing.assert_allclose(later, there, atol=1e-6)
    last = run(tmp_path / "last", load_recipe("quickstart", [*SMALL, *GLYPHS, "training.epochs=2"]))
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(embeddings_by(export(last, tmp_path / "of_last")), there, atol=1e-3)


def test_whitened_heads_are_there_again_when_a_run_that_could_not_export_is_resumed(tmp_path):
    build_backbone("conv4").save_weights(tmp_path / "conv4.weights.h5")
    whitened = [*SMALL, *GLYPHS, "method=whiten", f"model.weights={tmp_path / 'conv4.weights.h5'}"]
    recipe = load_recipe("quickstart", whitened)
    whole = run(tmp_path / "whole", recipe)
    there = tmp_path / "stopped"
    there.mkdir()
    (there / "saved_models").touch()  # where a folder has to be
    with pytest.raises((UserError, OSError)):
        run(there, recipe)
    (there / "saved_models").unlink()
    resumed = run(there, recipe, resume=True)
    assert evaluate(resumed) == pytest.approx(evaluate(whole), abs=1e-6)
