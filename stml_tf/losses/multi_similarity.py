"""The multi-similarity loss: mine pairs against each other, then weight them by how hard they are.

Wang, Han, Huang, Dong, Scott: Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning, CVPR 2019,
arXiv 1904.06627, equations 10, 11 and 15, with its alpha, beta and mining margin. The threshold lambda is 0.5 as in
the authors' code and in pytorch-metric-learning, not the 1 printed in the paper: with a beta of 50, a threshold of 1
only pushes rows of different labels apart where they almost coincide.
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.cosine import cosine_similarities
from stml_tf.losses.label_pairs import label_pairs, masked_logsumexp
from stml_tf.losses.options import require_positive
from stml_tf.tensor import Tensor


def multi_similarity_loss(
    labels: Tensor,
    embeddings: Tensor,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    threshold: float = 0.5,
    mining_margin: float | None = 0.1,
) -> Tensor:
    """Compute the multi-similarity loss of a batch.

    For each row it is log(1 + sum exp(-alpha (s - threshold))) / alpha over the similarities s of its positives, plus
    log(1 + sum exp(beta (s - threshold))) / beta over those of its negatives.

    Args:
        labels: `[batch]` integers.
        embeddings: `[batch, dim]`, any range, any float dtype, normalised here.
        alpha: Weight of hard positives against easy ones.
        beta: Weight of hard negatives against easy ones.
        threshold: Cosine similarity that separates positives from negatives.
        mining_margin: A positive counts if its similarity exceeds that of the row's most similar negative by less than
            this, and a negative if its similarity is less than this below that of the least similar positive. A row
            without positives or without negatives then has no pairs. None counts every pair.

    Returns:
        A float32 scalar, the mean over all rows; a row without pairs counts as 0.
    """
    similarity = cosine_similarities(embeddings)
    positive, negative = label_pairs(labels)
    if mining_margin is not None:
        nearest_negative = ops.max(ops.where(negative, similarity, -1e9), axis=1, keepdims=True)
        farthest_positive = ops.min(ops.where(positive, similarity, 1e9), axis=1, keepdims=True)
        # Masks of what is dropped, not of what is kept: a NaN compares false, and must show in the loss.
        easy_positive = similarity - mining_margin >= nearest_negative
        easy_negative = similarity + mining_margin <= farthest_positive
        positive = ops.logical_and(positive, ops.logical_not(easy_positive))
        negative = ops.logical_and(negative, ops.logical_not(easy_negative))
    excess = similarity - threshold
    pull = ops.softplus(masked_logsumexp(-alpha * excess, positive)) / alpha
    push = ops.softplus(masked_logsumexp(beta * excess, negative)) / beta
    return ops.mean(pull + push)


@keras.saving.register_keras_serializable("stml_tf")
class MultiSimilarityLoss(keras.losses.Loss):
    """`multi_similarity_loss` as a Keras loss: `loss(labels, embeddings)`, a scalar.

    Its options are those of `multi_similarity_loss`.

    Raises:
        UserError: If `alpha`, `beta` or `mining_margin` is not above 0.
    """

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        threshold: float = 0.5,
        mining_margin: float | None = 0.1,
        name: str = "multi_similarity",
    ) -> None:
        super().__init__(name=name, reduction="none")
        require_positive(alpha=alpha, beta=beta)
        if mining_margin is not None:
            require_positive(mining_margin=mining_margin)
        self.options = {"alpha": alpha, "beta": beta, "threshold": threshold, "mining_margin": mining_margin}

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return multi_similarity_loss(y_true, y_pred, **self.options)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, **self.options}
