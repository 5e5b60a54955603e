"""The MeanShift loss: predict the nearest neighbours of the teacher's embedding in a memory.

Koohpayegani, Tejankar, Pirsiavash: Mean Shift for Self-Supervised Learning, ICCV 2021, arXiv 2105.07269, section 2.
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.cosine import unit_rows
from stml_tf.tensor import Tensor


def mean_shift_loss(predictions: Tensor, targets: Tensor, memory: Tensor, *, top_k: int) -> Tensor:
    """Compute the mean squared distance from each prediction to the `top_k` memory rows nearest to its target.

    Args:
        predictions: `[batch, dim]` embeddings to train, any range, any float dtype, normalised here.
        targets: `[batch, dim]` the teacher's embeddings of the same images, normalised here. No gradient flows into
            them.
        memory: `[size, dim]` embeddings of the teacher, normalised here. It includes the targets, so each target is its
            own nearest neighbour. No gradient flows into it.
        top_k: Neighbours of each target, at most `size`. With 1, the target alone, this is the BYOL loss.

    Returns:
        A float32 scalar in [0, 4].
    """
    predictions, targets, memory = map(unit_rows, (predictions, targets, memory))
    _, nearest = ops.top_k(ops.matmul(targets, ops.transpose(memory)), top_k)
    neighbors = ops.stop_gradient(ops.take(memory, nearest, axis=0))
    return ops.mean(2.0 - 2.0 * ops.sum(predictions[:, None, :] * neighbors, axis=2))


@keras.saving.register_keras_serializable("stml_tf")
class MeanShiftLoss(keras.losses.Loss):
    """`mean_shift_loss` as a Keras loss: `loss((targets, memory), predictions)`, a scalar."""

    def __init__(self, top_k: int = 5, name: str = "mean_shift", **kwargs: Any) -> None:
        super().__init__(name=name, reduction="none", **kwargs)
        self.top_k = top_k

    def call(self, y_true: tuple[Tensor, Tensor], y_pred: Tensor) -> Tensor:
        targets, memory = y_true
        return mean_shift_loss(y_pred, targets, memory, top_k=self.top_k)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "top_k": self.top_k}
