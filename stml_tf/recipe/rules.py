"""Rules that span several sections of a recipe.

Each rule yields a message for each conflict: the key, what was given, what is allowed, and why.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from stml_tf.errors import did_you_mean
from stml_tf.recipe.data import DataSection
from stml_tf.recipe.sections import (
    Baseline,
    Batch,
    Evaluation,
    Loss,
    Model,
    Optimizer,
    Sampling,
    Schedule,
    Section,
    Teacher,
    Training,
    Views,
)
from stml_tf.recipe.supervision import Supervision
from stml_tf.registry import Method, arguments_of, resolve

MAX_STEP_BYTES = 64 * 2**30  # of the views alone, as float32

# Keys that only some methods read: with any other method, a value other than the default is a misunderstanding.
_SECTIONS_OF_SOME_METHODS = {"loss": Loss, "teacher": Teacher, "baseline": Baseline, "supervision": Supervision}
_KEYS_OF_SOME_METHODS = (
    *(f"{name}.{key}" for name, section in _SECTIONS_OF_SOME_METHODS.items() for key in section.model_fields),
    *("model.teacher_dim", "model.head", "model.rewhiten", "sampling.coverage", "training.accumulate"),
)


def unread_keys(method: Method, sections: Mapping[str, Section]) -> Iterator[str]:
    """Yield the keys with a value other than the default that the method does not read."""
    for path in _KEYS_OF_SOME_METHODS:
        name, key = path.split(".")
        section = sections[name]
        default = type(section).model_fields[key].default
        if not method.reads_key(path) and (given := getattr(section, key)) != default:
            yield f"{path}: {json.dumps(given)} given; allowed: leave it out, as {method.name} does not read it"


def method_option_conflicts(method: Method, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the method options that the method does not take."""
    if not options:
        return
    taken = {*method.reads, *method.options, "student"}
    # Only what a plug-in registered takes options, and its module is imported already.
    allowed = arguments_of(resolve(method.build)) - taken if method.origin else set()
    for name in options:
        if name not in allowed:
            among = ", ".join(sorted(allowed)) or f"none, as {method.name} has no options"
            yield f"method_options.{name}: unknown key; allowed: {among}{did_you_mean(name, allowed)}"


def rewhitening_conflicts(
    method: Method, model: Model, optimizer: Optimizer, *, starts_whitened: bool
) -> Iterator[str]:
    """Yield a rewhitening of heads that do not start whitened, or that learn something else."""
    if model.rewhiten is None or not (method.trains and method.reads_key("model.rewhiten")):
        return
    if not starts_whitened:
        yield (
            f"model.rewhiten: {model.rewhiten} given; allowed: null where the heads start at random; give "
            'model.weights, or set model.head to "whitened"'
        )
    if optimizer.head_learning_rate != 0:
        yield (
            f"optimizer.head_learning_rate: {json.dumps(optimizer.head_learning_rate)} given; allowed: 0 with "
            "model.rewhiten, which replaces after each epoch what the heads have learned"
        )


def schedule_free_conflicts(optimizer: Optimizer, *, starts_whitened: bool) -> Iterator[str]:
    """Yield what an optimizer cannot do whose weights are an average that begins where it was built."""
    if optimizer.name != "schedulefreeadamw":
        return
    if starts_whitened:
        yield (
            'optimizer.name: "schedulefreeadamw" given; allowed with whitened heads: any other, as this one goes back '
            'to the heads from before they were whitened; or set model.head to "orthogonal"'
        )
    if optimizer.layer_decay < 1:
        yield (
            f'optimizer.layer_decay: {optimizer.layer_decay} given; allowed with "schedulefreeadamw": 1, as its steps '
            "are not proportional to its learning rate"
        )


def two_view_conflicts(method: Method, sampling: Sampling, views: Views) -> Iterator[str]:
    """Yield the values that a method comparing two views of single images cannot use."""
    if not method.two_views:
        return
    if sampling.num_neighbors != 1:
        yield (
            f"sampling.num_neighbors: {sampling.num_neighbors} given; allowed: 1, as {method.name} is trained on "
            "images in random order, without their neighbours"
        )
    if views.num_views != 2:
        yield (
            f"views.num_views: {views.num_views} given; allowed: 2, as {method.name} shows one view to the student and "
            "the other to the teacher"
        )


def memory_conflicts(method: Method, batch: Batch, baseline: Baseline) -> Iterator[str]:
    """Yield a memory that is too small for the batch or for the neighbours to find in it."""
    if not (method.reads_key("baseline.memory_size") and method.reads_key("baseline.top_k")):
        return
    least = max(batch.size, baseline.top_k)
    if baseline.memory_size < least:
        yield (
            f"baseline.memory_size: {baseline.memory_size} given; allowed: at least {least}, to hold the batch "
            "(batch.size) and the neighbours to find in it (baseline.top_k)"
        )


def neighbor_conflicts(batch: Batch, sampling: Sampling) -> Iterator[str]:
    """Yield a batch that cannot be filled with queries and their neighbours."""
    size, num_neighbors = batch.size, sampling.num_neighbors
    if num_neighbors > size:
        yield (
            f"sampling.num_neighbors: {num_neighbors} given; allowed: at most batch.size ({size}), as a query and its "
            "neighbours fill a batch"
        )
    elif size % num_neighbors:
        below = size - size % num_neighbors
        yield (
            f"batch.size: {size} given; allowed: a multiple of sampling.num_neighbors ({num_neighbors}), such as "
            f"{below} or {below + num_neighbors}"
        )


def label_conflicts(
    method: Method, data: DataSection, supervision: Supervision, batch: Batch, sampling: Sampling, training: Training
) -> Iterator[str]:
    """Yield the conflicts of a method that learns from labels."""
    size, num_neighbors, labeled = batch.size, sampling.num_neighbors, supervision.num_labeled
    if not data.has_labels:
        yield (
            f"data.train_labels: false given; allowed: true, as {method.name} learns from the classes of training "
            "images; or give data.train_classes"
        )
    product = (
        f"supervision.classes_per_batch: {supervision.classes_per_batch} given; allowed: such that, times "
        f"images_per_class ({supervision.images_per_class}), there are"
    )
    if method.learns_from == "labels":
        if labeled > size:
            yield f"{product} at most batch.size ({size}) labelled images in a batch, not {labeled}"
        return
    if not data.has_unlabeled:
        yield (
            "data.labeled_classes: null given; allowed: the share or the number of training classes that keep their "
            f"labels, as {method.name} needs unlabelled images too; or give data.labeled_fraction, or name other "
            "images in data.unlabeled"
        )
    if labeled >= size:
        yield f"{product} fewer labelled images than batch.size ({size}), not {labeled}: the others are unlabelled"
    elif (size - labeled) % num_neighbors:
        below = size - (size - labeled) % num_neighbors
        nearest = f"{below} or {below + num_neighbors}" if below > labeled else str(below + num_neighbors)
        yield (
            f"batch.size: {size} given; allowed: {labeled} labelled images (supervision.classes_per_batch times "
            f"images_per_class) and a multiple of sampling.num_neighbors ({num_neighbors}), such as {nearest}"
        )
    if supervision.warmup_epochs >= training.epochs:
        yield (
            f"supervision.warmup_epochs: {supervision.warmup_epochs} given; allowed: fewer than training.epochs "
            f"({training.epochs})"
        )


def step_conflicts(images_per_step: int, batch: Batch, data: DataSection, training: Training) -> Iterator[str]:
    """Yield a step that cannot be divided evenly, or a batch that is larger than the data."""
    if images_per_step % training.accumulate:
        yield (
            f"training.accumulate: {training.accumulate} given; allowed: a divisor of the {images_per_step} images of "
            "a step, as its pieces are equal"
        )
    num_images = data.num_train_images()
    if num_images is not None and batch.size > num_images:
        yield (
            f"batch.size: {batch.size} given; allowed: at most the {num_images} training images of data, so use "
            "smaller batches, or more classes or instances"
        )


def memory_of_a_step_conflicts(images_per_step: int, views: Views) -> Iterator[str]:
    """Yield views that are too large for the memory of any machine."""
    size = images_per_step * views.num_views * views.size**2 * 3 * 4
    if size > MAX_STEP_BYTES:
        yield (
            f"views.size: {views.size} given; allowed: so much that the {images_per_step} images of a step, in "
            f"{views.num_views} views each, take at most {MAX_STEP_BYTES // 2**30} GiB of memory, not "
            f"{size / 2**30:,.0f}; or lower batch.size"
        )


def schedule_conflicts(schedule: Schedule, training: Training) -> Iterator[str]:
    """Yield a warm-up that does not end before training does."""
    if schedule.warmup_epochs >= training.epochs:
        yield (
            f"schedule.warmup_epochs: {schedule.warmup_epochs} given; allowed: fewer than training.epochs "
            f"({training.epochs})"
        )


def evaluation_conflicts(evaluation: Evaluation, views: Views) -> Iterator[str]:
    """Yield a size to resize images to that is below the size to crop."""
    size = evaluation.size or views.size
    if evaluation.resize is not None and evaluation.resize < size:
        origin = "evaluation.size" if evaluation.size else "views.size"
        yield (
            f"evaluation.resize: {evaluation.resize} given; allowed: at least {origin} ({size}), the size of the crop"
        )
