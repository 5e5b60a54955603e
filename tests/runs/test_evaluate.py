import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from stml_tf import evaluate, export, train
from stml_tf.data.sources.glyphs import load_glyphs
from stml_tf.recipe.load import load_recipe

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
