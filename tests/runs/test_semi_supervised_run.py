"""Runs that learn from labels, from end to end on tiny glyphs."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from stml_tf import evaluate, train
from stml_tf.data.catalog import Catalog
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.fitting.checkpoints import Checkpoints
from stml_tf.recipe.load import load_recipe

SMALL = (
    'data={"name": "glyphs", "num_classes": 16, "instances": 6, "image_size": 16, "labeled_classes": 3}',
    "views.size=16",
    "model.embedding_dim=8",
    "model.teacher_dim=16",
    "batch.size=16",
    "sampling.num_neighbors=2",
    "supervision.classes_per_batch=2",
    "supervision.images_per_class=3",
    "training.epochs=1",
    "training.cache=null",
)


def run(tmp_path, *overrides, name="run", **options):
    """Train a small recipe; returns the run folder, its metrics and what was printed."""
    printed = io.StringIO()
    folder = train(
        load_recipe("glyphs_semi", [*SMALL, *overrides]),
        run_dir=tmp_path / name,
        saved_models=tmp_path / "saved_models",
        console=Console(file=printed, width=150),
        **options,
    ).folder
    return folder, json.loads((folder / "metrics.json").read_text()), printed.getvalue()


@pytest.mark.parametrize("method", ["semi_supervised", "supervised"])
def test_a_run_learns_from_labels_and_ends_with_an_export(tmp_path, method):
    folder, metrics, printed = run(tmp_path, f"method={method}", "supervision.loss=proxy_anchor")
    assert "18 training images of 3 classes, 30 without labels, 48 test images of 8 classes" in printed
    images = {"semi_supervised": 16, "supervised": 6}[method]
    assert f"1 epochs of 3 steps, each of {images} images in 2 views" in printed
    (epoch,) = metrics["epochs"]
    assert np.isfinite(epoch["supervised"]) and epoch["supervised"] > 0
    assert ("relaxed_contrastive" in epoch) == (method == "semi_supervised")
    assert Checkpoints(folder / "checkpoints").latest().extra["num_classes"] == 3
    assert evaluate(folder) == pytest.approx(metrics["after_training"], abs=1e-6)
    assert (tmp_path / "saved_models" / "glyphs_semi" / "1" / "saved_model.pb").exists()


def test_labels_of_the_unlabelled_images_do_not_matter(tmp_path, random):
    recipe = load_recipe("glyphs_semi", SMALL)
    catalog = open_catalog(**recipe.data.model_dump())
    unlabeled = catalog.unlabeled
    permuted = replace(unlabeled, labels=random.permutation(unlabeled.labels))
    assert not np.array_equal(permuted.labels, unlabeled.labels)
    metrics = [
        run(tmp_path, name=name, images=replace(catalog, unlabeled=images))[1]
        for name, images in (("true", unlabeled), ("permuted", permuted))
    ]
    for key in ("loss", "supervised", "relaxed_contrastive", "recall@1", "map@r"):
        first, second = (each["epochs"][0][key] for each in metrics)
        assert first == pytest.approx(second, rel=1e-4)


def test_a_dry_run_takes_a_step(tmp_path):
    printed = io.StringIO()
    train(
        load_recipe("glyphs_semi", SMALL),
        run_dir=tmp_path / "run",
        dry_run=True,
        console=Console(file=printed, width=150),
    )
    assert "one step was taken, nothing was written" in printed.getvalue()


def test_images_of_ones_own_need_labels(tmp_path):
    catalog = open_catalog(**load_recipe("glyphs_semi", SMALL).data.model_dump())
    without = Catalog("mine", replace(catalog.train, labels=None), None, unlabeled=catalog.unlabeled)
    with pytest.raises(ValueError, match="semi_supervised learns from labels, but the training images have none"):
        run(tmp_path, images=without)
