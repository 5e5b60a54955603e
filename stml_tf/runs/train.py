"""From a recipe to a trained, measured and exported network. Reads from top to bottom."""

from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from stml_tf.data.catalog import Catalog
from stml_tf.data.inspection import readable_catalog
from stml_tf.data.loader import pixels_of, training_batches
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.data.transforms import random_view
from stml_tf.distribution.devices import distribute_batches, require_same, strategy_for, sum_over_workers
from stml_tf.distribution.workers import is_chief, worker
from stml_tf.dry_run import trial
from stml_tf.evaluation import embed, query_gallery_metrics, raw_pixels
from stml_tf.fitting.callbacks import MeasureCallback, NeighborBatchesCallback, StopOnNonFinite
from stml_tf.fitting.checkpoint_callback import CheckpointCallback
from stml_tf.fitting.checkpoints import Checkpoints
from stml_tf.fitting.resumable_fit import fit_from
from stml_tf.fitting.stop_signals import StopSignals
from stml_tf.methods import SelfTaughtModel
from stml_tf.models import preprocessing
from stml_tf.monitoring import (
    ProgressCallback,
    Summaries,
    TensorBoardScalars,
    describe_run,
    epochs_report,
    figure_to_png,
    inspection_progress,
    learning_figure,
    mean_agreement,
    metrics_table,
    say,
)
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.model import build_model
from stml_tf.runs.same_images import require_same_images
from stml_tf.runs.student_views import embedder, export_student, fixed_views
from stml_tf.runs.training_data import training_data

AGREEMENT_BATCHES = 3


def train(
    recipe: Recipe,
    *,
    data_dir: Path | None = None,
    download: bool = False,
    catalog: Catalog | None = None,
    run_dir: Path | None = None,
    saved_models: Path = Path("saved_models"),
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
) -> Path:
    """Train, measure and export what a recipe says.

    With `TF_CONFIG` in the environment this is one of several workers, which share the work and the folders; the first
    of them prints and writes.

    Args:
        recipe: What to do.
        data_dir: Where the recipe's data paths start from.
        download: Have TensorFlow Datasets fetch what is not there.
        catalog: Images of your own making, in place of the recipe's data.
        run_dir: Folder of the run; `runs/NAME` by default.
        saved_models: Where the SavedModel goes, under the recipe's name.
        overwrite: Replace a run that is in the folder.
        resume: Go on with a run that is in the folder from its last checkpoint; without one, from the beginning.
        dry_run: Take one step on a few images, write nothing.
        console: Where to print; the terminal by default.

    Returns:
        The run folder.

    Raises:
        ValueError: If the run folder holds something or its run has another recipe, the data are missing, too few or
            unreadable, or the devices are not there or cannot divide a batch evenly.
        DryRunStopped: If a dry run would have to extract or download the data first.
        TrainingStopped: If the loss is no longer a number, or a checkpoint cannot be written.
        TrainingInterrupted: If SIGTERM or Ctrl-C came and a checkpoint was written.
    """
    console = console or Console(quiet=not is_chief())
    folder = RunFolder(run_dir or Path("runs") / recipe.name, write=is_chief())
    if not dry_run:
        folder.check(recipe, overwrite=overwrite, resume=resume)
    if resume and folder.metrics_file.exists():
        say(console, f"The run in {folder.path} is over: there is nothing to go on with.")
        return folder.path
    # Behind labelled images, groups of neighbours lie where they fall: what they are for is computed from all anyway.
    in_group = 1 if recipe.learns_from_labels else recipe.sampling.num_neighbors
    # Several workers wait for each other here, so all of them have seen the run folder as it was.
    strategy = strategy_for(
        recipe.training.devices,
        recipe.images_per_step,
        num_neighbors=in_group,
        accumulate=recipe.training.accumulate,
        jit=recipe.training.jit,
    )
    with trial(dry_run):
        catalog = catalog or open_catalog(data_dir=data_dir, download=download, **recipe.data.model_dump())
    keras.utils.set_random_seed(recipe.seed)
    if recipe.training.deterministic:
        tf.config.experimental.enable_op_determinism()

    steps = training_data(recipe, catalog).batches.steps_per_epoch
    devices = f", on {replicas} devices" if (replicas := strategy.num_replicas_in_sync) > 1 else ""
    describe_run(
        console,
        catalog,
        title=recipe.name,
        about=recipe.about,
        with_labels=recipe.learns_from_labels,
        network=f"{recipe.model.backbone}, {recipe.embedding}",
        training=f"{recipe.training.epochs} epochs of {steps} steps, each of {recipe.images_per_step} images in "
        f"{recipe.views.num_views} views{devices}",
    )
    if dry_run:
        catalog = catalog.few(recipe.batch.size)
    listed, progress_of_set = catalog, partial(inspection_progress, console=console)
    catalog, unreadable = readable_catalog(catalog, keep_train=recipe.training.cache_images, progress=progress_of_set)
    train_images, batches, searched, labels, num_classes = training_data(recipe, catalog)
    test_images, num_queries = catalog.test_set()
    seen = ""
    if not dry_run:
        folder.open(recipe, overwrite=overwrite, resume=resume)
        seen = require_same_images(folder, listed, resume=resume, progress=progress_of_set)
        folder.write_unreadable((bad.path, bad.reason) for bad in unreadable)
    left_out = [bad.index for bad in unreadable]
    require_same(strategy, recipe=recipe.model_dump(), images=[seen, left_out])

    with strategy.scope(), trial(dry_run) as left_undone:
        model = build_model(recipe, steps_per_epoch=batches.steps_per_epoch, num_classes=num_classes)
    embed_f, embed_g = (embedder(model.student, output, strategy) for output in (0, 1))
    views_of = partial(fixed_views, recipe)
    neighbors = NeighborBatchesCallback(
        lambda: embed(embed_g, views_of(searched), count=len(searched), normalize=False),
        batches.batches,
        num_neighbors=batches.num_neighbors,
    )
    batches_from = partial(
        training_batches,
        train_images,
        neighbors.current,
        steps_per_epoch=batches.steps_per_epoch,
        batch_size=batches.batch_size,
        num_views=recipe.views.num_views,
        view=partial(random_view, **recipe.views.model_dump(exclude={"num_views"})),
        preprocess=preprocessing(recipe.model.backbone),
        seed=recipe.seed,
        labels=labels,
    )
    own_batches_from = partial(batches_from, part=worker())
    if dry_run:
        one_batch = distribute_batches(own_batches_from().take(1), strategy)
        fit_from(model, lambda: one_batch, epochs=1, callbacks=[neighbors, StopOnNonFinite()])
        for what in left_undone:
            say(console, f"Training would {what}.")
        say(console, "Dry run: one step was taken, nothing was written.")
        return folder.path

    def test_embeddings() -> np.ndarray:
        return embed(embed_f, views_of(test_images), count=len(test_images), normalize=recipe.evaluation.normalize)

    def measure(embeddings: np.ndarray) -> dict[str, float]:
        evaluation = recipe.evaluation
        return query_gallery_metrics(
            embeddings,
            test_images.labels,
            num_queries=num_queries,
            recall_at=evaluation.recall_at,
            nmi=evaluation.nmi,
        )

    def measure_epoch() -> dict[str, float]:
        retrieval = measure(test_embeddings()) if test_images else {}
        if train_images.labels is None or not isinstance(model, SelfTaughtModel):
            return retrieval
        agreement = mean_agreement(
            lambda views, image_ids: model.pseudo_labels(views, image_ids).combined,
            batches_from().take(AGREEMENT_BATCHES),
            train_images.labels,
        )
        return retrieval if agreement is None else {**retrieval, "agreement": agreement}

    kept = Checkpoints(folder.checkpoints)
    checkpoint = kept.latest() if resume else None
    require_same(strategy, run_folder=[checkpoint and checkpoint.path.name, folder.remembers("before_training")])
    results: dict[str, dict[str, float]] = {}
    if test_images:
        before = folder.remember("before_training", test_embeddings)
        results["raw pixels"] = measure(raw_pixels(views_of(test_images), count=len(test_images)))
        results["before training"] = measure(before)

    summaries, stop = Summaries(folder.tensorboard if is_chief() else None), StopSignals(sum_over_workers(strategy))
    checkpoints = CheckpointCallback(
        kept,
        neighbors,
        stop=stop,
        every=recipe.training.checkpoint_steps,
        write=is_chief(),
        num_classes=num_classes,
    )
    if checkpoint:
        checkpoints.resume(model, checkpoint)
        say(console, f"Going on from {checkpoint.path}")
    else:
        summaries.text("recipe", f"```json\n{recipe.model_dump_json(indent=2)}\n```", step=0)
    with stop, ProgressCallback(images_per_batch=batches.batch_size, console=console) as progress:
        fit_from(
            model,
            lambda **at: distribute_batches(own_batches_from(**at), strategy),
            epoch=checkpoints.epoch,
            first_batch=checkpoints.batch,
            epochs=recipe.training.epochs,
            callbacks=[
                StopOnNonFinite(),
                neighbors,
                MeasureCallback(measure_epoch),
                TensorBoardScalars(summaries),
                progress,
                checkpoints,
            ],
        )

    after = test_embeddings() if test_images else None  # the last work that workers share
    if not is_chief():
        require_same(strategy)  # waits until the first one has written everything
        return folder.path
    if test_images:
        results["after training"] = measure(after)
        figure = learning_figure(
            partial(pixels_of, test_images), test_images.labels, before=before, after=after, seed=recipe.seed
        )
        folder.picture.write_bytes(picture := figure_to_png(figure))
        summaries.image("retrieval", picture, step=recipe.training.epochs)
        console.print(metrics_table(results, title=f"Retrieval among {len(test_images)} test images"))
    else:
        console.print("There are no test images, so the network could not be evaluated: give data.test a folder.")
    summaries.close()
    saved_model = export_student(recipe, model.student, saved_models / recipe.name, results.get("after training", {}))
    folder.write_metrics({"evaluated": recipe.embedding, **results, **epochs_report(checkpoints.history)})
    require_same(strategy)
    made = {
        "Run folder": f"{folder.path}  (recipe.json, metrics.json, checkpoints/, tensorboard/)",
        **({"Picture": f"{folder.picture}  (queries and their neighbours before and after)"} if test_images else {}),
        "SavedModel": saved_model,
        "Watch": f"tensorboard --logdir {folder.tensorboard}",
    }
    for what, where in made.items():
        say(console, f"{what:<11} {where}")
    return folder.path
