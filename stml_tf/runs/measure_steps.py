"""Takes a few training steps, to tell what an epoch takes; nothing is written."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from stml_tf.data.catalog import Catalog
from stml_tf.distribution.devices import distribute_batches
from stml_tf.distribution.workers import worker
from stml_tf.fitting.resumable_fit import fit_from
from stml_tf.fitting.speed_callback import peak_memory
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.embed import embed_images
from stml_tf.runs.prepare import prepare
from stml_tf.runs.sample import LARGEST
from stml_tf.runs.training_data import training_data

NUM_STEPS = 10


@dataclass(frozen=True)
class MeasuredSteps:
    """The time and memory that training steps take.

    Attributes:
        devices: On which the steps were taken.
        step_seconds: Median of the steps after the first, in which the graph is built.
        images_per_second: Training images, each in all its views.
        steps_per_epoch: How many an epoch has.
        epoch_seconds: An epoch, estimated: its steps, and what is embedded once in it: the images among which
            neighbours are found, the test images, and two views of the images on which health is measured.
        epochs: How many the recipe has.
        on_gpu: Whether memory is that of the first GPU, else of this process.
        memory: Bytes at most, all that came before the steps included.
        memory_there: Bytes that there are.
    """

    devices: str
    step_seconds: float
    images_per_second: float
    steps_per_epoch: int
    epoch_seconds: float
    epochs: int
    on_gpu: bool
    memory: int | None
    memory_there: int | None

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield what is told of them, each with its heading; and what is not in the numbers."""
        yield "Devices", self.devices
        if self.memory is not None:
            there = f" of {self.memory_there / 2**30:.1f}" if self.memory_there else ""
            whole = "" if self.on_gpu else ", with TensorFlow and all that was done before"
            yield "Memory", f"{self.memory / 2**30:.1f}{there} GiB at most in ten steps{whole}"
        every = f"{self.epochs:,} epoch{'s' * (self.epochs != 1)} about {_duration(self.epochs * self.epoch_seconds)}"
        yield (
            "Time",
            f"{1000 * self.step_seconds:,.0f} ms a step, {self.images_per_second:,.0f} images/s; an epoch of "
            f"{self.steps_per_epoch:,} step{'s' * (self.steps_per_epoch != 1)} about {_duration(self.epoch_seconds)}, "
            f"{every}",
        )
        yield (
            "",
            "while this machine is as busy as now, and without what is measured before the first epoch and at the end",
        )


def measure_steps(recipe: Recipe, catalog: Catalog, *, num_steps: int = NUM_STEPS) -> MeasuredSteps:
    """Train for some steps on a few images, with the recipe's batches and views.

    Args:
        recipe: The recipe.
        catalog: Its data, all readable.
        num_steps: Steps to measure, after a first one that builds the graph.

    Raises:
        UserError: If the model cannot be built, or the devices are not there or cannot divide a batch evenly.
    """
    run = prepare(recipe, catalog=catalog, dry_run=True, console=Console(quiet=True))
    clock = _Clock()
    # The few images fill one batch, which comes again and again; its views are made anew each time, as in training.
    batches = run.batches(part=worker()).repeat(1 + num_steps).prefetch(2)
    fit_from(run.model, lambda: distribute_batches(batches, run.strategy), epochs=1, callbacks=[run.neighbors, clock])
    step = median(clock.seconds[1:])
    data = training_data(recipe, catalog)
    embedded = len(data.searched) * (data.batches.num_neighbors > 1) + 2 * min(len(data.images), LARGEST)
    embedded += len(catalog.test or ()) + len(catalog.gallery or ())
    memory, there = _memory()
    return MeasuredSteps(
        devices=_devices(run.strategy),
        step_seconds=step,
        images_per_second=recipe.images_per_step / step,
        steps_per_epoch=data.batches.steps_per_epoch,
        epoch_seconds=data.batches.steps_per_epoch * step + embedded * _seconds_per_embedding(run),
        epochs=recipe.training.epochs,
        on_gpu=bool(tf.config.list_logical_devices("GPU")),
        memory=memory,
        memory_there=there,
    )


class _Clock(keras.callbacks.Callback):
    """Takes the time from step to step, waiting for data included."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._last = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        float(logs["loss"])  # waits for the device
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else str(timedelta(seconds=round(seconds)))


def _seconds_per_embedding(run: Any) -> float:
    def embed() -> float:
        started = time.perf_counter()
        embed_images(run.recipe, run.embedding_network, run.data.images, normalize=False)
        return (time.perf_counter() - started) / len(run.data.images)

    embed()  # builds the graph
    return embed()


def _devices(strategy: tf.distribute.Strategy) -> str:
    gpus = tf.config.list_logical_devices("GPU")
    if not gpus:
        return f"CPU, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    name = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0]).get("device_name")
    return f"{strategy.num_replicas_in_sync} of {len(gpus)} GPUs, {name or 'GPU'}"


def _memory() -> tuple[int | None, int | None]:
    """Return the peak memory so far and the total, of the first GPU or of this process and machine."""
    if tf.config.list_logical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"], None
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return peak_memory(), there
