"""Every recipe that is shipped: valid, named as its file, with the settings of its paper, and able to take a step."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from stml_tf.data.catalog import ImageSet
from stml_tf.data.datasets import PUBLISHED
from stml_tf.recipe import load_recipe
from tests.data.miniatures import write_cars, write_compcars, write_cub, write_inshop, write_nabirds, write_sop

FILES = sorted(Path(__file__).parents[1].joinpath("recipes").glob("*.json"))
PUBLISHED_DATA = [path for path in FILES if path.stem.startswith(("cub", "cars", "sop", "inshop"))]
SEMI_SUPERVISED = [path for path in PUBLISHED_DATA if path.stem in ("cub_nabirds_resnet50", "cars_compcars_resnet50")]
BASELINES = [path for path in PUBLISHED_DATA if path.stem.endswith(("_moco", "_byol", "_mean_shift"))]
EXPERIMENTS = [path for path in PUBLISHED_DATA if path not in (*BASELINES, *SEMI_SUPERVISED)]
WRITE = {"cub": write_cub, "cars196": write_cars, "sop": write_sop, "inshop": write_inshop}
WRITE_UNLABELED = {"nabirds": write_nabirds, "compcars": write_compcars}
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
every_experiment = pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
every_baseline = pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
on_published_data = pytest.mark.parametrize("path", PUBLISHED_DATA, ids=lambda path: path.stem)

# One step of a few small images, without weights that would have to be downloaded or converted.
SMALL = ("model.weights=null", "views.size=32", "evaluation.resize=32", "batch.size=10")


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
    assert baseline.model == ours.model
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
    assert "Not known" in recipe.about


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


def dry_run(path, tmp_path):
    from stml_tf import experiment

    width = "baseline.hidden_dim=32" if path in BASELINES else "model.teacher_dim=32"
    few = ("supervision.classes_per_batch=2", "supervision.images_per_class=2", "batch.size=14")
    recipe = recipe_at(path, *SMALL, width, *(few if path in SEMI_SUPERVISED else ()))
    load = PUBLISHED[recipe.data.name].load
    catalog = load(tmp_path, expected=WRITE[recipe.data.name](tmp_path))
    if path in SEMI_SUPERVISED:
        WRITE_UNLABELED[recipe.data.unlabeled](tmp_path)
        images = sorted((tmp_path / "nabirds").rglob("*.jpg")) or sorted((tmp_path / "data" / "image").rglob("*.jpg"))
        catalog = replace(catalog, unlabeled=ImageSet(images))
    made = set(tmp_path.rglob("*"))
    printed = io.StringIO()
    experiment.train(
        recipe, catalog=catalog, run_dir=tmp_path / "run", dry_run=True, console=Console(file=printed, width=120)
    )
    assert "one step was taken, nothing was written" in printed.getvalue()
    assert set(tmp_path.rglob("*")) == made


def test_a_recipe_takes_a_step_on_official_files(tmp_path):
    dry_run(next(path for path in EXPERIMENTS if path.stem == "sop_resnet18_scratch"), tmp_path)


@pytest.mark.slow
@on_published_data
def test_every_recipe_takes_a_step_on_official_files(path, tmp_path):
    dry_run(path, tmp_path)
