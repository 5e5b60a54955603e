"""The compiled model of a recipe, built as the register of methods says."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import keras
import tensorflow as tf

from stml_tf import registry
from stml_tf.distribution.processor import has_gpu, quick_precision
from stml_tf.errors import UserError
from stml_tf.losses import build_loss
from stml_tf.methods import StudentTeacherModel
from stml_tf.models import computing_in, trains_single_channels
from stml_tf.optimizers import EpochSchedule
from stml_tf.optimizers.by_name import build_optimizer
from stml_tf.recipe.recipe import Recipe
from stml_tf.registry import Method, resolve


def build_model(recipe: Recipe, *, steps_per_epoch: int = 1, num_classes: int | None = None) -> StudentTeacherModel:
    """Build and compile the model of a recipe, with random or pretrained weights.

    Call it in the scope of the strategy that the model is trained with.

    Args:
        recipe: The recipe.
        steps_per_epoch: Number of optimizer steps in an epoch.
        num_classes: Number of classes that the model learns from, if any.

    Returns:
        The model of the recipe's method.

    Raises:
        UserError: If the method, its loss, optimizer or backbone cannot be built as the recipe says.
    """
    method = registry.methods.find(recipe.method)
    precision, student = _student_in_its_precision(method, recipe)
    with computing_in(precision):
        loss = _supervised_loss(recipe, num_classes) if method.learns_from_labels else None
        from_run = {"steps_per_epoch": steps_per_epoch, "supervised_loss": loss}
        model = resolve(method.build)(
            student, **_values(method.reads, recipe, from_run), **method.options, **recipe.method_options
        )

    def optimizer(learning_rate: float) -> keras.optimizers.Optimizer:
        settings = recipe.optimizer
        schedule = EpochSchedule(
            learning_rate,
            epochs=recipe.training.epochs,
            steps_per_epoch=steps_per_epoch,
            **recipe.schedule.model_dump(),
        )
        return build_optimizer(
            settings.name, learning_rate=schedule, weight_decay=settings.weight_decay, options=settings.options
        )

    head_rate = recipe.optimizer.head_learning_rate
    model.compile(
        optimizer(recipe.optimizer.learning_rate),
        head_optimizer=None if head_rate is None else optimizer(head_rate),
        # A method from outside the package need not take it.
        **({"layer_decay": recipe.optimizer.layer_decay} if recipe.optimizer.layer_decay < 1 else {}),
        jit_compile=recipe.training.jit,
    )
    return model


def _student_in_its_precision(method: Method, recipe: Recipe) -> tuple[str, keras.Model]:
    """Build the student in the recipe's precision, or the one that trains it fastest without harm; return both."""
    precision = recipe.training.precision
    if precision == "auto":
        # From scratch, bfloat16 costs more R@1 than another seed does: recipes/README.md.
        precision = quick_precision() if recipe.model.weights else "float32"
        with computing_in(precision):
            student = _build_student(method, recipe)
        if precision == "float32" or has_gpu() or not trains_single_channels(student):
            return precision, student
        precision = "float32"  # Only the network tells, so it is built again.
    with computing_in(precision):
        return precision, _build_student(method, recipe)


def _build_student(method: Method, recipe: Recipe) -> keras.Model:
    network = recipe.model.model_dump(exclude={"teacher_dim", "head", "rewhiten"})
    # On a single device the two kinds of BatchNorm only round differently, and the plain one is faster.
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    network["synchronize_batch_norm"] = several and network["synchronize_batch_norm"]
    return resolve(method.student)(**network, **_values(method.student_reads, recipe, {}), **method.student_options)


def _supervised_loss(recipe: Recipe, num_classes: int | None) -> Any:
    supervision = recipe.supervision
    return build_loss(supervision.loss, num_classes=num_classes, dim=recipe.model.embedding_dim, **supervision.options)


def _values(reads: Mapping[str, str], recipe: Recipe, from_run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each argument, from the recipe or from what only the run knows."""

    def value_at(key: str) -> Any:
        if key.startswith("run."):
            return from_run[key.removeprefix("run.")]
        return reduce(getattr, key.split("."), recipe)

    try:
        return {argument: value_at(key) for argument, key in reads.items()}
    except (AttributeError, KeyError) as error:
        raise UserError(
            f'The method "{recipe.method}" reads something that no recipe has: {error}. Fix its `reads`.'
        ) from error
