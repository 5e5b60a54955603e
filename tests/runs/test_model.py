"""A recipe names a method; the rest of a run is the same for all of them."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from stml_tf import evaluate, registry, train
from stml_tf.methods import BYOLModel, MeanShiftModel, MoCoModel, SelfTaughtModel, SemiSupervisedModel
from stml_tf.models import build_backbone
from stml_tf.recipe.load import load_recipe
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.model import build_model

SMALL = (
    'data={"name": "glyphs", "num_classes": 16, "instances": 6, "image_size": 16}',
    "views.size=16",
    "model.embedding_dim=8",
    "batch.size=16",
    "baseline.hidden_dim=32",
    "training.epochs=1",
    "training.cache=null",
)


def recipe_of(method, *overrides):
    memory = () if method == "byol" else ("baseline.memory_size=40",)
    return load_recipe(f"omniglot_{method}", [*SMALL, *memory, *overrides])


SETTINGS = registry.arguments_of(SemiSupervisedModel)  # which build_semi_supervised hands on


def test_every_method_that_a_recipe_may_name_can_be_built():
    assert list(registry.methods) == Recipe.model_json_schema()["properties"]["method"]["enum"]
    for method in registry.methods.values():
        assert callable(registry.resolve(method.build)) and callable(registry.resolve(method.student))
        assert {*method.reads, *method.options} <= registry.arguments_of(registry.resolve(method.build)) | SETTINGS


def test_settings_reach_the_models():
    moco = build_model(recipe_of("moco", "baseline.temperature=0.2", "teacher.momentum=0.5"))
    assert isinstance(moco, MoCoModel)
    assert (moco.memory.size, moco.temperature, moco.momentum) == (40, 0.2, 0.5)
    mean_shift = build_model(recipe_of("mean_shift", "baseline.top_k=3"))
    assert isinstance(mean_shift, MeanShiftModel)
    assert (mean_shift.memory.size, mean_shift.top_k, mean_shift.hidden_dim) == (40, 3, 32)
    byol = build_model(recipe_of("byol", "optimizer.head_learning_rate=0.5"))
    assert isinstance(byol, BYOLModel)
    assert float(byol.head_optimizer.learning_rate) == 0.5
    assert isinstance(build_model(load_recipe("quickstart")), SelfTaughtModel)


def test_labels_reach_the_models_as_the_recipe_says():
    overrides = ["supervision.loss=proxy_anchor", "supervision.weight=0.3", "supervision.joint=false"]
    overrides += ["supervision.warmup_epochs=2", 'supervision.options={"alpha": 16}']

    def built(method):
        recipe = load_recipe("glyphs_semi", [*overrides, f"method={method}"])
        return build_model(recipe, steps_per_epoch=7, num_classes=3)

    semi, supervised = built("semi_supervised"), built("supervised")
    assert isinstance(semi, SemiSupervisedModel)
    assert (semi.weight, semi.joint, semi.warmup_steps, semi.num_labeled) == (0.3, False, 14, 24)
    assert (semi.supervised_loss.alpha, semi.supervised_loss.proxies.shape) == (16, (3, 128))
    assert semi.teacher_center and semi.num_neighbors == 6
    assert supervised.weight == 0
    assert type(built("self_taught")) is SelfTaughtModel


def test_the_head_of_moco_has_no_batch_norm():
    norms = {
        method: [v.path for v in build_model(recipe_of(method)).student.get_layer("g").weights if "gamma" in v.path]
        for method in ("moco", "byol", "mean_shift")
    }
    assert {method: len(found) for method, found in norms.items()} == {"moco": 0, "byol": 1, "mean_shift": 1}


@pytest.mark.parametrize(
    ("method", "embedding", "dim"),
    [("moco", "projection", 8), ("byol", "features", 256), ("mean_shift", "features", 256)],
)
def test_a_baseline_trains_evaluates_and_exports(tmp_path, random, method, embedding, dim):
    printed = io.StringIO()
    recipe = recipe_of(method, f"baseline.embedding={embedding}")
    folder = train(
        recipe,
        run_dir=tmp_path / "run",
        saved_models=tmp_path / "saved_models",
        console=Console(file=printed, width=120),
    ).folder
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["evaluated"] == recipe.embedding
    assert recipe.embedding in printed.getvalue()
    assert all(np.isfinite([epoch["loss"], epoch["gradient_norm"]]).all() for epoch in metrics["epochs"])
    assert evaluate(folder) == pytest.approx(metrics["after_training"], abs=1e-6)
    network = tf.saved_model.load(str(tmp_path / "saved_models" / recipe.name / "1")).signatures["pixels"]
    pixels = random.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert network(pixels=tf.constant(pixels))["embedding"].shape == (2, dim)


@pytest.fixture
def weights(tmp_path):
    build_backbone("conv4").save_weights(tmp_path / "conv4.weights.h5")
    return f"model.weights={tmp_path / 'conv4.weights.h5'}"


@pytest.mark.parametrize("quick", ["float32", "mixed_bfloat16"])
def test_precision_auto_is_what_the_device_is_quick_at(monkeypatch, weights, quick):
    monkeypatch.setattr("stml_tf.runs.model.quick_precision", lambda: quick)
    model = build_model(recipe_of("byol", "training.precision=auto", weights))
    assert model.student.layers[1].layers[1].compute_dtype == quick.removeprefix("mixed_")


def test_precision_auto_is_float32_from_scratch(monkeypatch):
    monkeypatch.setattr("stml_tf.runs.model.quick_precision", lambda: "mixed_bfloat16")
    model = build_model(recipe_of("byol", "training.precision=auto"))
    assert model.student.layers[1].layers[1].compute_dtype == "float32"


@pytest.mark.parametrize(
    ("gpu", "asked", "expected"),
    [
        (False, "auto", "float32"),
        (True, "auto", "bfloat16"),
        (False, "mixed_bfloat16", "bfloat16"),
    ],
)
def test_precision_auto_is_float32_for_depthwise_convolutions_on_processors(monkeypatch, weights, gpu, asked, expected):
    monkeypatch.setattr("stml_tf.runs.model.quick_precision", lambda: "mixed_bfloat16")
    monkeypatch.setattr("stml_tf.runs.model.has_gpu", lambda: gpu)
    monkeypatch.setattr("stml_tf.runs.model.trains_single_channels", lambda student: True)
    model = build_model(recipe_of("byol", f"training.precision={asked}", weights))
    assert model.student.layers[1].layers[1].compute_dtype == expected
