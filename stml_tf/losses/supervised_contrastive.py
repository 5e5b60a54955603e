"""The supervised contrastive loss: each row has to find its positives among all other rows.

Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan: Supervised Contrastive Learning, NeurIPS 2020,
arXiv 2004.11362, equation 2 (the sum over positives outside the logarithm), with its temperature of 0.1.
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.cosine import cosine_similarities
from stml_tf.losses.label_pairs import label_pairs, masked_logsumexp
from stml_tf.losses.options import require_positive
from stml_tf.tensor import Tensor


def supervised_contrastive_loss(labels: Tensor, embeddings: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Compute the cross entropy of a softmax over the cosine similarities to all other rows.

    Args:
        labels: `[batch]` integers.
        embeddings: `[batch, dim]`, any range, any float dtype, normalised here.
        temperature: Divisor of the similarities, above 0.

    Returns:
        A float32 scalar: the mean over each row's positives, averaged over the rows that have any, where the paper sums
        over rows. 0 for a batch without positives.
    """
    logits = cosine_similarities(embeddings) / temperature
    positive, negative = label_pairs(labels)
    normalizer = masked_logsumexp(logits, ops.logical_or(positive, negative))
    num_positives = ops.sum(ops.cast(positive, "float32"), axis=1)
    losses = ops.sum(ops.where(positive, normalizer[:, None] - logits, 0.0), axis=1)
    anchors = ops.sum(ops.cast(num_positives > 0, "float32"))
    return ops.divide_no_nan(ops.sum(ops.divide_no_nan(losses, num_positives)), anchors)


@keras.saving.register_keras_serializable("stml_tf")
class SupervisedContrastiveLoss(keras.losses.Loss):
    """`supervised_contrastive_loss` as a Keras loss: `loss(labels, embeddings)`, a scalar.

    Its options are those of `supervised_contrastive_loss`.

    Raises:
        UserError: If `temperature` is not above 0.
    """

    def __init__(self, temperature: float = 0.1, name: str = "supervised_contrastive") -> None:
        super().__init__(name=name, reduction="none")
        require_positive(temperature=temperature)
        self.temperature = temperature

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return supervised_contrastive_loss(y_true, y_pred, temperature=self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "temperature": self.temperature}
