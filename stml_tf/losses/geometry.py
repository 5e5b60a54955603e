"""Distances between the rows of a batch, differentiable everywhere, also where rows coincide."""

from keras import ops

from stml_tf.tensor import Tensor


def squared_distances(embeddings: Tensor) -> Tensor:
    """Squared Euclidean distances between all pairs of rows.

    Args:
        embeddings: `[batch, dim]`, any range, any float dtype, normalised or not.

    Returns:
        `[batch, batch]` float32, symmetric, at least 0, with an exact 0 on the diagonal.
    """
    embeddings = ops.cast(embeddings, "float32")
    # Distances do not move with the origin, but the rounding error of |x|^2 + |y|^2 - 2xy grows with it.
    embeddings = embeddings - ops.stop_gradient(ops.mean(embeddings, axis=0, keepdims=True))
    norms = ops.sum(ops.square(embeddings), axis=1)
    products = ops.matmul(embeddings, ops.transpose(embeddings))
    squared = ops.maximum(norms[:, None] + norms[None, :] - 2.0 * products, 0.0)
    return squared * (1.0 - ops.eye(ops.shape(embeddings)[0], dtype="float32"))


def distances(embeddings: Tensor) -> Tensor:
    """Euclidean distances between all pairs of rows, with a gradient of 0 where two rows coincide.

    Args:
        embeddings: `[batch, dim]`, any range, any float dtype, normalised or not.

    Returns:
        `[batch, batch]` float32, symmetric, at least 0.
    """
    squared = squared_distances(embeddings)
    # The root's gradient at 0 is infinite, and infinity times a mask of 0 is NaN: the root must never see a 0. A NaN
    # is no 0 and stays one, so that a diverged network shows in its loss.
    zero = squared <= 0.0
    return ops.where(zero, 0.0, ops.sqrt(ops.where(zero, 1.0, squared)))


def relative_distances(embeddings: Tensor) -> Tensor:
    """Distances of each row, divided by their mean over the row.

    The mean includes the row itself and carries gradient. A row whose distances are all 0 stays at 0.

    Args:
        embeddings: `[batch, dim]`, any range, any float dtype, not normalised.

    Returns:
        `[batch, batch]` float32, at least 0, not symmetric.
    """
    absolute = distances(embeddings)
    return ops.divide_no_nan(absolute, ops.mean(absolute, axis=1, keepdims=True))
