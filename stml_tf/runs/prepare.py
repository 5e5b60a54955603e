"""Preparation of a run: everything that it consists of, made from a recipe before the first step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from stml_tf.data.bit_depth import bits_used
from stml_tf.data.cache import cache_in_memory, cache_on_disk, sufficient_side
from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.image_files import Unreadable, counted, listed
from stml_tf.data.inspection import readable_catalog
from stml_tf.data.loader import training_batches
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.data.transforms import random_view
from stml_tf.distribution.devices import of_chief, strategy_for
from stml_tf.distribution.workers import is_chief
from stml_tf.dry_run import trial
from stml_tf.errors import UserError
from stml_tf.fitting.callbacks import NeighborBatchesCallback
from stml_tf.fitting.rewhitening import FeaturesOfStep, RewhitenCallback, apply_head
from stml_tf.methods import StudentTeacherModel
from stml_tf.models import preprocessing
from stml_tf.models.heads import AUXILIARY_HEAD, EMBEDDING_HEAD
from stml_tf.models.student import brings_heads
from stml_tf.monitoring import Display, describe_run, say, where_listed
from stml_tf.monitoring.trackers import TRACKERS
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.barriers import wait_until_all_have_read_the_same
from stml_tf.runs.embed import AUXILIARY, embed_images, feature_network, student_network
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.model import build_model
from stml_tf.runs.open_data import listing_all, open_data
from stml_tf.runs.same_images import require_same_images
from stml_tf.runs.training_data import TrainingData, training_data


@dataclass(frozen=True, eq=False)
class Run:
    """A training run, ready to begin.

    Attributes:
        recipe: The recipe.
        folder: The run folder.
        data: The images to train on, with their labels and batches.
        test: The test images, queries before gallery; None if there are none.
        num_queries: Number of queries among the test images; None if each searches all others.
        strategy: The devices to run on.
        model: The compiled model.
        neighbors: The callback that draws the batches of each epoch.
        rewhiten: The callback that fits the heads again after each epoch; None if the recipe has none.
        console: Where to print.
        display: Shows what it is doing.
    """

    recipe: Recipe
    folder: RunFolder
    data: TrainingData
    test: ImageSet | None
    num_queries: int | None
    strategy: tf.distribute.Strategy
    model: StudentTeacherModel
    neighbors: NeighborBatchesCallback
    rewhiten: RewhitenCallback | None
    console: Console
    display: Display

    @cached_property
    def embedding_network(self) -> Callable[[Any], tf.Tensor]:
        """A function from preprocessed images to embeddings `[batch, dim]` float32, not normalised."""
        return student_network(self.model.student, strategy=self.strategy)

    def batches(self, *, first_batch: int = 0, part: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """Return the batches that `neighbors` has drawn for the epoch.

        Args:
            first_batch: Number of batches to skip.
            part: Index of this worker and number of workers, which divide each batch.
        """
        return training_batches(
            self.data.images,
            self.neighbors.current,
            steps_per_epoch=self.data.batches.steps_per_epoch,
            batch_size=self.data.batches.batch_size,
            num_views=self.recipe.views.num_views,
            view=partial(random_view, **self.recipe.views.model_dump(exclude={"num_views"})),
            preprocess=preprocessing(self.recipe.model.backbone),
            seed=self.recipe.seed,
            labels=self.data.labels,
            first_batch=first_batch,
            part=part,
        )


def prepare(
    recipe: Recipe,
    *,
    catalog: Catalog | None = None,
    data_dir: Path | None = None,
    download: bool = False,
    run_dir: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
) -> Run:
    """Find devices, images and batches, build the model, and make the run folder.

    Args:
        recipe: The recipe.
        catalog: The recipe's data, if they have been opened already.
        data_dir: Folder that the recipe's data paths start from.
        download: Whether TensorFlow Datasets may download missing data.
        run_dir: The run folder; `runs/NAME` by default.
        overwrite: Whether to replace a run in the folder.
        resume: Whether to keep a run in the folder, to resume it.
        dry_run: Whether to use only a few images, and write nothing.
        console: Where to print; the terminal by default.

    Returns:
        The run, ready to begin.

    Raises:
        UserError: If the run folder is in use, the data are missing or too few, or the devices do not exist or cannot
            divide a batch evenly.
        DryRunStopped: If a dry run would have to extract or download the data first.
    """
    if recipe.model.rewhiten is not None and brings_heads(recipe.model.weights):
        raise UserError(
            f"model.rewhiten: {recipe.model.rewhiten} given; allowed: null with {recipe.model.weights}, which holds "
            "heads that have learned and would be replaced after the first epoch"
        )
    console = console or Console(quiet=not is_chief())
    folder = RunFolder(run_dir or Path("runs") / recipe.name, write=is_chief())
    if not dry_run:
        folder.check(recipe, overwrite=overwrite, resume=resume)
    # Workers wait for each other here, so all of them have seen the run folder as it was.
    strategy = _strategy(recipe)
    for name in recipe.training.log_to if is_chief() else ():
        TRACKERS[name].require()
    catalog = catalog or open_data(recipe, folder, data_dir=data_dir, download=download, dry_run=dry_run)
    keras.utils.set_random_seed(recipe.seed)
    if recipe.training.deterministic:
        tf.config.experimental.enable_op_determinism()
    _describe(recipe, catalog, strategy, console, dry_run=dry_run)
    if dry_run:
        catalog = catalog.few(recipe.batch.size)
    display = Display(console)
    as_listed, progress = catalog, partial(display.doing, "checking images")
    with listing_all(folder, dry_run=dry_run):
        catalog, unreadable = readable_catalog(catalog, cache=_cache(recipe), progress=progress)
    if unreadable:
        say(console, f"Unreadable  {counted(unreadable)} ({where_listed('unreadable.txt', dry_run=dry_run)})")
    _warn_of_unused_bits(as_listed.train, console)
    data = training_data(recipe, catalog)
    test, num_queries = catalog.test_set()
    # Before anything is written, so that a model that cannot be built leaves no folder behind.
    with strategy.scope(), trial(dry_run) as left_undone:
        model = build_model(recipe, steps_per_epoch=data.batches.steps_per_epoch, num_classes=data.num_classes)
    for what in left_undone:
        say(console, f"Training would {what}.")
    seen = ""
    if not dry_run:
        folder.open(recipe, overwrite=overwrite, resume=resume)
        seen = require_same_images(folder, as_listed, resume=resume, progress=progress)
        folder.write_lists(
            unreadable=listed(unreadable), left_out=listed(catalog.left_out), leaks=listed(catalog.leaks)
        )
    wait_until_all_have_read_the_same(
        strategy,
        recipe=recipe.model_dump(),
        images=[seen, [bad.index for bad in unreadable]],
    )
    rewhiten = _rewhiten(recipe, data, model, strategy, display) if recipe.model.rewhiten is not None else None
    return Run(
        recipe=recipe,
        folder=folder,
        data=data,
        test=test,
        num_queries=num_queries,
        strategy=strategy,
        model=model,
        neighbors=_neighbors(recipe, data, model, strategy, display, rewhiten),
        rewhiten=rewhiten,
        console=console,
        display=display,
    )


def images_of_recipe(
    recipe: Recipe, catalog: Catalog | None = None, *, data_dir: Path | None = None, download: bool = False
) -> ImageSet:
    """List the images that a recipe trains on; see `prepare` for the arguments."""
    catalog = catalog or open_catalog(data_dir=data_dir, download=download, **recipe.data.model_dump())
    return training_data(recipe, catalog).images


def _warn_of_unused_bits(images: ImageSet, console: Console) -> None:
    used, assumed = bits_used(images), images.decoding.bit_depth
    if used is not None and used < assumed:
        say(
            console,
            f"Data      16-bit images seem to use only {used} bits, but are read as {assumed}, which makes them dark: "
            f"set data.bit_depth to {used}",
        )


def _cache(recipe: Recipe) -> Callable[..., tuple[ImageSet, list[Unreadable]]] | None:
    """Return the function that keeps decoded training images, as the recipe says; None for none."""
    if recipe.training.cache is None:
        return None
    cache = {"memory": cache_in_memory, "disk": cache_on_disk}[recipe.training.cache]
    for_views = sufficient_side(recipe.views.size, recipe.views.crop_scale[0])
    for_search = recipe.evaluation.resize or recipe.evaluation.size or recipe.views.size
    return partial(cache, shorter_side=max(for_views, for_search))


def _strategy(recipe: Recipe) -> tf.distribute.Strategy:
    # Behind labelled images, devices may split groups of neighbours: losses are computed over all images anyway.
    in_group = 1 if recipe.learns_from_labels else recipe.sampling.num_neighbors
    return strategy_for(
        recipe.training.devices,
        recipe.images_per_step,
        num_neighbors=in_group,
        accumulate=recipe.training.accumulate,
        jit=recipe.training.jit,
    )


def _rewhiten(
    recipe: Recipe, data: TrainingData, model: StudentTeacherModel, strategy: tf.distribute.Strategy, display: Display
) -> RewhitenCallback:
    network = feature_network(model.student, strategy)

    def compute() -> np.ndarray:
        with display.doing("embedding images to whiten their features", len(data.searched)) as work:
            return embed_images(recipe, network, data.searched, normalize=False, on_progress=work)

    features = FeaturesOfStep(compute, lambda: int(model.optimizer.iterations.numpy()))
    heads = [model.student.get_layer(EMBEDDING_HEAD)]
    heads += [network.get_layer(AUXILIARY_HEAD) for network in (model.student, model.teacher)]
    return RewhitenCallback(features, heads, power=recipe.model.rewhiten, shared=partial(of_chief, strategy))


def _neighbors(
    recipe: Recipe,
    data: TrainingData,
    model: StudentTeacherModel,
    strategy: tf.distribute.Strategy,
    display: Display,
    rewhiten: RewhitenCallback | None,
) -> NeighborBatchesCallback:
    network = student_network(model.student, AUXILIARY, strategy)

    def embed() -> np.ndarray:
        if rewhiten:  # its features serve here as well, always: a resumed run must find the same neighbours
            return apply_head(model.student.get_layer(AUXILIARY_HEAD), rewhiten.features())
        with display.doing("embedding images to find their neighbours", len(data.searched)) as work:
            return embed_images(recipe, network, data.searched, normalize=False, on_progress=work)

    return NeighborBatchesCallback(
        embed,
        data.batches.batches,
        num_neighbors=data.batches.num_neighbors,
    )


def _describe(
    recipe: Recipe, catalog: Catalog, strategy: tf.distribute.Strategy, console: Console, *, dry_run: bool
) -> None:
    steps = training_data(recipe, catalog).batches.steps_per_epoch
    devices = f", on {replicas} devices" if (replicas := strategy.num_replicas_in_sync) > 1 else ""
    describe_run(
        console,
        catalog,
        title=recipe.name,
        about=recipe.about,
        with_labels=recipe.learns_from_labels,
        dry_run=dry_run,
        network=f"{recipe.model.backbone}, {recipe.embedding}",
        training=f"{recipe.training.epochs} epochs of {steps} steps, each of {recipe.images_per_step} images in "
        f"{recipe.views.num_views} views{devices}",
    )
