"""The base class of all methods: a student that is trained, and a teacher that is its moving average."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from stml_tf.distribution.accumulation import embed_in_pieces
from stml_tf.distribution.replicas import SharedMean, average_over_replicas, per_replica_log, reduce_no_further
from stml_tf.errors import UserError
from stml_tf.models import auxiliary_network, build_teacher, head_variables, update_teacher
from stml_tf.models.keras_settings import require_keras_settings
from stml_tf.models.trainable import frozen_part, learning_rate_scales
from stml_tf.tensor import Tensor


class StudentTeacherModel(keras.Model):
    """The base class of training methods, which add a `train_step`.

    Calling the model returns the student's outputs, `(embedding, g)`. The embedding is evaluated and exported; the
    teacher is a moving average of the part of the network that computes `g`.

    Args:
        student: A functional model from preprocessed images `[batch, height, width, channels]` to two outputs,
            `(embedding, g)`, each `[batch, dim]`.
        momentum: Share of the teacher's weights that each step keeps, in [0, 1).
        teacher_start: "student" or "independent"; see `build_teacher`.
        logged: Names of what `train_step` logs in addition to "loss" and "gradient_norm".

    Raises:
        UserError: If `momentum` or `teacher_start` is out of range, or Keras has global settings that the method
            cannot train with.
    """

    def __init__(
        self,
        student: keras.Model,
        *,
        momentum: float,
        teacher_start: str = "student",
        logged: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> None:
        require_keras_settings()
        super().__init__(**kwargs)
        if not 0 <= momentum < 1:
            raise UserError(f"momentum={momentum} must be at least 0 and below 1.")
        self.student = student
        self.teacher = build_teacher(student, start=teacher_start)
        self._rate_scales: Mapping[int, float] = MappingProxyType({})
        self.momentum = momentum
        self.teacher_start = teacher_start
        self.head_optimizer: keras.optimizers.Optimizer | None = None
        self._means = {name: SharedMean(name=name) for name in ("loss", *logged, "gradient_norm")}
        self.built = True

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        head_optimizer: keras.optimizers.Optimizer | None = None,
        layer_decay: float = 1.0,
        **kwargs: Any,
    ) -> None:
        """Set the optimizers.

        If the student computes in float16, both scale the loss by the same factor; see `LossScaleOptimizer` of Keras.

        Args:
            optimizer: Trains the whole model, or only the student's trunk if there is a `head_optimizer`.
            head_optimizer: Trains the heads; None leaves them to `optimizer`.
            layer_decay: Factor by which the learning rate falls from block to block below the heads.
            **kwargs: Further arguments of `keras.Model.compile`, except a loss and metrics.
        """
        optimizer = keras.optimizers.get(optimizer)
        if _computes_in_float16(self.student):
            optimizer, head_optimizer = _with_loss_scale(optimizer), _with_loss_scale(head_optimizer)
        super().compile(optimizer=optimizer, **kwargs)
        self.head_optimizer = head_optimizer
        self.layer_decay = layer_decay
        self._rate_scales = MappingProxyType(learning_rate_scales(self.student, layer_decay))
        for each, variables in self._optimized_variables():
            each.build(variables)
            if self.distribute_strategy.num_replicas_in_sync > 1:
                reduce_no_further(each)

    def call(self, images: Tensor, training: bool = False) -> tuple[Tensor, Tensor]:
        """Return the student's outputs.

        Args:
            images: Preprocessed images `[batch, height, width, channels]`, or views of them as `fit` takes,
                `[batch, num_views, height, width, channels]`.
            training: Whether BatchNorm uses the batch's statistics.

        Returns:
            `(embedding, g)`, each `[batch, dim]`, or `[batch, num_views, dim]` for views, float32, not normalised.
        """
        if len(images.shape) == 4:
            return self.student(images, training=training)
        num_views = images.shape[1]
        outputs = self.student(ops.reshape(images, (-1, *images.shape[2:])), training=training)
        return tuple(ops.reshape(output, (-1, num_views, output.shape[-1])) for output in outputs)

    def test_step(self, data: Any) -> dict[str, Tensor]:
        """Refuse `evaluate` and `validation_data`; a method whose loss is meaningful outside training overrides this.

        Raises:
            UserError: Always.
        """
        raise UserError(
            f"{type(self).__name__} has no loss to validate with: embed test images with `model.embed` and pass the "
            "embeddings and their labels to `stml_tf.evaluation.retrieval_metrics`."
        )

    def embed(self, images: Tensor) -> Tensor:
        """Embed preprocessed images.

        Args:
            images: `[batch, height, width, channels]`, preprocessed.

        Returns:
            Embeddings `[batch, dim]` float32, L2-normalised.
        """
        embeddings, _ = self.student(images, training=False)
        return ops.divide_no_nan(embeddings, ops.norm(embeddings, axis=1, keepdims=True))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._means.values())

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "student": keras.saving.serialize_keras_object(self.student),
            "momentum": self.momentum,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "StudentTeacherModel":
        config = dict(config)
        config["student"] = keras.saving.deserialize_keras_object(config["student"], custom_objects=custom_objects)
        return cls(**config)

    def get_compile_config(self) -> dict[str, Any]:
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "layer_decay": self.layer_decay,
            "head_optimizer": keras.saving.serialize_keras_object(self.head_optimizer),
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})

    def _head_variables(self) -> list[keras.Variable]:
        return head_variables(self.student)

    def _optimized_variables(self) -> list[tuple[keras.optimizers.Optimizer, list[keras.Variable]]]:
        # Keras's `MultiOptimizer` (3.15) takes the same steps, but has no learning rate to show, refuses optimizers
        # that scale the loss, and can only be saved if it tells heads by their names, which a student may choose.
        variables = self.trainable_variables
        if self.head_optimizer is None:
            return [(self.optimizer, variables)]
        heads = self._head_variables()
        in_heads = {id(variable) for variable in heads}
        trunk = [variable for variable in variables if id(variable) not in in_heads]
        return [(self.optimizer, trunk), (self.head_optimizer, heads)]

    def _apply_gradients(self, gradients: list[Tensor]) -> Tensor:
        """Apply the gradients of `optimizer.scale_loss(loss)`; return the norm of the unscaled gradient."""
        gradients = average_over_replicas(gradients)
        norm = tf.linalg.global_norm(gradients) / self.optimizer.scale_loss(1.0)
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            # If scaling made one gradient overflow, make all of them overflow: then both optimizers skip the step and
            # keep the same scale.
            overflow = tf.where(tf.math.is_finite(norm), 0.0, float("nan"))
            gradients = [None if gradient is None else gradient + overflow for gradient in gradients]
            norm = tf.where(tf.math.is_finite(norm), norm, 0.0)
        gradient_of = {id(v): g for v, g in zip(self.trainable_variables, gradients, strict=True)}
        before = [(v, tf.identity(v.value)) for v in self.trainable_variables if id(v) in self._rate_scales]
        for optimizer, variables in self._optimized_variables():
            if variables:
                optimizer.apply([gradient_of[id(variable)] for variable in variables], variables)
            else:  # of a frozen trunk: Keras would not count the step, by which schedules and checkpoints go
                optimizer.iterations.assign_add(1)
        # An optimizer's step is proportional to its learning rate, so part of a step is a step at a lower rate.
        for variable, old in before:
            variable.assign(old + self._rate_scales[id(variable)] * (variable - old))
        return norm

    def _frozen_features(self, images: Tensor, *, pieces: int = 1) -> Tensor:
        """Embed a batch with the frozen part that student and teacher share: `[rows, ...]`, once, without gradient."""
        frozen = frozen_part(self.student)
        return images if frozen is None else tf.stop_gradient(embed_in_pieces(frozen, images, pieces=pieces))

    def _move_teacher(self) -> None:
        update_teacher(self.teacher, auxiliary_network(self.student), momentum=self.momentum)

    def _log(self, **values: Tensor) -> dict[str, Tensor]:
        for name, value in values.items():
            self._means[name].update_state(value)
        return {name: per_replica_log(self._means[name].result()) for name in self._means if name in values}

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Do nothing: everything is built. Keras would draw a batch before the first epoch to infer layer shapes."""


def _computes_in_float16(layer: keras.Layer) -> bool:
    return layer.compute_dtype == "float16" or any(map(_computes_in_float16, getattr(layer, "layers", ())))


def _with_loss_scale(optimizer: keras.optimizers.Optimizer | None) -> keras.optimizers.Optimizer | None:
    if optimizer is None or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer)
