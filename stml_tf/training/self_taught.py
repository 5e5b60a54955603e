"""The model that teaches itself: student, teacher, and the step that trains both.

Kim, Kim, Cho, Kwak: Self-Taught Metric Learning without Labels, CVPR 2022, arXiv 2205.01903, algorithm 1.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from stml_tf.losses import relaxed_contrastive_loss, self_distillation_loss
from stml_tf.models import auxiliary_network, build_teacher, head_variables, update_teacher
from stml_tf.pseudo_labels import SelfTaughtSimilarity, self_taught_similarity

Tensor = Any


@keras.saving.register_keras_serializable("stml_tf")
class SelfTaughtModel(keras.Model):
    """A student that learns from a moving average of itself.

    `fit` takes pairs of views `[batch, num_views, height, width, channels]` and image ids `[batch]`, as
    `training_batches` makes them. Calling the model gives the student's `(f, g)`.

    Args:
        student: What `build_student` returns.
        num_neighbors: Images in a neighbourhood, the image itself included; times views, this is the paper's k.
        sigma: Bandwidth of the pairwise similarity.
        delta: Margin of the relaxed contrastive loss.
        momentum: Share of the teacher that stays at each step, in [0, 1).
        teacher_start: "student" or "independent", see `build_teacher`.
        teacher_center: Whether the batch's mean is taken off the teacher's embeddings before they are compared. The
            losses see differences of embeddings alone, so nothing holds that mean in place, yet it takes part in the
            teacher's angles: as it grows all pairs look alike, and a small `sigma` makes that feed on itself. The paper
            does not centre.
        teacher_update: "after" moves the teacher after the optimizer's step, "before" as the authors' code does.

    Raises:
        ValueError: If `momentum`, `teacher_start` or `teacher_update` is out of range.
    """

    def __init__(
        self,
        student: keras.Model,
        *,
        num_neighbors: int = 5,
        sigma: float = 3.0,
        delta: float = 1.0,
        momentum: float = 0.999,
        teacher_start: str = "student",
        teacher_center: bool = False,
        teacher_update: str = "after",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum} must be at least 0 and below 1.")
        if teacher_update not in ("after", "before"):
            raise ValueError(f'The teacher moves "after" or "before" the optimizer\'s step, not {teacher_update!r}.')
        self.student = student
        self.teacher = build_teacher(student, start=teacher_start)
        self.num_neighbors = num_neighbors
        self.sigma = sigma
        self.delta = delta
        self.momentum = momentum
        self.teacher_start = teacher_start
        self.teacher_center = teacher_center
        self.teacher_update = teacher_update
        self.head_optimizer: keras.optimizers.Optimizer | None = None
        self._means = {
            name: keras.metrics.Mean(name=name)
            for name in ("loss", "relaxed_contrastive", "self_distillation", "gradient_norm", "positive_share")
        }
        self.built = True

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        head_optimizer: keras.optimizers.Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        """Set the optimizers.

        Args:
            optimizer: Trains the student; its trunk alone where the heads have an optimizer of their own.
            head_optimizer: Trains the two heads; None leaves them to `optimizer`.
            **kwargs: What `keras.Model.compile` takes beside a loss and metrics.
        """
        super().compile(optimizer=optimizer, **kwargs)
        self.head_optimizer = head_optimizer
        for each, variables in self._optimized_variables():
            each.build(variables)

    def call(self, images: Tensor, training: bool = False) -> tuple[Tensor, Tensor]:
        return self.student(images, training=training)

    def embed(self, images: Tensor) -> Tensor:
        """Preprocessed images `[batch, height, width, channels]` to `f`, `[batch, embedding_dim]`, L2-normalised."""
        embeddings, _ = self.student(images, training=False)
        return ops.divide_no_nan(embeddings, ops.norm(embeddings, axis=1, keepdims=True))

    def pseudo_labels(self, views: Tensor, image_ids: Tensor) -> SelfTaughtSimilarity:
        """The teacher's opinion of a batch.

        Args:
            views: `[batch, num_views, height, width, channels]`, preprocessed.
            image_ids: `[batch]` integers.

        Returns:
            Similarities, each `[batch * num_views, batch * num_views]`; the views of an image lie side by side.
        """
        num_views = views.shape[1]
        embeddings = self.teacher(ops.reshape(views, (-1, *views.shape[2:])), training=False)
        if self.teacher_center:
            embeddings = embeddings - ops.mean(embeddings, axis=0, keepdims=True)
        return self_taught_similarity(
            embeddings,
            ops.repeat(image_ids, num_views),
            num_neighbors=self.num_neighbors * num_views,
            sigma=self.sigma,
        )

    def train_step(self, data: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        views, image_ids = data
        images = ops.reshape(views, (-1, *views.shape[2:]))
        similarity = self.pseudo_labels(views, image_ids)
        with tf.GradientTape() as tape:
            f, g = self.student(images, training=True)
            contrastive = (
                relaxed_contrastive_loss(f, similarity.combined, delta=self.delta)
                + relaxed_contrastive_loss(g, similarity.combined, delta=self.delta)
            ) / 2.0
            distillation = self_distillation_loss(f, g)
            loss = contrastive + distillation
        gradients = tape.gradient(loss, self.student.trainable_variables)

        if self.teacher_update == "before":
            self._move_teacher()
        self._apply_gradients(gradients)
        if self.teacher_update == "after":
            self._move_teacher()

        off_diagonal = similarity.contextual * (1.0 - ops.eye(ops.shape(images)[0], dtype="float32"))
        rows = ops.cast(ops.shape(images)[0], "float32")
        self._means["loss"].update_state(loss)
        self._means["relaxed_contrastive"].update_state(contrastive)
        self._means["self_distillation"].update_state(distillation)
        self._means["gradient_norm"].update_state(tf.linalg.global_norm(gradients))
        self._means["positive_share"].update_state(ops.sum(ops.sign(off_diagonal)) / (rows * (rows - 1.0)))
        return {name: mean.result() for name, mean in self._means.items()}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._means.values())

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "student": keras.saving.serialize_keras_object(self.student),
            "num_neighbors": self.num_neighbors,
            "sigma": self.sigma,
            "delta": self.delta,
            "momentum": self.momentum,
            "teacher_start": self.teacher_start,
            "teacher_center": self.teacher_center,
            "teacher_update": self.teacher_update,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "SelfTaughtModel":
        config = dict(config)
        config["student"] = keras.saving.deserialize_keras_object(config["student"], custom_objects=custom_objects)
        return cls(**config)

    def get_compile_config(self) -> dict[str, Any]:
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "head_optimizer": keras.saving.serialize_keras_object(self.head_optimizer),
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})

    def _move_teacher(self) -> None:
        update_teacher(self.teacher, auxiliary_network(self.student), momentum=self.momentum)

    def _optimized_variables(self) -> list[tuple[keras.optimizers.Optimizer, list[keras.Variable]]]:
        variables = self.student.trainable_variables
        if self.head_optimizer is None:
            return [(self.optimizer, variables)]
        heads = head_variables(self.student)
        in_heads = {id(variable) for variable in heads}
        trunk = [variable for variable in variables if id(variable) not in in_heads]
        return [(self.optimizer, trunk), (self.head_optimizer, heads)]

    def _apply_gradients(self, gradients: list[Tensor]) -> None:
        gradient_of = {id(v): g for v, g in zip(self.student.trainable_variables, gradients, strict=True)}
        for optimizer, variables in self._optimized_variables():
            optimizer.apply([gradient_of[id(variable)] for variable in variables], variables)
