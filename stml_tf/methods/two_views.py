"""The base class of the self-supervised baselines: the student sees one view, the teacher the other."""

from typing import Any

import keras
import tensorflow as tf

from stml_tf.distribution.replicas import gather_rows
from stml_tf.errors import UserError
from stml_tf.methods.student_teacher import StudentTeacherModel
from stml_tf.models.parts import auxiliary_head
from stml_tf.tensor import Tensor


class TwoViewModel(StudentTeacherModel):
    """The base class of methods that compare the student's projection of one view with the teacher's of the other.

    `fit` takes a dataset of `(views, image_ids)`: preprocessed views `[batch, 2, height, width, channels]` float32, and
    ids `[batch]`, which are not used. The teacher moves after the optimizer's step, before it sees the next batch, as
    in the original methods.

    The teacher's BatchNorm uses the statistics of the batch, as in the original methods. With its moving statistics,
    which lag as far behind as its weights, a teacher that starts from random weights maps all images to nearly the same
    direction (tried with MoCo on Omniglot: mean cosine 1.0, and Recall@1 fell below the untrained network's).

    Args:
        student: What `build_projection_student` returns.
        momentum: Share of the teacher's weights that each step keeps, in [0, 1).

    Raises:
        UserError: If `momentum` is out of range; from `fit`, unless there are two views.
    """

    def __init__(self, student: keras.Model, *, momentum: float = 0.99, **kwargs: Any) -> None:
        super().__init__(student, momentum=momentum, **kwargs)

    def objective(self, projections: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch; subclasses implement this.

        Args:
            projections: `[batch, dim]` float32 projections of the student, not normalised.
            targets: `[batch, dim]` float32 projections of the teacher for the same images, not normalised, without
                gradient.

        Returns:
            A float32 scalar.
        """
        raise NotImplementedError

    def train_step(self, data: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        views, _ = data
        if views.shape[1] != 2:
            raise UserError(f"{type(self).__name__} learns from 2 views of an image, but {views.shape[1]} were given.")
        # Each view passes through only one of the two networks, so there is nothing to share.
        targets = gather_rows(self.teacher(self._frozen_features(views[:, 1]), training=True))
        with tf.GradientTape() as tape:
            _, projections = self.student(views[:, 0], training=True)
            loss = self.objective(gather_rows(projections), targets)
            scaled_loss = self.optimizer.scale_loss(loss)
        gradient_norm = self._apply_gradients(tape.gradient(scaled_loss, self.trainable_variables))
        self._move_teacher()
        return self._log(loss=loss, gradient_norm=gradient_norm)

    def _head_variables(self) -> list[keras.Variable]:
        of_head = [variable for layer in auxiliary_head(self.student) for variable in layer.trainable_variables]
        projection = {id(variable) for variable in of_head}
        in_trunk = {id(variable) for variable in self.student.trainable_variables} - projection
        return [variable for variable in self.trainable_variables if id(variable) not in in_trunk]
