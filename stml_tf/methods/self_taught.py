"""Self-taught metric learning: student, teacher, and the step that trains both.

Kim, Kim, Cho, Kwak: Self-Taught Metric Learning without Labels, CVPR 2022, arXiv 2205.01903, algorithm 1.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from stml_tf.distribution.accumulation import embed_in_pieces, forward
from stml_tf.distribution.replicas import gather_rows
from stml_tf.errors import UserError
from stml_tf.losses.geometry import relative_distances
from stml_tf.losses.relaxed_contrastive import relaxed_contrastive
from stml_tf.losses.self_distillation import self_distillation
from stml_tf.methods.pseudo_labels import SelfTaughtSimilarity, self_taught_similarity
from stml_tf.methods.student_teacher import StudentTeacherModel
from stml_tf.models.trainable import learning_part
from stml_tf.tensor import Tensor

SELF_TAUGHT_LOGS = ("relaxed_contrastive", "self_distillation", "positive_share")


@keras.saving.register_keras_serializable("stml_tf")
class SelfTaughtModel(StudentTeacherModel):
    """A student that learns from a moving average of itself.

    `fit` takes a dataset of `(views, image_ids)`: preprocessed views `[batch, num_views, height, width, channels]`
    float32, and integer ids `[batch]`. Batches of neighbours, as `stml_tf.train` draws them, teach more than random
    ones. `evaluate` and `validation_data` take the same dataset and compute the losses; `predict` takes it, or images,
    and returns the student's two outputs.

        import keras
        import numpy as np
        import tensorflow as tf

        from stml_tf.data.transforms import random_view
        from stml_tf.methods import SelfTaughtModel

        pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)  # your images

        def two_views(index, image):
            seeds = [tf.stack([tf.cast(index, tf.int32), view]) for view in range(2)]
            return tf.stack([random_view(image, seed, size=32) / 127.5 - 1 for seed in seeds]), index

        dataset = tf.data.Dataset.from_tensor_slices(pixels).enumerate().shuffle(24).map(two_views)
        dataset = dataset.batch(8, drop_remainder=True)

        images = keras.Input((32, 32, 3))
        features = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(16, 3, activation="relu")(images))
        student = keras.Model(images, [keras.layers.Dense(8)(features), keras.layers.Dense(16)(features)])

        model = SelfTaughtModel(student, num_neighbors=2)
        model.compile(keras.optimizers.AdamW(1e-3))
        model.fit(dataset, epochs=2)
        embeddings = model.embed(pixels.astype("float32") / 127.5 - 1)  # [24, 8], L2-normalised

    Args:
        student: A functional `keras.Model`, such as `build_student` returns, from images to two outputs, each
            `[batch, dim]`: the embedding to keep, and an auxiliary one that the teacher shares.
        num_neighbors: Images in a neighbourhood, including the image itself. Times the number of views, it is the
            paper's k.
        sigma: Bandwidth of the pairwise similarity.
        delta: Margin of the relaxed contrastive loss.
        contextual_weight: Weight of the contextual similarity in the pseudo labels, in [0, 1].
        momentum: Share of the teacher's weights that each step keeps, in [0, 1).
        teacher_start: "student" or "independent"; see `build_teacher`.
        teacher_center: Whether to subtract the batch mean from the teacher's embeddings before they are compared. The
            losses depend only on differences of embeddings, so nothing keeps that mean from drifting, but it does
            affect the teacher's angles: as it grows, all pairs look alike, and a small `sigma` reinforces that. The
            paper does not centre.
        teacher_update: "after" moves the teacher after the optimizer's step; "before", as in the authors' code, before.
        accumulate: Number of equal pieces in which a device embeds its part of the batch. Similarity and losses are
            over the whole batch in any case.
        logged: Names of what `train_step` logs, for subclasses with a step of their own.

    Raises:
        UserError: If `momentum`, `teacher_start`, `teacher_update` or `accumulate` is out of range.
    """

    def __init__(
        self,
        student: keras.Model,
        *,
        num_neighbors: int = 5,
        sigma: float = 3.0,
        delta: float = 1.0,
        contextual_weight: float = 0.5,
        momentum: float = 0.999,
        teacher_start: str = "student",
        teacher_center: bool = False,
        teacher_update: str = "after",
        accumulate: int = 1,
        logged: tuple[str, ...] = SELF_TAUGHT_LOGS,
        **kwargs: Any,
    ) -> None:
        super().__init__(student, momentum=momentum, teacher_start=teacher_start, logged=logged, **kwargs)
        if teacher_update not in ("after", "before"):
            raise UserError(f'The teacher moves "after" or "before" the optimizer\'s step, not {teacher_update!r}.')
        if accumulate < 1:
            raise UserError(f"accumulate={accumulate} must be 1 or more pieces.")
        self.num_neighbors = num_neighbors
        self.sigma = sigma
        self.delta = delta
        self.contextual_weight = contextual_weight
        self.teacher_center = teacher_center
        self.teacher_update = teacher_update
        self.accumulate = accumulate

    def pseudo_labels(self, views: Tensor, image_ids: Tensor) -> SelfTaughtSimilarity:
        """Predict which pairs of a batch are of the same class; in a replica, of the batch of all replicas.

        Args:
            views: `[batch, num_views, height, width, channels]`, preprocessed.
            image_ids: `[batch]` integers.

        Returns:
            Similarities, each `[batch * num_views, batch * num_views]` float32 in [0, 1]; the views of an image are
            adjacent rows.
        """
        return self._similarity_of(self._rows(views), image_ids, num_views=views.shape[1])

    def train_step(self, data: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        views, image_ids = data
        rows = self._rows(views)
        similarity = self._similarity_of(rows, image_ids, num_views=views.shape[1])
        embeddings, backpropagate = forward(learning_part(self.student), rows, pieces=self.accumulate)
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            f, g = gather_rows(embeddings)
            contrastive, distillation = self._self_taught_losses(f, g, similarity.combined)
            loss = contrastive + distillation
            scaled_loss = self.optimizer.scale_loss(loss)
        gradients = backpropagate(tape.gradient(scaled_loss, embeddings), self.trainable_variables)
        return self._log(
            loss=loss,
            relaxed_contrastive=contrastive,
            self_distillation=distillation,
            gradient_norm=self._step(gradients),
            positive_share=positive_share(similarity.contextual),
        )

    def test_step(self, data: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        views, image_ids = data
        similarity = self.pseudo_labels(views, image_ids)
        f, g = gather_rows(list(self.student(ops.reshape(views, (-1, *views.shape[2:])), training=False)))
        contrastive, distillation = self._self_taught_losses(f, g, similarity.combined)
        return self._log(
            loss=contrastive + distillation,
            relaxed_contrastive=contrastive,
            self_distillation=distillation,
            positive_share=positive_share(similarity.contextual),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_neighbors": self.num_neighbors,
            "sigma": self.sigma,
            "delta": self.delta,
            "contextual_weight": self.contextual_weight,
            "teacher_start": self.teacher_start,
            "teacher_center": self.teacher_center,
            "teacher_update": self.teacher_update,
            "accumulate": self.accumulate,
        }

    def _rows(self, views: Tensor) -> Tensor:
        """Return the views of all images as rows `[rows, ...]`, already embedded as far as the network is frozen."""
        return self._frozen_features(ops.reshape(views, (-1, *views.shape[2:])), pieces=self.accumulate)

    def _teacher_rows(self, rows: Tensor, image_ids: Tensor, *, num_views: int) -> tuple[Tensor, Tensor]:
        """Return the teacher's embeddings of all rows of the batch, `[rows, teacher_dim]`, and their image ids."""
        embeddings = gather_rows(embed_in_pieces(self.teacher, rows, pieces=self.accumulate))
        return embeddings, ops.repeat(gather_rows(image_ids), num_views)

    def _similarity_of(self, rows: Tensor, image_ids: Tensor, *, num_views: int) -> SelfTaughtSimilarity:
        return self._similarity(*self._teacher_rows(rows, image_ids, num_views=num_views), num_views=num_views)

    def _similarity(self, embeddings: Tensor, image_ids: Tensor, *, num_views: int) -> SelfTaughtSimilarity:
        if self.teacher_center:
            embeddings = embeddings - ops.mean(embeddings, axis=0, keepdims=True)
        return self_taught_similarity(
            embeddings,
            image_ids,
            num_neighbors=self.num_neighbors * num_views,
            sigma=self.sigma,
            contextual_weight=self.contextual_weight,
        )

    def _self_taught_losses(self, f: Tensor, g: Tensor, similarity: Tensor) -> tuple[Tensor, Tensor]:
        """Return the relaxed contrastive loss, averaged over both heads, and the distillation of `g` into `f`."""
        f, g = relative_distances(f), relative_distances(g)
        contrastive = (
            relaxed_contrastive(f, similarity, delta=self.delta) + relaxed_contrastive(g, similarity, delta=self.delta)
        ) / 2.0
        return contrastive, self_distillation(f, g)

    def _step(self, gradients: list[Tensor]) -> Tensor:
        """Move the student and the teacher, in the order of `teacher_update`; return the gradient norm."""
        if self.teacher_update == "before":
            self._move_teacher()
        gradient_norm = self._apply_gradients(gradients)
        if self.teacher_update == "after":
            self._move_teacher()
        return gradient_norm


def positive_share(contextual: Tensor) -> Tensor:
    """Measure how many pairs of different rows share neighbours.

    Args:
        contextual: `[rows, rows]` in [0, 1], the contextual similarity.

    Returns:
        A scalar in [0, 1], the share of these pairs whose similarity is not 0.
    """
    rows = ops.shape(contextual)[0]
    found = ops.sum(ops.sign(contextual * (1.0 - ops.eye(rows, dtype="float32"))))
    rows = ops.cast(rows, "float32")
    return found / (rows * (rows - 1.0))
