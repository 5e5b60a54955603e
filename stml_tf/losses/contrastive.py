"""The contrastive loss: pull pairs of the same label together, push all others apart up to a margin.

Hadsell, Chopra, LeCun: Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006, equation 4. The paper
leaves the margin open and does not normalise.
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.cosine import unit_rows
from stml_tf.losses.geometry import distances
from stml_tf.losses.label_pairs import label_pairs, masked_mean
from stml_tf.losses.options import require_positive
from stml_tf.tensor import Tensor


def contrastive_loss(labels: Tensor, embeddings: Tensor, *, margin: float = 1.0, normalize: bool = False) -> Tensor:
    """Compute the contrastive loss of a batch.

    It is d^2 / 2 for pairs of the same label and relu(margin - d)^2 / 2 for all others, d being the Euclidean distance.

    Args:
        labels: `[batch]` integers.
        embeddings: `[batch, dim]`, any range, any float dtype.
        margin: Distance beyond which rows of different labels cost nothing.
        normalize: Whether to L2-normalise the rows first, so that no distance exceeds 2.

    Returns:
        A float32 scalar, the mean over all pairs of different rows; 0 for a batch of one row.
    """
    apart = distances(unit_rows(embeddings) if normalize else embeddings)
    positive, negative = label_pairs(labels)
    losses = ops.where(positive, ops.square(apart), ops.square(ops.relu(margin - apart)))
    return masked_mean(losses, ops.logical_or(positive, negative)) / 2.0


@keras.saving.register_keras_serializable("stml_tf")
class ContrastiveLoss(keras.losses.Loss):
    """`contrastive_loss` as a Keras loss: `loss(labels, embeddings)`, a scalar.

    Its options are those of `contrastive_loss`.

    Raises:
        UserError: If `margin` is not above 0.
    """

    def __init__(self, margin: float = 1.0, normalize: bool = False, name: str = "contrastive") -> None:
        super().__init__(name=name, reduction="none")
        require_positive(margin=margin)
        self.margin = margin
        self.normalize = normalize

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return contrastive_loss(y_true, y_pred, margin=self.margin, normalize=self.normalize)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "margin": self.margin, "normalize": self.normalize}
