"""The methods by name: from a recipe to its model, compiled."""

from collections.abc import Callable

import keras

from stml_tf.models import build_projection_student, build_student, computing_in
from stml_tf.recipe import Recipe
from stml_tf.training import (
    BYOLModel,
    EpochSchedule,
    MeanShiftModel,
    MoCoModel,
    SelfTaughtModel,
    StudentTeacherModel,
)
from stml_tf.training.optimizers import build_optimizer


def build_model(recipe: Recipe, *, steps_per_epoch: int = 1) -> StudentTeacherModel:
    """The model of a recipe, compiled, with random or pretrained weights.

    Under the `scope()` of a strategy that the model is to be trained with.
    """
    with computing_in(recipe.training.precision):
        model = METHODS[recipe.method](recipe)

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
    return SelfTaughtModel(
        build_student(**recipe.model.model_dump()),
        num_neighbors=recipe.sampling.num_neighbors,
        sigma=recipe.loss.sigma,
        delta=recipe.loss.delta,
        momentum=recipe.teacher.momentum,
        teacher_start=recipe.teacher.start,
        teacher_center=recipe.teacher.center,
        teacher_update=recipe.teacher.update,
        accumulate=recipe.training.accumulate,
    )


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
        **recipe.model.model_dump(exclude={"teacher_dim"}),
    )


METHODS: dict[str, Callable[[Recipe], StudentTeacherModel]] = {
    "self_taught": _self_taught,
    "moco": _moco,
    "byol": _byol,
    "mean_shift": _mean_shift,
}
