"""Which pairs of rows share a label, and sums over such pairs that stay finite where there are none."""

from keras import ops

from stml_tf.tensor import Tensor

# Stands for minus infinity: exp of it is exactly 0, and unlike infinity it makes no NaN in a gradient.
_NEVER = -1e9


def label_pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of the positive and the negative pairs of a batch.

    Args:
        labels: `[batch]` or `[batch, 1]`, whole numbers of any dtype.

    Returns:
        Two boolean `[batch, batch]`: different rows of one label, and rows of different labels.
    """
    labels = ops.reshape(labels, (-1,))
    same = ops.equal(labels[:, None], labels[None, :])
    itself = ops.cast(ops.eye(ops.shape(labels)[0]), "bool")
    return ops.logical_and(same, ops.logical_not(itself)), ops.logical_not(same)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask, of the same shape, is true; 0 where it is true nowhere."""
    return ops.divide_no_nan(ops.sum(ops.where(mask, values, 0.0)), ops.sum(ops.cast(mask, "float32")))


def masked_logsumexp(values: Tensor, mask: Tensor, axis: int = -1) -> Tensor:
    """Log of the sum of exponentials where the mask is true; a hugely negative number where it is true nowhere.

    `softplus` of it is log(1 + sum of exponentials), and exactly 0 where the mask is true nowhere.
    """
    return ops.logsumexp(ops.where(mask, values, _NEVER), axis=axis)
