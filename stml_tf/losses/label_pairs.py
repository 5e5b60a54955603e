"""Masks of the pairs that share a label, and reductions over them that stay finite where there are none."""

from keras import ops

from stml_tf.tensor import Tensor

# Stands for minus infinity: exp of it is exactly 0, and unlike infinity it makes no NaN in a gradient.
_NEVER = -1e9


def label_pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the masks of the positive and the negative pairs of a batch.

    Args:
        labels: `[batch]` or `[batch, 1]`, integers of any dtype.

    Returns:
        Two boolean tensors `[batch, batch]`: pairs of different rows with the same label, and pairs with different
        labels.
    """
    labels = ops.reshape(labels, (-1,))
    same = ops.equal(labels[:, None], labels[None, :])
    itself = ops.cast(ops.eye(ops.shape(labels)[0]), "bool")
    return ops.logical_and(same, ops.logical_not(itself)), ops.logical_not(same)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average values under a mask.

    Args:
        values: Any shape.
        mask: The same shape, boolean.

    Returns:
        A scalar, the mean of the values where the mask is true; 0 if it is true nowhere.
    """
    return ops.divide_no_nan(ops.sum(ops.where(mask, values, 0.0)), ops.sum(ops.cast(mask, "float32")))


def masked_logsumexp(values: Tensor, mask: Tensor, axis: int = -1) -> Tensor:
    """Compute log(sum(exp(values))) over an axis under a mask.

    Its `softplus` is log(1 + sum(exp(values))), and exactly 0 where the mask is true nowhere.

    Args:
        values: `[..., count, ...]`, any finite range.
        mask: The same shape, boolean.
        axis: The axis to sum over.

    Returns:
        Like `values` without the axis; a very negative number where the mask is true nowhere.
    """
    return ops.logsumexp(ops.where(mask, values, _NEVER), axis=axis)
