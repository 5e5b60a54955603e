"""The contrastive loss: pairs of one label come together, others keep a margin.

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
    """Half of d^2 for pairs of one label and of relu(margin - d)^2 for others, d being the Euclidean distance.

    Args:
        labels: `[batch]` whole numbers.
        embeddings: `[batch, dim]`, any float dtype.
        margin: Distance that rows of different labels keep.
        normalize: Whether rows are brought to unit length first, which bounds distances by 2.

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

    Raises:
        ValueError: `margin` is not above 0.
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
