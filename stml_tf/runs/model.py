"""The methods by name: from a recipe to its model, compiled."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from stml_tf.losses import build_loss
from stml_tf.methods import (
    BYOLModel,
    MeanShiftModel,
    MoCoModel,
    SelfTaughtModel,
    SemiSupervisedModel,
    StudentTeacherModel,
)
from stml_tf.models import build_projection_student, build_student, computing_in
from stml_tf.optimizers import EpochSchedule
from stml_tf.optimizers.by_name import build_optimizer
from stml_tf.recipe.recipe import Recipe


def build_model(recipe: Recipe, *, steps_per_epoch: int = 1, num_classes: int | None = None) -> StudentTeacherModel:
    """The model of a recipe, compiled, with random or pretrained weights.

    Under the `scope()` of a strategy that the model is to be trained with. `num_classes` is how many classes it learns
    from, if any.
    """
    labels = {"num_classes": num_classes, "steps_per_epoch": steps_per_epoch} if recipe.learns_from_labels else {}
    with computing_in(recipe.training.precision):
        model = METHODS[recipe.method](recipe, **labels)

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
        head_optimizer=head_rate and optimizer(head_rate),
        jit_compile=recipe.training.jit,
    )
    return model


def _self_taught(recipe: Recipe) -> SelfTaughtModel:
    return SelfTaughtModel(build_student(**_network(recipe)), **_self_taught_settings(recipe))


def _semi_supervised(recipe: Recipe, *, num_classes: int | None, steps_per_epoch: int) -> SemiSupervisedModel:
    supervision = recipe.supervision
    return SemiSupervisedModel(
        build_student(**_network(recipe)),
        build_loss(supervision.loss, num_classes=num_classes, dim=recipe.model.embedding_dim, **supervision.options),
        num_labeled=supervision.num_labeled,
        weight=supervision.weight if recipe.method == "semi_supervised" else 0.0,
        joint=supervision.joint,
        warmup_steps=supervision.warmup_epochs * steps_per_epoch,
        **_self_taught_settings(recipe),
    )


def _network(recipe: Recipe) -> dict[str, Any]:
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    network = recipe.model.model_dump()
    # On one device the two kinds of BatchNorm round differently, and the plain one is quicker.
    return {**network, "synchronize_batch_norm": several and network["synchronize_batch_norm"]}


def _self_taught_settings(recipe: Recipe) -> dict[str, Any]:
    return {
        "num_neighbors": recipe.sampling.num_neighbors,
        "sigma": recipe.loss.sigma,
        "delta": recipe.loss.delta,
        "momentum": recipe.teacher.momentum,
        "teacher_start": recipe.teacher.start,
        "teacher_center": recipe.teacher.center,
        "teacher_update": recipe.teacher.update,
        "accumulate": recipe.training.accumulate,
    }


def _moco(recipe: Recipe) -> MoCoModel:
    return MoCoModel(
        _projection_student(recipe, batch_norm=False),
        memory_size=recipe.baseline.memory_size,
        temperature=recipe.baseline.temperature,
        momentum=recipe.teacher.momentum,
    )


def _byol(recipe: Recipe) -> BYOLModel:
    return BYOLModel(
        _projection_student(recipe, batch_norm=True),
        hidden_dim=recipe.baseline.hidden_dim,
        momentum=recipe.teacher.momentum,
    )


def _mean_shift(recipe: Recipe) -> MeanShiftModel:
    return MeanShiftModel(
        _projection_student(recipe, batch_norm=True),
        hidden_dim=recipe.baseline.hidden_dim,
        memory_size=recipe.baseline.memory_size,
        top_k=recipe.baseline.top_k,
        momentum=recipe.teacher.momentum,
    )


def _projection_student(recipe: Recipe, *, batch_norm: bool) -> keras.Model:
    return build_projection_student(
        hidden_dim=recipe.baseline.hidden_dim,
        batch_norm=batch_norm,
        embedding=recipe.baseline.embedding,
        **{key: value for key, value in _network(recipe).items() if key != "teacher_dim"},
    )


METHODS: dict[str, Callable[..., StudentTeacherModel]] = {
    "self_taught": _self_taught,
    "semi_supervised": _semi_supervised,
    "supervised": _semi_supervised,
    "moco": _moco,
    "byol": _byol,
    "mean_shift": _mean_shift,
}
