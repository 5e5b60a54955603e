"""The N-pair loss: an anchor has to find its positive among the positives of all other pairs.

Sohn: Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS 2016, equation 7 and section 3.2.2.
The paper leaves the weight of its penalty on norms open; 0.002 is what other implementations use.
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.label_pairs import masked_logsumexp, masked_mean
from stml_tf.losses.options import require_positive
from stml_tf.tensor import Tensor


def n_pairs_loss(labels: Tensor, embeddings: Tensor, *, norm_weight: float = 0.002) -> Tensor:
    """Compute the N-pair loss of a batch.

    For each pair it is log(1 + sum exp(anchor . negative - anchor . positive)); a penalty on large norms is added. The
    rows of a label are paired in their order in the batch: the first with the second, the third with the fourth. The
    first of each pair is the anchor; the second is its positive, and a negative of all anchors of other labels. A row
    without a partner is ignored.

    Args:
        labels: `[batch]` integers; in the paper, each occurs twice.
        embeddings: `[batch, dim]`, any range, any float dtype, not normalised.
        norm_weight: Weight of half the squared norms, averaged over the paired rows.

    Returns:
        A float32 scalar, the mean over the pairs; 0 for a batch without pairs.
    """
    embeddings = ops.cast(embeddings, "float32")
    labels = ops.reshape(labels, (-1,))
    same = ops.cast(ops.equal(labels[:, None], labels[None, :]), "int32")
    # How many rows of its label come before a row.
    order = ops.sum(ops.tril(same, k=-1), axis=1)
    anchors = ops.logical_and(order % 2 == 0, ops.sum(same, axis=1) > order + 1)
    positives = order % 2 == 1
    same = ops.cast(same, "bool")
    pairs = ops.logical_and(ops.logical_and(same, anchors[:, None]), order[:, None] + 1 == order[None, :])

    products = ops.matmul(embeddings, ops.transpose(embeddings))
    others = masked_logsumexp(products, ops.logical_and(ops.logical_not(same), positives[None, :]))
    losses = ops.softplus(others[:, None] - products)
    squared_norms = ops.sum(ops.square(embeddings), axis=1)
    penalty = masked_mean(squared_norms, ops.logical_or(anchors, positives)) / 2.0
    return masked_mean(losses, pairs) + norm_weight * penalty


@keras.saving.register_keras_serializable("stml_tf")
class NPairsLoss(keras.losses.Loss):
    """`n_pairs_loss` as a Keras loss: `loss(labels, embeddings)`, a scalar.

    Its options are those of `n_pairs_loss`.

    Raises:
        UserError: If `norm_weight` is below 0.
    """

    def __init__(self, norm_weight: float = 0.002, name: str = "n_pairs") -> None:
        super().__init__(name=name, reduction="none")
        if norm_weight != 0:
            require_positive(norm_weight=norm_weight)
        self.norm_weight = norm_weight

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return n_pairs_loss(y_true, y_pred, norm_weight=self.norm_weight)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "norm_weight": self.norm_weight}
