import io
import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stml_tf import evaluate, export, train
from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.sources.glyphs import load_glyphs
from stml_tf.errors import UserError
from stml_tf.fitting.callbacks import StopOnNonFinite, TrainingInterrupted, TrainingStopped
from stml_tf.fitting.checkpoints import Checkpoints
from stml_tf.recipe.load import load_recipe
from stml_tf.runs import fit, measure
from stml_tf.runs.record import read_run
from tests.pages.rules import assert_keeps_the_rules, read

SMALL = (
    "data.num_classes=16",
    "data.instances=6",
    "data.image_size=16",
    "views.size=16",
    "model.embedding_dim=8",
    "model.teacher_dim=16",
    "batch.size=16",
    "sampling.num_neighbors=4",
    "training.epochs=2",
)


def run(tmp_path, *overrides, name="run", **options):
    """Train a small recipe; returns the run folder and what was printed."""
    printed = io.StringIO()
    result = train(
        load_recipe("quickstart", [*SMALL, *overrides]),
        run_dir=tmp_path / name,
        saved_models=tmp_path / "saved_models",
        console=Console(file=printed, width=120),
        **options,
    )
    return result.folder, printed.getvalue()


def write_folder(folder: Path, images: ImageSet) -> None:
    for index, (pixels, label) in enumerate(zip(images.images, images.labels, strict=True)):
        path = folder / f"class{label}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)


@pytest.fixture(scope="module")
def embedded():
    """The number of images each time that the test images of `finished` are embedded."""
    return []


@pytest.fixture(scope="module")
def finished(tmp_path_factory, embedded):
    tmp_path = tmp_path_factory.mktemp("finished")
    embed = measure.embed_test_images
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measure, "embed_test_images", lambda run: embedded.append(len(run.test)) or embed(run))
        folder, printed = run(tmp_path)
    return tmp_path, folder, printed


@pytest.fixture(scope="module")
def glyph_folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("folders")
    glyphs = load_glyphs(num_classes=16, instances=6, image_size=16)
    write_folder(root / "train", glyphs.train)
    write_folder(root / "test", glyphs.test)
    return root


FOLDER_DATA = 'data={"name": "folder", "train": "train", "test": "test"}'
WITHOUT_GLYPHS = tuple(override for override in SMALL if not override.startswith("data."))


def folder_recipe(*overrides):
    return load_recipe("quickstart", [FOLDER_DATA, *WITHOUT_GLYPHS, *overrides])


def test_a_run_leaves_recipe_checkpoints_logs_metrics_picture_and_saved_model(finished):
    tmp_path, folder, printed = finished
    assert load_recipe(folder / "recipe.json") == load_recipe("quickstart", SMALL)
    assert Checkpoints(folder / "checkpoints").latest().epoch == 2
    assert Image.open(folder / "retrieval.png").size[0] == 1200
    assert (tmp_path / "saved_models" / "quickstart" / "1" / "saved_model.pb").exists()
    for made in (folder, folder / "retrieval.png", tmp_path / "saved_models" / "quickstart" / "1"):
        assert str(made) in printed
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("raw_pixels", "before_training", "after_training"):
        assert {"recall@1", "recall@2", "recall@4", "recall@8", "map@r"} <= set(metrics[name])
        assert name.replace("_", " ") in printed
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [1, 2]
    assert metrics["after_training"]["recall@1"] == pytest.approx(metrics["epochs"][-1]["recall@1"])
    best = metrics["best_epoch"]
    assert best["recall@1"] == max(epoch["recall@1"] for epoch in metrics["epochs"])


def test_test_images_are_embedded_before_training_and_after_each_epoch(finished, embedded):
    assert embedded == [48] * 3


def test_the_page_of_a_run_tells_what_came_of_it(finished):
    _, folder, printed = finished
    assert f"Report      {folder / 'report.html'}" in printed
    page = (folder / "report.html").read_text()
    assert_keeps_the_rules(page)
    text = read(page).text
    metrics = json.loads((folder / "metrics.json").read_text())
    assert f"{100 * metrics['after_training']['recall@1']:.1f} %" in text
    assert "48 test images in two dimensions" in text and "Queries that find least" in text
    assert "All 8 test classes." in text
    assert "steps an epoch 3" in text
    record = read_run(folder)
    assert len(record.healths) == 1 + len(record.epochs) == 3
    for row, queries in record.queries.items():
        for name, each in queries.items():
            assert each.mean() == pytest.approx(metrics[row][name], abs=1e-6)
    logged = metrics["epochs"][0]
    assert logged["speed/images_per_second"] > 0 and logged["speed/peak_memory_gb"] > 0.01


def test_tensorboard_shows_losses_labels_retrieval_picture_and_recipe(finished):
    _, folder, _ = finished
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tensors = set(events.Tags()["tensors"])
    assert {
        "loss/total",
        "loss/relaxed_contrastive",
        "loss/self_distillation",
        "train/learning_rate",
        "train/gradient_norm",
        "pseudo_labels/positive_share",
        "pseudo_labels/agreement",
        "retrieval/recall@1",
        "retrieval",
        "recipe",
        "0_overview/health",
        "0_overview/recall@1",
        "0_overview/effective_rank",
        "0_overview/epoch_seconds",
        "neighbors/of_fixed_queries",
        "health/cosines_of_different_images",
        "health/cosines_of_two_views",
        "pseudo_labels/of_a_batch",
        "views",
        "_hparams_/session_start_info",
    } <= tensors
    assert min(tensors - {"_hparams_/session_start_info", "_hparams_/experiment"}).startswith("0_overview/")
    assert not {tag for tag in tensors if "queries" in tag and "fixed" not in tag}
    assert [event.step for event in events.Tensors("0_overview/recall@1")] == [0, 1, 2]
    assert [event.step for event in events.Tensors("0_overview/health")] == [0, 1, 2]
    lines = EventAccumulator(str(folder / "tensorboard" / "raw_pixels")).Reload()
    assert [event.step for event in lines.Tensors("0_overview/recall@1")] == [0, 2]
    rows = (folder / "tensorboard" / "metadata.tsv").read_text().splitlines()
    assert len(rows) == 49 and rows[0] == "image\tclass"
    assert (folder / "tensorboard" / "embeddings.bytes").stat().st_size % (48 * 4) == 0


def test_a_finished_run_and_its_saved_model_measure_the_same(finished):
    tmp_path, folder, _ = finished
    after = json.loads((folder / "metrics.json").read_text())["after_training"]
    assert evaluate(folder) == pytest.approx(after, abs=1e-6)
    assert evaluate(tmp_path / "saved_models" / "quickstart") == pytest.approx(after, abs=0.021)  # one query of 48


def test_an_export_adds_a_version_with_the_same_embeddings(finished, random):
    tmp_path, folder, _ = finished
    first = tmp_path / "saved_models" / "quickstart" / "1"
    second = export(folder, tmp_path / "saved_models" / "quickstart")
    assert second.name == "2"
    pixels = random.integers(0, 256, (3, 20, 24, 3), dtype=np.uint8)
    a, b = (tf.saved_model.load(str(path)).signatures["pixels"](pixels=pixels)["embedding"] for path in (first, second))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_seed_decides_the_result(finished, tmp_path):
    _, folder, _ = finished
    again, _ = run(tmp_path)
    other, _ = run(tmp_path, "seed=1", name="other")
    np.testing.assert_allclose(losses(folder), losses(again), rtol=1e-4)
    assert not np.allclose(losses(folder), losses(other), rtol=1e-4)


def test_an_existing_run_is_refused_and_replaced_on_request(finished):
    tmp_path, folder, _ = finished
    with pytest.raises(ValueError, match=r"holds a run already: resume it with --resume, replace it with --overwrite"):
        run(tmp_path)
    (folder / "mine.txt").touch()
    first = (folder / "metrics.json").stat().st_ino
    run(tmp_path, overwrite=True)
    assert (folder / "metrics.json").stat().st_ino != first
    (folder / "mine.txt").unlink()  # fails unless it has been left alone


def interrupted_run(tmp_path, monkeypatch, *, step, start=None):
    """A run like `finished`, or what `start` starts, that SIGTERM stops after a step, of which an epoch has three."""
    taken = []

    class SignalAt(StopOnNonFinite):
        def on_train_batch_end(self, batch, logs=None):
            taken.append(batch)
            if len(taken) == step:
                os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched, pytest.raises(TrainingInterrupted, match="with --resume"):
        patched.setattr(fit, "StopOnNonFinite", SignalAt)
        (start or run)(tmp_path, resume=True)
    return tmp_path / "run"


def losses(folder):
    return [epoch["loss"] for epoch in json.loads((folder / "metrics.json").read_text())["epochs"]]


def test_a_run_that_was_stopped_in_an_epoch_goes_on_and_tells_of_all_epochs(finished, tmp_path, monkeypatch):
    folder = interrupted_run(tmp_path, monkeypatch, step=4)
    assert Checkpoints(folder / "checkpoints").latest().path.name == "epoch-0001-batch-00001"
    assert not (folder / "metrics.json").exists()
    _, printed = run(tmp_path, resume=True)
    assert "epoch-0001-batch-00001" in printed and "epoch 2/2" in printed and "epoch 1/2" not in printed
    np.testing.assert_allclose(losses(folder), losses(finished[1]), rtol=1e-4)
    there, here = (json.loads((path / "metrics.json").read_text()) for path in (finished[1], folder))
    assert here["before_training"] == pytest.approx(there["before_training"], abs=0.021)  # one query of 48
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.step for event in events.Tensors("loss/total")] == [1, 2]
    assert len(events.Tensors("recipe")) == 1


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(finished, tmp_path, monkeypatch):
    folder = interrupted_run(tmp_path, monkeypatch, step=5)
    os.truncate(folder / "checkpoints" / "epoch-0001-batch-00002" / "variables.npz", 1_000)
    with pytest.warns(UserWarning, match="epoch-0001-batch-00002 is damaged and is passed over"):
        _, printed = run(tmp_path, resume=True)
    assert printed.count("Resuming from") == 1
    assert "checkpoints/epoch-0001\n" in printed
    np.testing.assert_allclose(losses(folder), losses(finished[1]), rtol=1e-4)


def test_a_run_that_is_over_does_not_go_on(finished):
    tmp_path, folder, _ = finished
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    _, printed = run(tmp_path, resume=True)
    assert printed == f"The run in {folder} is finished: there is nothing to resume.\n"
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_a_run_does_not_go_on_with_another_recipe(finished):
    with pytest.raises(ValueError, match=r"training\.epochs: 2 in the run, 3 given"):
        run(finished[0], "training.epochs=3", resume=True)


def test_a_run_does_not_go_on_with_other_images(tmp_path, glyph_folders, monkeypatch):
    data = shutil.copytree(glyph_folders, tmp_path / "data")

    def start(folder, **options):
        train(folder_recipe(), data_dir=data, run_dir=folder / "run", saved_models=folder / "saved_models", **options)

    folder = interrupted_run(tmp_path, monkeypatch, step=1, start=start)
    (gone,) = (data / "train").rglob("17.png")
    gone.unlink()
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    with pytest.raises(
        UserError, match=r"started with:\n  training images: 1 removed \(class.*/17\.png\)\nRestore them"
    ):
        start(tmp_path, resume=True)
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


def test_queries_search_the_gallery_where_there_is_one(tmp_path):
    glyphs = load_glyphs(num_classes=16, instances=6, image_size=16)
    queries, gallery = (glyphs.test.take(np.flatnonzero(np.arange(48) % 6 < 2) + offset) for offset in (0, 2))
    folder, printed = run(
        tmp_path, "training.epochs=1", images=Catalog("mine", glyphs.train, queries, gallery), name="gallery"
    )
    assert "16 test images of 8 other classes, which search 16 others" in printed
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [metrics[when]["queries"] for when in ("before_training", "after_training")] == [16, 16]


def test_a_dry_run_takes_a_step_and_writes_nothing(tmp_path):
    _, printed = run(tmp_path, dry_run=True)
    assert "one step was taken, nothing was written" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_test_images_trains_and_says_so(tmp_path, glyph_folders):
    printed = io.StringIO()
    folder = train(
        folder_recipe("data.test=null", "training.epochs=1"),
        data_dir=glyph_folders,
        run_dir=tmp_path / "run",
        saved_models=tmp_path / "saved_models",
        console=Console(file=printed, width=120),
    ).folder
    assert "no test images, so the network could not be evaluated" in printed.getvalue()
    assert "raw_pixels" not in json.loads((folder / "metrics.json").read_text())
    assert not (folder / "retrieval.png").exists()
    text = read((folder / "report.html").read_text()).text
    assert "There were no test images" in text and "There are no labels: you judge." in text
    assert re.search(r"Query \d+\.png", text)  # by the names of files, though they are kept decoded
    assert "Health, of 1" in text and "training images in two dimensions" in text
    assert (tmp_path / "saved_models" / "quickstart" / "1").is_dir()
    with pytest.raises(ValueError, match=r"has no test images to evaluate on: set data\.test to a folder"):
        evaluate(folder, data_dir=glyph_folders)


def test_unreadable_images_are_listed_and_left_out(tmp_path, glyph_folders):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    glyphs = load_glyphs(num_classes=32, instances=8, image_size=16)
    files = []
    for index, pixels in enumerate(glyphs.train.images):
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(np.ascontiguousarray(pixels)).save(files[-1])
    catalog = Catalog("mine", ImageSet([*files, bad]), None)
    folder, _ = run(tmp_path, "training.epochs=1", images=catalog)
    assert (folder / "unreadable.txt").read_text().startswith(str(bad))


def test_too_many_unreadable_images_stop_the_run(tmp_path):
    files = [tmp_path / f"{index}.png" for index in range(20)]
    for path in files:
        path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"20 of 20 images cannot be read"):
        run(tmp_path, images=Catalog("mine", ImageSet(files), None))
    assert not (tmp_path / "run").exists()


def test_fewer_images_than_a_batch_are_refused(tmp_path):
    images = load_glyphs(num_classes=4, instances=2, image_size=16).train
    with pytest.raises(ValueError, match="batch of 16 images cannot be drawn from 4"):
        run(tmp_path, images=Catalog("mine", images, None))


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    with pytest.raises(TrainingStopped, match=r"Training stopped at step \d+: .*NaN or infinite.*learning_rate"):
        run(tmp_path, "optimizer.name=sgd", "optimizer.learning_rate=1e37", "training.epochs=3")
    assert Checkpoints(tmp_path / "run" / "checkpoints").latest() is None
    assert "Ruined: training had to stop" in read((tmp_path / "run" / "report.html").read_text()).text


def test_the_heads_may_learn_faster(tmp_path):
    folder, _ = run(tmp_path, "optimizer.head_learning_rate=0.01", "training.epochs=1")
    assert json.loads((folder / "recipe.json").read_text())["optimizer"]["head_learning_rate"] == 0.01
