"""Every recipe that is shipped: valid, named as its file, with its paper's settings, and able to run to its end."""

import gc
import io
import json
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from stml_tf import registry
from stml_tf.recipe.load import load_recipe
from tests.data.sources.miniatures import write_cars, write_compcars, write_cub, write_inshop, write_nabirds, write_sop

FILES = sorted(Path(__file__).parents[2].joinpath("recipes").glob("*.json"))
PUBLISHED_DATA = [path for path in FILES if path.stem.startswith(("cub", "cars", "sop", "inshop"))]
SEMI_SUPERVISED = [path for path in PUBLISHED_DATA if path.stem in ("cub_nabirds_resnet50", "cars_compcars_resnet50")]
BASELINES = [path for path in PUBLISHED_DATA if path.stem.endswith(("_moco", "_byol", "_mean_shift"))]
EXPERIMENTS = [path for path in PUBLISHED_DATA if path not in (*BASELINES, *SEMI_SUPERVISED)]
WRITE = {
    **{"cub": write_cub, "cars196": write_cars, "sop": write_sop, "inshop": write_inshop},
    **{"nabirds": write_nabirds, "compcars": write_compcars},
}
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
every_experiment = pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
every_baseline = pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
on_published_data = pytest.mark.parametrize("path", PUBLISHED_DATA, ids=lambda path: path.stem)

# Two epochs of few small images, without weights that would have to be downloaded or converted.
SMALL = (
    *("model.weights=null", "views.size=32", "schedule.warmup_epochs=0", "training.epochs=2", "training.devices=1"),
    *("evaluation.size=null", "evaluation.resize=32", "evaluation.recall_at=[1]"),
)
FASTEST = "omniglot"


def recipe_at(path, *overrides):
    return load_recipe(path, overrides, check_files=False)


@every_file
def test_a_recipe_is_valid_and_named_as_its_file(path):
    recipe = recipe_at(path)
    assert recipe.name == path.stem
    assert recipe.about


@every_file
def test_a_recipe_is_in_the_table_of_results(path):
    table = FILES[0].with_name("README.md").read_text(encoding="utf-8")
    assert f"[{path.stem}]({path.name})" in table


def test_each_data_set_has_its_paper_variants_and_one_of_today():
    names = {path.stem for path in EXPERIMENTS}
    for data in ("cub", "cars", "sop", "inshop"):
        assert {data, f"{data}_googlenet_128", f"{data}_googlenet_512", f"{data}_convnext_tiny"} <= names
    assert "sop_resnet18_scratch" in names


@every_experiment
def test_settings_are_the_papers(path):
    recipe = recipe_at(path)
    like_sop, scratch = recipe.data.name in ("sop", "inshop"), recipe.name == "sop_resnet18_scratch"
    assert (recipe.sampling.num_neighbors, recipe.loss.sigma) == (2 if like_sop else 5, 3.0)
    assert (recipe.loss.delta, recipe.teacher.momentum) == ((0.9, 0.9) if like_sop else (1.0, 0.999))
    assert recipe.optimizer.learning_rate == (5e-4 if scratch else 1e-4)
    assert recipe.optimizer.head_learning_rate == (1e-2 if like_sop and not scratch else None)
    assert (recipe.optimizer.name, recipe.optimizer.weight_decay) == ("adamp", 1e-2)
    assert recipe.optimizer.options == {"nesterov": True}
    assert (recipe.schedule.name, recipe.schedule.by) == ("constant" if scratch else "cosine", "epoch")
    assert (recipe.training.epochs, recipe.batch.size, recipe.views.num_views) == (180 if scratch else 90, 120, 2)
    assert (recipe.views.crop_scale, recipe.views.flip) == ((0.16, 1.0), True)
    assert recipe.views.size == (227 if "inception" in recipe.model.backbone or "googlenet" in path.stem else 224)
    assert recipe.evaluation.resize == 256
    assert recipe.model.freeze_batch_norm == (recipe.model.backbone == "bn_inception")


@every_baseline
def test_baselines_share_all_but_the_method(path):
    data, _, method = path.stem.partition("_")
    baseline, ours = recipe_at(path), recipe_at(path.with_stem(f"{data}_googlenet_128"))
    assert baseline.method == method
    for section in ("data", "views", "batch", "schedule", "training", "evaluation"):
        assert getattr(baseline, section) == getattr(ours, section)
    # The MLP head of a baseline has no whitening to start from, and its recipe says nothing of it.
    assert baseline.model == ours.model.model_copy(update={"head": None})
    assert baseline.optimizer == ours.optimizer.model_copy(update={"head_learning_rate": None})
    assert baseline.teacher.momentum == (0.999 if method == "moco" else 0.99)
    settings = baseline.baseline
    assert (settings.memory_size, settings.temperature, settings.top_k) == (9600, 0.07, 5)


@pytest.mark.parametrize("path", SEMI_SUPERVISED, ids=lambda path: path.stem)
def test_labels_and_other_data_without(path):
    """What is known of the paper's setting; and beside it that of the same data without labels."""
    data, other, backbone = path.stem.split("_")
    recipe, ours = recipe_at(path), recipe_at(path.with_stem(f"{data}_convnext_tiny"))
    assert recipe.method == "semi_supervised"
    assert (recipe.data.name, recipe.data.unlabeled) == (ours.data.name, other)
    assert (recipe.model.backbone, recipe.model.embedding_dim, recipe.supervision.loss) == (
        backbone,
        512,
        "multi_similarity",
    )
    for section in ("views", "teacher", "sampling", "loss", "batch", "optimizer", "schedule", "evaluation"):
        assert getattr(recipe, section) == getattr(ours, section)
    assert "Unknown are" in recipe.about


@on_published_data
def test_recall_is_reported_at_the_fields_k(path):
    recipe = recipe_at(path)
    fields = {"cub": (1, 2, 4, 8), "cars196": (1, 2, 4, 8), "sop": (1, 10, 100, 1000), "inshop": (1, 10, 20, 30)}
    assert recipe.evaluation.recall_at == fields[recipe.data.name]


def test_missing_weights_say_how_they_are_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = "stml-tf convert-weights CHECKPOINT --backbone bn_inception -o weights/bn_inception.weights.h5"
    with pytest.raises(ValueError, match=f"no such file: .*{command}"):
        load_recipe("cub")


def small_run(path, data_dir, monkeypatch):
    """The recipe, small, and its data in `data_dir`: official layouts, folders or glyphs, just enough for a batch."""
    recipe = recipe_at(path)
    overrides = [*SMALL]
    if recipe.method in ("moco", "byol", "mean_shift"):
        overrides += ["baseline.hidden_dim=32"]
    else:
        overrides += ["model.teacher_dim=32"]
    if recipe.model.rewhiten is not None:
        overrides += ["model.head=whitened"]  # without weights, heads start at random unless the recipe says so
    neighbors = recipe.sampling.num_neighbors
    batch_size = neighbors * -(-6 // neighbors)
    if recipe.learns_from_labels:
        overrides += ["supervision.classes_per_batch=2", f"supervision.images_per_class={neighbors}"]
        batch_size += 2 * neighbors
    overrides += [f"batch.size={batch_size}"]
    if recipe.data.name == "glyphs":
        overrides += ["data.num_classes=5", "data.instances=8", "data.image_size=32"]
    if recipe.data.name == "folder":
        write_folders(recipe.data, data_dir)
    if getattr(recipe.data, "train_classes", None) is not None:
        overrides += ["data.train_classes=3"]
    if recipe.data.labeled_classes is not None:
        overrides += ["data.labeled_classes=2"]
    for name in (recipe.data.name, getattr(recipe.data, "unlabeled", None)):
        if name in WRITE:
            target = registry.sources[name].build
            source = registry.resolve(target)
            of_their_size = partial(source.load, **expecting(WRITE[name](data_dir), name))
            monkeypatch.setattr(target.replace(":", "."), replace(source, load=of_their_size))
    fill_with_noise(data_dir)
    return recipe_at(path, *overrides)


def expecting(counts, name):
    return {} if name == "compcars" else {"expected": counts}


def write_folders(data, data_dir):
    parts = {part for part in (data.train, data.test, data.unlabeled) if part is not None}
    for part in parts:
        for index in range(40):
            file = data_dir / part / f"class {index % 5}" / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


def fill_with_noise(data_dir):
    """Images of which none is like another, so that a network's R@1 is its own."""
    random = np.random.default_rng(0)
    for file in sorted(data_dir.rglob("*.*")):
        if file.suffix.lower() in (".jpg", ".png"):
            Image.fromarray(random.integers(256, size=(36, 40, 3), dtype=np.uint8)).save(file)


def stop_after_an_epoch(monkeypatch):
    from stml_tf.fitting.checkpoint_callback import CheckpointCallback

    usual = CheckpointCallback.on_epoch_end

    def asked_to_stop(self, epoch, logs=None):
        os.kill(os.getpid(), signal.SIGTERM)
        usual(self, epoch, logs)

    monkeypatch.setattr(CheckpointCallback, "on_epoch_end", asked_to_stop)


def runs_to_its_end(path, tmp_path, monkeypatch):
    """Trains, is stopped, goes on, is evaluated and exported."""
    import keras
    import tensorflow as tf

    # Tracing takes most of the time with deep networks. Every method is traced with conv4 all the same, and every
    # network when it is exported.
    tf.config.run_functions_eagerly(recipe_at(path).model.backbone != "conv4")
    try:
        train_evaluate_export(path, tmp_path, monkeypatch)
    finally:
        tf.config.run_functions_eagerly(False)
        keras.backend.clear_session()
        gc.collect()  # else the networks of one recipe are still there while the next one's are made


def train_evaluate_export(path, tmp_path, monkeypatch):
    import tensorflow as tf

    from stml_tf.fitting.callbacks import TrainingInterrupted
    from stml_tf.runs import evaluate, export
    from stml_tf.runs import train as training

    data_dir, run_dir = tmp_path / "data", tmp_path / "run"
    data_dir.mkdir()
    recipe = small_run(path, data_dir, monkeypatch)
    train = partial(
        training.train,
        recipe,
        data_dir=data_dir,
        run_dir=run_dir,
        saved_models=tmp_path / "saved_models",
        resume=True,
        console=Console(file=io.StringIO()),
    )
    with monkeypatch.context() as patched, pytest.raises(TrainingInterrupted, match="after epoch 1, as SIGTERM"):
        stop_after_an_epoch(patched)
        train()
    assert not (run_dir / "metrics.json").exists()
    train()
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [1, 2]
    # Characters are drawn, and lie in no folder: one that was given would be taken for other images.
    their_folder = None if recipe.data.name == "glyphs" else data_dir
    assert evaluate.evaluate(run_dir, data_dir=their_folder) == pytest.approx(metrics["after_training"], abs=1e-6)

    exports = [tmp_path / "saved_models" / recipe.name / "1"]
    if recipe.model.backbone == "conv4":  # the same once more takes long with deep networks
        exports.append(export.export(run_dir, tmp_path / "exported"))
    Image.new("RGB", (50, 40), "green").save(tmp_path / "query.png")
    query = tf.constant([(tmp_path / "query.png").read_bytes()])
    for exported in exports:
        signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
        embedding = signature(image_bytes=query)["embedding"].numpy()
        assert embedding.shape == (1, recipe.model.embedding_dim)
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_a_recipe_runs_to_its_end(tmp_path, monkeypatch):
    runs_to_its_end(FILES[0].with_stem(FASTEST), tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Even though the .*eager:UserWarning")
@pytest.mark.parametrize("path", [path for path in FILES if path.stem != FASTEST], ids=lambda path: path.stem)
def test_every_recipe_runs_to_its_end(path, tmp_path, monkeypatch):
    runs_to_its_end(path, tmp_path, monkeypatch)
