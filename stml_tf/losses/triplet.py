"""The triplet loss: an anchor has to be nearer to its positive than to its negative, by a margin.

Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015, arXiv 1503.03832, equation 3: squared distances of unit rows,
margin 0.2, semi-hard negatives. Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification,
arXiv 1703.07737: "hard" is their batch hard (equation 5), "all" their batch all, averaged over the losses above 0.
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.cosine import unit_rows
from stml_tf.losses.geometry import distances, squared_distances
from stml_tf.losses.label_pairs import label_pairs, masked_mean
from stml_tf.losses.options import require_known, require_positive
from stml_tf.tensor import Tensor


def triplet_loss(
    labels: Tensor,
    embeddings: Tensor,
    *,
    margin: float = 0.2,
    mining: str = "semi_hard",
    squared: bool = True,
    normalize: bool = True,
) -> Tensor:
    """Compute the triplet loss of a batch.

    It is relu(d(anchor, positive) - d(anchor, negative) + margin), averaged over the mined triplets. The memory that
    "semi_hard" and "all" need grows with the cube of the batch size.

    Args:
        labels: `[batch]` integers.
        embeddings: `[batch, dim]`, any range, any float dtype.
        margin: How much farther a negative has to be than a positive.
        mining: "semi_hard": every pair of the same label, with the nearest negative that is farther than the positive,
            or the farthest negative if there is none. "hard": every row, with its farthest positive and its nearest
            negative. "all": every triplet.
        squared: Whether to square the distances.
        normalize: Whether to L2-normalise the rows first.

    Returns:
        A float32 scalar, the mean over the mined triplets; with "all", over those whose loss is above 0. 0 for a batch
        without triplets.

    Raises:
        UserError: If `mining` is not one of the three.
    """
    require_known(f"Unknown mining {mining!r}", mining, _MININGS)
    rows = unit_rows(embeddings) if normalize else embeddings
    apart = squared_distances(rows) if squared else distances(rows)
    return _MININGS[mining](apart, *label_pairs(labels), margin)


def _semi_hard(apart: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    farther = ops.logical_and(negative[:, None, :], apart[:, None, :] > apart[:, :, None])
    nearest_farther = _smallest(ops.expand_dims(apart, 1), farther)
    chosen = ops.where(ops.any(farther, axis=-1), nearest_farther, _largest(apart, negative)[:, None])
    triplets = ops.logical_and(positive, ops.any(negative, axis=-1, keepdims=True))
    return masked_mean(ops.relu(apart - chosen + margin), triplets)


def _hard(apart: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    anchors = ops.logical_and(ops.any(positive, axis=-1), ops.any(negative, axis=-1))
    return masked_mean(ops.relu(_largest(apart, positive) - _smallest(apart, negative) + margin), anchors)


def _all(apart: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    losses = ops.relu(apart[:, :, None] - apart[:, None, :] + margin)
    triplets = ops.logical_and(positive[:, :, None], negative[:, None, :])
    # Not `> 0`: a NaN compares false, and must show in the loss.
    return masked_mean(losses, ops.logical_and(triplets, losses != 0.0))


def _smallest(apart: Tensor, mask: Tensor) -> Tensor:
    return ops.min(ops.where(mask, apart, 1e9), axis=-1)


def _largest(apart: Tensor, mask: Tensor) -> Tensor:
    return ops.max(ops.where(mask, apart, -1e9), axis=-1)


_MININGS = {"semi_hard": _semi_hard, "hard": _hard, "all": _all}


@keras.saving.register_keras_serializable("stml_tf")
class TripletLoss(keras.losses.Loss):
    """`triplet_loss` as a Keras loss: `loss(labels, embeddings)`, a scalar.

    Its options are those of `triplet_loss`.

    Raises:
        UserError: If `margin` is not above 0, or `mining` is unknown.
    """

    def __init__(
        self,
        margin: float = 0.2,
        mining: str = "semi_hard",
        squared: bool = True,
        normalize: bool = True,
        name: str = "triplet",
    ) -> None:
        super().__init__(name=name, reduction="none")
        require_positive(margin=margin)
        require_known(f"Unknown mining {mining!r}", mining, _MININGS)
        self.options = {"margin": margin, "mining": mining, "squared": squared, "normalize": normalize}

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return triplet_loss(y_true, y_pred, **self.options)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, **self.options}
