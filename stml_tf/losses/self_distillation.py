"""Self-distillation: the embedding head learns the relations that the wider auxiliary head has found.

Kim, Kim, Cho, Kwak: Self-Taught Metric Learning without Labels, CVPR 2022, arXiv 2205.01903, equation 7.
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.geometry import relative_distances
from stml_tf.tensor import Tensor


def self_distillation_loss(embeddings: Tensor, target_embeddings: Tensor) -> Tensor:
    """Compute the mean over rows of KL(softmax(-d_target) || softmax(-d)), d being relative distances.

    Args:
        embeddings: `[batch, dim]` embeddings to train (`f`), any range, any float dtype, not normalised.
        target_embeddings: `[batch, target_dim]` embeddings to learn from (`g`), likewise. No gradient flows into them.

    Returns:
        A float32 scalar, at least 0 up to rounding.
    """
    return self_distillation(relative_distances(embeddings), relative_distances(ops.stop_gradient(target_embeddings)))


def self_distillation(relative: Tensor, target_relative: Tensor) -> Tensor:
    """Compute `self_distillation_loss` from relative distances.

    Args:
        relative: `[batch, batch]` relative distances of the embeddings to train.
        target_relative: `[batch, batch]` relative distances to learn from. No gradient flows into them.

    Returns:
        A float32 scalar, at least 0 up to rounding.
    """
    target = ops.log_softmax(-ops.stop_gradient(target_relative), axis=1)
    learner = ops.log_softmax(-relative, axis=1)
    return ops.mean(ops.sum(ops.exp(target) * (target - learner), axis=1))


@keras.saving.register_keras_serializable("stml_tf")
class SelfDistillationLoss(keras.losses.Loss):
    """`self_distillation_loss` as a Keras loss: `loss(target_embeddings, embeddings)`, a scalar."""

    def __init__(self, name: str = "self_distillation", **kwargs: Any) -> None:
        super().__init__(name=name, reduction="none", **kwargs)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self_distillation_loss(y_pred, y_true)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}
