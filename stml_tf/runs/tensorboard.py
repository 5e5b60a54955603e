"""The content of TensorBoard for a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stml_tf import registry
from stml_tf.data.catalog import ImageSet
from stml_tf.data.image_files import printable
from stml_tf.data.loader import pixels_of
from stml_tf.fitting.health_callback import HealthCallback
from stml_tf.monitoring import EpochPictures, FreeBaselines, Summaries, TensorBoardScalars
from stml_tf.monitoring.contact_sheet import neighbor_sheet
from stml_tf.monitoring.projector import MOST_IMAGES, write_projector
from stml_tf.monitoring.tensorboard_scalars import SHOWN_BESIDE_SETTINGS, overview
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.as_seen import Sample
from stml_tf.runs.before_and_after import BEFORE, reached
from stml_tf.runs.measure import Metrics, Results
from stml_tf.runs.prepare import Run
from stml_tf.runs.sample import sample_of
from stml_tf.runs.shown_views import show_views


def show_beginning(run: Run, summaries: Summaries, results: Results) -> None:
    """Write what is known before the first step: the recipe, its settings to compare, views, and where it starts."""
    recipe = run.recipe
    summaries.text("recipe", f"```json\n{recipe.model_dump_json(indent=2)}\n```", step=0)
    summaries.hparams(settings_of(recipe), metrics=SHOWN_BESIDE_SETTINGS)
    shown = show_views(recipe, run.data.images)
    summaries.image("views", neighbor_sheet([(one.image, [(view, None) for view in one.views]) for one in shown]), 0)
    if results:
        summaries.scalars(overview(results[BEFORE].metrics), step=0)
    summaries.flush()


def callbacks_for(
    run: Run, summaries: Summaries, health: HealthCallback | None, free: Mapping[str, Metrics], *, epochs_done: int = 0
) -> list[keras.callbacks.Callback]:
    """Build the callbacks that write curves and pictures of each epoch.

    Args:
        run: The run.
        summaries: The writer.
        health: The callback that embeds a sample after each epoch, if there is one. It has to come first.
        free: Metrics of what can be had without training, by name.
        epochs_done: Number of complete epochs.
    """
    if summaries.log_dir is None:
        return []
    if health is not None and not epochs_done:
        start = {"health": health.before.score, "health/effective_rank": health.before.effective_rank}
        summaries.scalars(overview(start), step=0)
    sample = sample_of(run)
    pictures = EpochPictures(
        summaries,
        views=lambda: None if health is None else health.views,
        pixels_of=partial(pixels_of, sample),
        labels=sample.labels,
        similarities=_Similarities(run),
        seed=run.recipe.seed,
    )
    lines = FreeBaselines(summaries, {name: row["recall@1"] for name, row in free.items() if "recall@1" in row})
    return [TensorBoardScalars(summaries), pictures, lines]


def show_end(run: Run, summaries: Summaries, results: Results, sample: Sample) -> None:
    """Write what is known when training is over, the projector and what only then is measured, and close the file.

    Args:
        run: The run.
        summaries: The writer.
        results: What was measured; empty without test images.
        sample: Some training images, which the projector shows where there are no test images.
    """
    if summaries.log_dir is None:
        return
    if "raw_pixels" in results:
        lines = FreeBaselines(summaries, {"raw_pixels": results["raw_pixels"].metrics["recall@1"]})
        for epoch in (0, run.recipe.training.epochs):
            lines.draw(epoch)
        lines.on_train_end()
    if not run.recipe.trains and results:
        metrics = results[reached(run.recipe)].metrics
        summaries.scalars({**overview(metrics), "retrieval/map@r": metrics["map@r"]}, step=0)
    summaries.close()
    _write_projector(run, summaries.log_dir, results, sample)


def _write_projector(run: Run, log_dir: Path, results: Results, sample: Sample) -> None:
    if results:
        images, embeddings = run.test, results[reached(run.recipe)].embeddings
    else:
        images, embeddings = run.data.images.take(sample.rows), sample.embeddings
    chosen = np.unique(np.linspace(0, len(images) - 1, min(MOST_IMAGES, len(images))).astype(int))
    pictures = [pixels_of(images, index) if results else sample.pixels[index] for index in chosen]
    columns = {"image": [_name(images, index) for index in chosen]}
    if images.labels is not None:
        columns["class"] = [images.class_names[images.labels[index]] for index in chosen]
    write_projector(log_dir, embeddings[chosen], pictures=pictures, columns=columns)


def settings_of(recipe: Recipe) -> dict[str, bool | int | float | str]:
    """Return the settings by which runs are compared: the values of a recipe by the path of their key."""
    reads = registry.methods.find(recipe.method).reads_key
    document = recipe.model_dump(mode="json", exclude={"about", "reasons"})
    # The first names in alphabetical order are shown: what the method has no use for would hide what it has.
    return {
        key: value
        for key, value in _settings(document)
        if key.partition(".")[0] not in ("baseline", "supervision") or reads(key)
    }


class _Similarities:
    """The pseudo labels of one batch, always the same: the first one of the epoch that ends first."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._batch: tuple[Any, np.ndarray] | None = None

    def __call__(self) -> dict[str, np.ndarray]:
        if not hasattr(self.run.model, "pseudo_labels"):
            return {}
        if self._batch is None:
            views, image_ids, *_ = next(iter(self.run.batches().take(1)))
            self._batch = views, np.asarray(image_ids)
        views, image_ids = self._batch
        similarity = self.run.model.pseudo_labels(views, image_ids)
        matrices = {name: np.asarray(matrix) for name, matrix in similarity._asdict().items()}
        labels = self.run.data.images.labels
        if labels is not None:
            rows = np.repeat(labels[image_ids], views.shape[1])
            matrices["truth"] = (rows[:, None] == rows).astype(np.float32)
        return matrices


def _settings(document: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a recipe by the path of their key, as JSON unless they are numbers or text."""
    for key, value in document.items():
        path = f"{section}{key}"
        if isinstance(value, Mapping):
            yield from _settings(value, f"{path}.")
        else:
            yield path, value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _name(images: ImageSet, index: int) -> str:
    image = images.images[index]
    return printable(image.relative_to(image.parent.parent)) if isinstance(image, Path) else images.describe(index)
