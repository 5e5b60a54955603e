"""InfoNCE: tell an image's other view from the views of other images. The loss of MoCo.

van den Oord, Li, Vinyals: Representation Learning with Contrastive Predictive Coding, arXiv 1807.03748, equation 4;
He, Fan, Wu, Xie, Girshick: Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020,
arXiv 1911.05722, equation 1.
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.cosine import unit_rows
from stml_tf.tensor import Tensor


def info_nce_loss(queries: Tensor, keys: Tensor, negatives: Tensor, *, temperature: float) -> Tensor:
    """Compute the cross entropy of telling each query's key from all negatives by cosine similarity.

    Args:
        queries: `[batch, dim]` embeddings to train, any range, any float dtype, normalised here.
        keys: `[batch, dim]` embeddings of another view of each query's image, normalised here. No gradient flows into
            them.
        negatives: `[num_negatives, dim]` embeddings of other images, shared by all queries, normalised here. No
            gradient flows into them.
        temperature: Divisor of the cosines, above 0.

    Returns:
        A float32 scalar, at least 0: the mean over the queries. It is `log(1 + num_negatives)` where all look alike.
    """
    queries, keys, negatives = map(unit_rows, (queries, keys, negatives))
    keys, negatives = ops.stop_gradient(keys), ops.stop_gradient(negatives)
    positive = ops.sum(queries * keys, axis=1, keepdims=True)
    cosines = ops.concatenate([positive, ops.matmul(queries, ops.transpose(negatives))], axis=1)
    return -ops.mean(ops.log_softmax(cosines / temperature, axis=1)[:, 0])


@keras.saving.register_keras_serializable("stml_tf")
class InfoNCELoss(keras.losses.Loss):
    """`info_nce_loss` as a Keras loss: `loss((keys, negatives), queries)`, a scalar."""

    def __init__(self, temperature: float = 0.07, name: str = "info_nce", **kwargs: Any) -> None:
        super().__init__(name=name, reduction="none", **kwargs)
        self.temperature = temperature

    def call(self, y_true: tuple[Tensor, Tensor], y_pred: Tensor) -> Tensor:
        keys, negatives = y_true
        return info_nce_loss(y_pred, keys, negatives, temperature=self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "temperature": self.temperature}
