"""Semi-supervised metric learning: a supervised loss on labelled images, self-taught losses on the others.

Kim, Kim, Cho, Kwak: Self-Taught Metric Learning without Labels, CVPR 2022, arXiv 2205.01903, section 4.4. The authors'
code for it is not published; whatever their paper leaves open is an argument here.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from stml_tf.distribution.accumulation import forward
from stml_tf.distribution.replicas import gather_rows
from stml_tf.errors import UserError
from stml_tf.methods.pseudo_labels import SelfTaughtSimilarity, with_true_relations
from stml_tf.methods.self_taught import SELF_TAUGHT_LOGS, SelfTaughtModel, positive_share
from stml_tf.methods.student_teacher import StudentTeacherModel
from stml_tf.models.trainable import learning_part
from stml_tf.tensor import Tensor


def build_semi_supervised(
    student: keras.Model,
    supervised_loss: Callable[[Tensor, Tensor], Tensor],
    *,
    warmup_epochs: int,
    steps_per_epoch: int,
    **settings: Any,
) -> "SemiSupervisedModel":
    """Build a `SemiSupervisedModel` whose warm-up is counted in epochs.

    Args:
        student: See `SemiSupervisedModel`.
        supervised_loss: See `SemiSupervisedModel`.
        warmup_epochs: Epochs in which the weight of the self-taught losses is 0.
        steps_per_epoch: Steps in an epoch.
        **settings: Further arguments of `SemiSupervisedModel`.
    """
    return SemiSupervisedModel(student, supervised_loss, warmup_steps=warmup_epochs * steps_per_epoch, **settings)


@keras.saving.register_keras_serializable("stml_tf")
class SemiSupervisedModel(SelfTaughtModel):
    """A student that learns from labels and from a moving average of itself.

    `fit` takes a dataset of `(views, image_ids, labels)`: preprocessed views
    `[batch, num_views, height, width, channels]` float32, integer ids `[batch]` and integer labels `[batch]`, which are
    below 0 where the class is unknown. The labelled images of a batch come first.

    The loss is the supervised loss of `f` on the labelled part, plus `weight` times the losses of `SelfTaughtModel` on
    the unlabelled part or on both.

    Args:
        student: What `build_student` returns.
        supervised_loss: What `build_loss` returns. If it has proxies, they are trained along with the heads.
        num_labeled: Labelled images in a batch.
        weight: Weight of the self-taught losses, whose values are small. With 0 the model learns from labels alone, and
            batches need no unlabelled part.
        joint: Whether pseudo labels and self-taught losses cover both parts of a batch, with the true relations
            between labelled images in place of the predicted ones, or only the unlabelled part.
        warmup_steps: Initial steps in which the weight is 0, so that the teacher first learns from labels.
        **kwargs: Further arguments of `SelfTaughtModel`.

    Raises:
        UserError: If `num_labeled`, `weight`, `warmup_steps` or an argument of `SelfTaughtModel` is out of range.
    """

    def __init__(
        self,
        student: keras.Model,
        supervised_loss: Callable[[Tensor, Tensor], Tensor],
        *,
        num_labeled: int,
        weight: float = 50.0,
        joint: bool = True,
        warmup_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(student, logged=("supervised", *(SELF_TAUGHT_LOGS if weight else ())), **kwargs)
        if num_labeled < 1 or weight < 0 or warmup_steps < 0:
            raise UserError(
                f"num_labeled={num_labeled}, weight={weight} and warmup_steps={warmup_steps} given; they must be at "
                "least 1, 0 and 0."
            )
        self.supervised_loss = supervised_loss
        self.num_labeled = num_labeled
        self.weight = weight
        self.joint = joint
        self.warmup_steps = warmup_steps

    def train_step(self, data: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        views, image_ids, labels = data
        rows = self._rows(views)
        labels = ops.repeat(gather_rows(labels), views.shape[1])
        labeled_rows = self.num_labeled * views.shape[1]
        first_taught = 0 if self.joint else labeled_rows
        if self.weight:
            similarity = self._relations(rows, image_ids, labels, num_views=views.shape[1], first=first_taught)
        embeddings, backpropagate = forward(learning_part(self.student), rows, pieces=self.accumulate)
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            f, g = gather_rows(embeddings)
            loss = supervised = self.supervised_loss(labels[:labeled_rows], f[:labeled_rows])
            if self.weight:
                contrastive, distillation = self._self_taught_losses(
                    f[first_taught:], g[first_taught:], similarity.combined
                )
                loss = loss + self._weight_now() * (contrastive + distillation)
            scaled_loss = self.optimizer.scale_loss(loss)
        upstream, of_proxies = tape.gradient(
            scaled_loss, (embeddings, self._proxies()), unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradients = backpropagate(upstream, self.student.trainable_variables) + of_proxies
        logs = {"loss": loss, "supervised": supervised, "gradient_norm": self._step(gradients)}
        if self.weight:
            logs["relaxed_contrastive"] = contrastive
            logs["self_distillation"] = distillation
            logs["positive_share"] = positive_share(similarity.contextual)
        return self._log(**logs)

    def test_step(self, data: Any) -> dict[str, Tensor]:
        return StudentTeacherModel.test_step(self, data)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "supervised_loss": keras.saving.serialize_keras_object(self.supervised_loss),
            "num_labeled": self.num_labeled,
            "weight": self.weight,
            "joint": self.joint,
            "warmup_steps": self.warmup_steps,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "SemiSupervisedModel":
        loss = keras.saving.deserialize_keras_object(config["supervised_loss"], custom_objects=custom_objects)
        return super().from_config({**config, "supervised_loss": loss}, custom_objects=custom_objects)

    def _relations(
        self, rows: Tensor, image_ids: Tensor, labels: Tensor, *, num_views: int, first: int
    ) -> SelfTaughtSimilarity:
        """Return the similarities of the rows from `first` on, with the true relations where labels are known."""
        embeddings, image_ids = self._teacher_rows(rows, image_ids, num_views=num_views)
        similarity = self._similarity(embeddings[first:], image_ids[first:], num_views=num_views)
        return similarity._replace(combined=with_true_relations(similarity.combined, labels[first:]))

    def _weight_now(self) -> Tensor:
        return ops.where(self.optimizer.iterations < self.warmup_steps, 0.0, self.weight)

    def _proxies(self) -> list[keras.Variable]:
        return getattr(self.supervised_loss, "trainable_variables", [])

    def _head_variables(self) -> list[keras.Variable]:
        return super()._head_variables() + self._proxies()
