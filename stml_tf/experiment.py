"""From a recipe to a trained, measured and exported network. Reads from top to bottom."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from stml_tf.data.batching import NeighborBatches
from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.datasets import open_catalog
from stml_tf.data.inspection import Unreadable, inspect_images, leave_out
from stml_tf.data.loader import evaluation_batches, pixels_of, training_batches
from stml_tf.data.transforms import evaluation_view, random_view
from stml_tf.evaluation import embed, raw_pixels, retrieval_metrics
from stml_tf.methods import build_model
from stml_tf.models import preprocessing
from stml_tf.monitoring import (
    ProgressCallback,
    Summaries,
    TensorBoardScalars,
    figure_to_png,
    inspection_progress,
    learning_figure,
    metrics_table,
    pseudo_label_agreement,
)
from stml_tf.recipe import Recipe
from stml_tf.run_folder import RunFolder
from stml_tf.serving.export import export_saved_model
from stml_tf.training import SelfTaughtModel, StudentTeacherModel
from stml_tf.training.callbacks import (
    CheckpointCallback,
    MeasureCallback,
    NeighborBatchesCallback,
    StopOnNonFinite,
)
from stml_tf.training.checkpoints import Checkpoints

EMBEDDING_BATCH = 256
AGREEMENT_BATCHES = 3


def train(
    recipe: Recipe,
    *,
    data_dir: Path | None = None,
    catalog: Catalog | None = None,
    run_dir: Path | None = None,
    saved_models: Path = Path("saved_models"),
    overwrite: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
) -> Path:
    """Train, measure and export what a recipe says.

    Args:
        recipe: What to do.
        data_dir: Where the recipe's data paths start from.
        catalog: Images of your own making, in place of the recipe's data.
        run_dir: Folder of the run; `runs/NAME` by default.
        saved_models: Where the SavedModel goes, under the recipe's name.
        overwrite: Replace a run that is in the folder.
        dry_run: Take one step on a few images, write nothing.
        console: Where to print; the terminal by default.

    Returns:
        The run folder.

    Raises:
        ValueError: If the run folder holds something, or the data are missing, too few or unreadable.
        TrainingStopped: If the loss is no longer a number.
    """
    console = console or Console()
    folder = RunFolder(run_dir or Path("runs") / recipe.name)
    if not (overwrite or dry_run):
        folder.refuse_existing()
    catalog = catalog or open_catalog(data_dir=data_dir, **recipe.data.model_dump())
    keras.utils.set_random_seed(recipe.seed)

    _describe(console, recipe, catalog)
    if dry_run:
        catalog = _few(catalog, recipe.batch.size)
    train_images, unreadable_train = _readable(catalog.train, console, keep=recipe.training.cache_images)
    test_images, unreadable_test = _readable(catalog.test, console, keep=True) if catalog.test else (None, [])
    batches = NeighborBatches(
        len(train_images),
        batch_size=recipe.batch.size,
        num_neighbors=recipe.sampling.num_neighbors,
        seed=recipe.seed,
        coverage=recipe.sampling.coverage,
    )
    if not dry_run:
        folder.create(recipe, overwrite=overwrite)
        folder.write_unreadable((bad.path, bad.reason) for bad in (*unreadable_train, *unreadable_test))

    model = build_model(recipe, steps_per_epoch=batches.steps_per_epoch)
    embed_f, embed_g = (embedder(model.student, output) for output in (0, 1))
    views_of = partial(fixed_views, recipe)
    neighbors = NeighborBatchesCallback(
        lambda: embed(embed_g, views_of(train_images), count=len(train_images), normalize=False),
        batches.batches,
        num_neighbors=recipe.sampling.num_neighbors,
    )
    dataset = training_batches(
        train_images,
        neighbors.current,
        steps_per_epoch=batches.steps_per_epoch,
        batch_size=recipe.batch.size,
        num_views=recipe.views.num_views,
        view=partial(random_view, **recipe.views.model_dump(exclude={"num_views"})),
        preprocess=preprocessing(recipe.model.backbone),
        seed=recipe.seed,
    )
    if dry_run:
        model.fit(dataset, epochs=1, shuffle=False, verbose=0, callbacks=[neighbors, StopOnNonFinite()])
        console.print("Dry run: one step was taken, nothing was written.")
        return folder.path

    def test_embeddings() -> np.ndarray:
        return embed(embed_f, views_of(test_images), count=len(test_images), normalize=recipe.evaluation.normalize)

    def measure(embeddings: np.ndarray) -> dict[str, float]:
        evaluation = recipe.evaluation
        return retrieval_metrics(embeddings, test_images.labels, recall_at=evaluation.recall_at, nmi=evaluation.nmi)

    def measure_epoch() -> dict[str, float]:
        retrieval = measure(test_embeddings()) if test_images else {}
        return {**retrieval, **_agreement(model, dataset, train_images.labels)}

    results: dict[str, dict[str, float]] = {}
    if test_images:
        before = test_embeddings()
        results["raw pixels"] = measure(raw_pixels(views_of(test_images), count=len(test_images)))
        results["before training"] = measure(before)

    checkpoints = Checkpoints(folder.checkpoints)
    summaries = Summaries(folder.tensorboard)
    summaries.text("recipe", f"```json\n{recipe.model_dump_json(indent=2)}\n```", step=0)
    with ProgressCallback(images_per_batch=recipe.batch.size, console=console) as progress:
        history = model.fit(
            dataset,
            epochs=recipe.training.epochs,
            shuffle=False,  # the batches come in an order of their own
            verbose=0,
            callbacks=[
                StopOnNonFinite(),
                neighbors,
                MeasureCallback(measure_epoch),
                CheckpointCallback(checkpoints),
                TensorBoardScalars(summaries),
                progress,
            ],
        ).history

    if test_images:
        after = test_embeddings()
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
    folder.write_metrics({"evaluated": recipe.embedding, **results, **_by_epoch(history)})
    saved_model = export_student(recipe, model.student, saved_models / recipe.name, results.get("after training", {}))
    _name_what_was_made(console, folder, saved_model, pictured=test_images is not None)
    return folder.path


def embedder(student: keras.Model, output: int = 0) -> Callable[[Any], tf.Tensor]:
    """The student's embedding (output 0) or `g` (output 1) of preprocessed images, as a compiled function."""
    return tf.function(lambda images: student(images, training=False)[output], reduce_retracing=True)


def fixed_views(recipe: Recipe, images: ImageSet) -> tf.data.Dataset:
    """One preprocessed view of every image, as evaluation and neighbour search see it."""
    size = recipe.evaluation.size or recipe.views.size
    return evaluation_batches(
        images,
        batch_size=EMBEDDING_BATCH,
        view=partial(evaluation_view, size=size, resize=recipe.evaluation.resize),
        preprocess=preprocessing(recipe.model.backbone),
    )


def export_student(recipe: Recipe, student: keras.Model, out: Path, metrics: dict[str, float]) -> Path:
    """Write the student as the next version of a SavedModel; returns the version's folder."""
    return export_saved_model(
        student,
        out,
        size=recipe.evaluation.size or recipe.views.size,
        resize=recipe.evaluation.resize,
        preprocess=preprocessing(recipe.model.backbone),
        metadata={
            "name": recipe.name,
            "about": recipe.about,
            "data": recipe.data.model_dump_json(),
            "recipe": recipe.model_dump(mode="json"),
            "metrics": metrics,
        },
    )


def _few(catalog: Catalog, count: int) -> Catalog:
    """The first images alone, enough for a step."""

    def first(images: ImageSet) -> ImageSet:
        return images.take(range(min(count, len(images))))

    return Catalog(catalog.name, first(catalog.train), catalog.test and first(catalog.test))


def _readable(images: ImageSet, console: Console, *, keep: bool) -> tuple[ImageSet, list[Unreadable]]:
    """The images that can be decoded, decoded already where memory is to hold them, and those left out."""
    with inspection_progress(len(images), console) as on_progress:
        found = inspect_images(images, keep=keep, on_progress=on_progress)
    readable = leave_out(images, found.unreadable)
    return (replace(readable, images=found.decoded) if keep else readable), found.unreadable


def _agreement(model: StudentTeacherModel, dataset: tf.data.Dataset, labels: np.ndarray | None) -> dict[str, float]:
    """How well the teacher's pseudo labels agree with the true classes, where these are known."""
    if labels is None or not isinstance(model, SelfTaughtModel):
        return {}
    scores = []
    for views, image_ids in dataset.take(AGREEMENT_BATCHES):
        rows = np.repeat(image_ids, views.shape[1])
        similarity = model.pseudo_labels(views, image_ids).combined
        scores.append(pseudo_label_agreement(similarity, labels[rows], rows))
    found = [score for score in scores if not np.isnan(score)]
    return {"agreement": float(np.mean(found))} if found else {}


def _by_epoch(history: dict[str, Sequence[float]]) -> dict[str, Any]:
    """What each epoch logged, and which was best. The test classes chose that one: it is no fair result."""
    epochs = [
        {"epoch": number, **{name: float(value) for name, value in zip(history, values, strict=True)}}
        for number, values in enumerate(zip(*history.values(), strict=True), start=1)
    ]
    if "recall@1" not in history:
        return {"epochs": epochs}
    best = max(epochs, key=lambda epoch: epoch["recall@1"])
    return {"best epoch, chosen on the test classes": best, "epochs": epochs}


def _describe(console: Console, recipe: Recipe, catalog: Catalog) -> None:
    tested = "no test images"
    if catalog.test:
        tested = f"{len(catalog.test):,} test images of {len(np.unique(catalog.test.labels)):,} other classes"
    steps = len(catalog.train) // recipe.batch.size
    console.print(
        f"[bold]{recipe.name}[/bold]  {recipe.about}\n"
        f"Data      {catalog.name}: {len(catalog.train):,} training images without labels, {tested}\n"
        f"Network   {recipe.model.backbone}, {recipe.embedding}\n"
        f"Training  {recipe.training.epochs} epochs of {steps} steps, each of {recipe.batch.size} images in "
        f"{recipe.views.num_views} views",
        highlight=False,
        soft_wrap=True,
    )


def _name_what_was_made(console: Console, folder: RunFolder, saved_model: Path, *, pictured: bool) -> None:
    console.print(f"Run folder  {folder.path}  (recipe.json, metrics.json, checkpoints/, tensorboard/)", soft_wrap=True)
    if pictured:
        console.print(f"Picture     {folder.picture}  (queries and their neighbours before and after)", soft_wrap=True)
    console.print(f"SavedModel  {saved_model}", soft_wrap=True)
    console.print(f"Watch       tensorboard --logdir {folder.tensorboard}", soft_wrap=True)
