"""The BYOL loss: predict the teacher's embedding of another view of the image.

Grill et al.: Bootstrap Your Own Latent, NeurIPS 2020, arXiv 2006.07733, equation 2.
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.cosine import unit_rows
from stml_tf.tensor import Tensor


def byol_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean squared distance between normalised predictions and their normalised targets.

    Args:
        predictions: `[batch, dim]` embeddings to train, any range, any float dtype, normalised here.
        targets: `[batch, dim]` the teacher's embeddings of the same images, normalised here. No gradient flows into
            them.

    Returns:
        A float32 scalar in [0, 4].
    """
    predictions, targets = map(unit_rows, (predictions, targets))
    return ops.mean(2.0 - 2.0 * ops.sum(predictions * ops.stop_gradient(targets), axis=1))


@keras.saving.register_keras_serializable("stml_tf")
class BYOLLoss(keras.losses.Loss):
    """`byol_loss` as a Keras loss: `loss(targets, predictions)`, a scalar."""

    def __init__(self, name: str = "byol", **kwargs: Any) -> None:
        super().__init__(name=name, reduction="none", **kwargs)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return byol_loss(y_pred, y_true)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}
