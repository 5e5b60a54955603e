"""Training from end to end: from a recipe to a trained, measured and exported network."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from stml_tf.data.catalog import Catalog
from stml_tf.data.sources.given import GivenImages
from stml_tf.distribution.workers import is_chief
from stml_tf.monitoring import Summaries, say
from stml_tf.recipe.load import load_recipe
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.as_seen import sample_training_images
from stml_tf.runs.barriers import wait_until_all_resume_from, wait_until_chief_has_written
from stml_tf.runs.before_and_after import BEFORE, free_of, measure_after, measure_before
from stml_tf.runs.export import export_run
from stml_tf.runs.fit import Watch, checkpoint_to_resume, fit, take_one_step
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.given import LossFunction, holding, is_folder, naming_what_is_given
from stml_tf.runs.measure import StudentRetrieval
from stml_tf.runs.page import keep_evidence, leaving_page_if_stopped
from stml_tf.runs.prepare import Run, images_of_recipe, prepare
from stml_tf.runs.report import draw_retrieval, report
from stml_tf.runs.result import TrainingResult
from stml_tf.runs.tensorboard import show_beginning, show_end
from stml_tf.runs.trackers import log_results, tracked
from stml_tf.runs.whitened import start_heads


def train(
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any],
    *,
    backbone: keras.Model | None = None,
    loss: LossFunction | None = None,
    images: GivenImages | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    run_dir: str | os.PathLike[str] | None = None,
    saved_models: str | os.PathLike[str] = "saved_models",
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
) -> TrainingResult:
    """Train a network as a recipe says, measure it and export it.

    With `TF_CONFIG` in the environment, this process is one of several workers that share the work and the folders; the
    first of them prints and writes.

    Args:
        recipe: The recipe, or anything that `load_recipe` takes.
        backbone: Replaces `model.backbone`: a functional or sequential model from RGB images
            `[batch, height, width, 3]`, 0 to 255, to feature maps or vectors. A copy of it is trained.
        loss: Replaces `supervision.loss`: a callable of labels `[batch]` and embeddings `[batch, dim]` that returns a
            scalar.
        images: Replaces `data`: a folder, a list of paths or pixels `[num_images, height, width, 3]` uint8 to train on
            without labels; or a `Catalog`, which may have labels and test images.
        data_dir: Folder that the recipe's data paths start from.
        download: Whether TensorFlow Datasets may download missing data.
        run_dir: The run folder; `runs/NAME` by default.
        saved_models: Folder of the SavedModel, which is named after the recipe.
        overwrite: Whether to replace a run in the folder.
        resume: Whether to resume a run in the folder from its last checkpoint; without a checkpoint, it starts.
        dry_run: Whether to take only one step on a few images, and write nothing.
        console: Where to print; the terminal by default.

    Returns:
        The result: metrics, history, run folder, SavedModel, and methods to embed and search images.

    Raises:
        UserError: If the run folder is in use or its run has another recipe, the data are missing, too few or
            unreadable, the devices do not exist or cannot divide a batch evenly, or an argument cannot be used.
        DryRunStopped: If a dry run would have to extract or download the data first.
        TrainingStopped: If the loss is no longer finite, or a checkpoint cannot be written.
        TrainingInterrupted: If SIGTERM or Ctrl-C stopped the run after a checkpoint was written.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    in_memory = None if is_folder(images) else images
    with holding(backbone=backbone, loss=loss, images=in_memory):
        return train_recipe(
            naming_what_is_given(recipe, backbone=backbone is not None, loss=loss is not None, images=images),
            data_dir=Path(images) if is_folder(images) else data_dir and Path(data_dir),
            download=download,
            run_dir=run_dir and Path(run_dir),
            saved_models=Path(saved_models),
            overwrite=overwrite,
            resume=resume,
            dry_run=dry_run,
            console=console,
        )


def train_recipe(
    recipe: Recipe,
    *,
    catalog: Catalog | None = None,
    data_dir: Path | None = None,
    download: bool = False,
    run_dir: Path | None = None,
    saved_models: Path = Path("saved_models"),
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
    export: bool = True,
    watch: Watch | None = None,
) -> TrainingResult:
    """Train, measure and export a recipe whose parts all have names.

    Args:
        recipe: The recipe.
        catalog: The recipe's data, if they have been opened already.
        data_dir: See `train`, as for all others.
        download: Whether TensorFlow Datasets may download missing data.
        run_dir: The run folder.
        saved_models: Folder of the SavedModel.
        overwrite: Whether to replace a run in the folder.
        resume: Whether to resume a run in the folder.
        dry_run: Whether to take only one step, and write nothing.
        console: Where to print.
        export: Whether to export a SavedModel.
        watch: Called at the end of each epoch; see `fit`.
    """
    console = console or Console(quiet=not is_chief())
    folder = RunFolder(run_dir or Path("runs") / recipe.name, write=is_chief())
    data = {"data_dir": data_dir, "download": download}
    if resume and folder.is_over():
        folder.check(recipe, resume=True)
        say(console, f"The run in {folder.path} is finished: there is nothing to resume.")
        return TrainingResult.of_folder(folder, lambda: images_of_recipe(recipe, catalog, **data))
    replaced = {"overwrite": overwrite, "resume": resume, "dry_run": dry_run}
    prepared = partial(prepare, recipe, catalog=catalog, run_dir=folder.path, console=console, **data, **replaced)
    if dry_run:
        take_one_step(prepared())
        say(console, "Dry run: one step was taken, nothing was written.")
        return TrainingResult(folder.path)

    folder.check(recipe, overwrite=overwrite, resume=resume)
    with folder.in_use():
        run = prepared()
        _train(run, resume=resume, saved_models=saved_models if export else None, watch=watch)
    return TrainingResult.of_folder(folder, lambda: run.data.images)


def _train(run: Run, *, resume: bool, saved_models: Path | None, watch: Watch | None) -> None:
    with tracked(run) as trackers:
        checkpoint = checkpoint_to_resume(run) if resume else None
        wait_until_all_resume_from(
            run.strategy, checkpoint and checkpoint.path.name, measured=run.folder.remembers(BEFORE)
        )
        if checkpoint is None or not run.recipe.trains:  # heads that are fitted alone are fitted again
            start_heads(run)
        student = StudentRetrieval(run)
        before = measure_before(run, student)
        summaries = Summaries(run.folder.tensorboard if is_chief() else None)
        if checkpoint is None:
            show_beginning(run, summaries, before)
        with leaving_page_if_stopped(run):
            history = fit(
                run, summaries, student, free=free_of(before), resume_from=checkpoint, watch=watch, trackers=trackers
            )
        results = measure_after(run, student, before)
        sample = sample_training_images(run)  # the last work that workers share
        if is_chief():
            draw_retrieval(run, summaries, results)
            show_end(run, summaries, results, sample)
            saved_model = export_run(run, results, saved_models / run.recipe.name) if saved_models else None
            keep_evidence(run, sample, results)
            report(run, results, history, saved_model)
            log_results(trackers, run, results)
    wait_until_chief_has_written(run.strategy)
