"""The lifted structure loss: compare each positive pair with all negatives of both its rows.

Oh Song, Xiang, Jegelka, Savarese: Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016,
arXiv 1511.06452, equation 4, with its margin of 1. The paper does not normalise.
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.cosine import unit_rows
from stml_tf.losses.geometry import distances
from stml_tf.losses.label_pairs import label_pairs, masked_logsumexp, masked_mean
from stml_tf.losses.options import require_positive
from stml_tf.tensor import Tensor


def lifted_structure_loss(
    labels: Tensor, embeddings: Tensor, *, margin: float = 1.0, normalize: bool = False
) -> Tensor:
    """Compute the lifted structure loss of a batch.

    For a pair i, j of the same label it is relu(d_ij + log sum exp(margin - d))^2 / 2, the sum being over the negatives
    of both i and j, and d the Euclidean distance.

    Args:
        labels: `[batch]` integers.
        embeddings: `[batch, dim]`, any range, any float dtype.
        margin: Distance beyond which rows of different labels cost little.
        normalize: Whether to L2-normalise the rows first.

    Returns:
        A float32 scalar, the mean over the pairs of the same label; a pair without negatives counts as 0.
    """
    apart = distances(unit_rows(embeddings) if normalize else embeddings)
    positive, negative = label_pairs(labels)
    crowding = masked_logsumexp(margin - apart, negative)
    losses = ops.square(ops.relu(ops.logaddexp(crowding[:, None], crowding[None, :]) + apart))
    return masked_mean(losses, positive) / 2.0


@keras.saving.register_keras_serializable("stml_tf")
class LiftedStructureLoss(keras.losses.Loss):
    """`lifted_structure_loss` as a Keras loss: `loss(labels, embeddings)`, a scalar.

    Its options are those of `lifted_structure_loss`.

    Raises:
        UserError: If `margin` is not above 0.
    """

    def __init__(self, margin: float = 1.0, normalize: bool = False, name: str = "lifted_structure") -> None:
        super().__init__(name=name, reduction="none")
        require_positive(margin=margin)
        self.margin = margin
        self.normalize = normalize

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return lifted_structure_loss(y_true, y_pred, margin=self.margin, normalize=self.normalize)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "margin": self.margin, "normalize": self.normalize}
