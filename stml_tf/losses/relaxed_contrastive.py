"""The relaxed contrastive loss: a contrastive loss whose labels are degrees of similarity.

Kim, Kim, Cho, Kwak: Embedding Transfer with Label Relaxation for Improved Metric Learning, CVPR 2021,
arXiv 2103.14908, equation 4; equation 6 of Self-Taught Metric Learning (arXiv 2205.01903).
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.geometry import relative_distances
from stml_tf.tensor import Tensor


def relaxed_contrastive_loss(embeddings: Tensor, similarity: Tensor, *, delta: float) -> Tensor:
    """Compute the relaxed contrastive loss: attract rows as far as they are similar, else push them `delta` apart.

    Args:
        embeddings: `[batch, dim]`, any range, any float dtype, not normalised: distances are relative to their mean.
        similarity: `[batch, batch]` in [0, 1]. No gradient flows into it.
        delta: Margin, in units of a row's mean distance.

    Returns:
        A float32 scalar, the mean over the pairs of different rows; 0 for a batch of one row.
    """
    return relaxed_contrastive(relative_distances(embeddings), similarity, delta=delta)


def relaxed_contrastive(relative: Tensor, similarity: Tensor, *, delta: float) -> Tensor:
    """Compute `relaxed_contrastive_loss` from relative distances.

    Args:
        relative: `[batch, batch]` relative distances of the embeddings.
        similarity: `[batch, batch]` in [0, 1]. No gradient flows into it.
        delta: Margin, in units of a row's mean distance.

    Returns:
        A float32 scalar, the mean over the pairs of different rows; 0 for a batch of one row.
    """
    similarity = ops.stop_gradient(ops.cast(similarity, "float32"))
    dissimilarity = 1.0 - similarity
    losses = similarity * ops.square(relative) + dissimilarity * ops.square(ops.relu(delta - relative))
    # The diagonal is no pair: take out what a row costs at a distance of 0 from itself.
    themselves = ops.sum(ops.diagonal(dissimilarity)) * ops.square(ops.relu(delta))
    rows = ops.shape(relative)[0]
    return ops.divide_no_nan(ops.sum(losses) - themselves, ops.cast(rows * (rows - 1), "float32"))


@keras.saving.register_keras_serializable("stml_tf")
class RelaxedContrastiveLoss(keras.losses.Loss):
    """`relaxed_contrastive_loss` as a Keras loss: `loss(similarity, embeddings)`, a scalar."""

    def __init__(self, delta: float = 1.0, name: str = "relaxed_contrastive", **kwargs: Any) -> None:
        super().__init__(name=name, reduction="none", **kwargs)
        self.delta = delta

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return relaxed_contrastive_loss(y_pred, y_true, delta=self.delta)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "delta": self.delta}
