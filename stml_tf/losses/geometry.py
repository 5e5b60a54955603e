"""Distances between the rows of a batch, differentiable everywhere, including where rows coincide."""

from collections.abc import Callable

from keras import ops

from stml_tf.tensor import Tensor


def squared_distances(embeddings: Tensor) -> Tensor:
    """Compute the squared Euclidean distances between all pairs of rows.

    Args:
        embeddings: `[batch, dim]`, any range, any float dtype, normalised or not.

    Returns:
        `[batch, batch]` float32, symmetric, at least 0, with an exact 0 on the diagonal.
    """
    embeddings = ops.cast(embeddings, "float32")
    # Distances do not depend on the origin, but the rounding error of |x|^2 + |y|^2 - 2xy grows with it.
    return _squared_distances(embeddings - ops.stop_gradient(ops.mean(embeddings, axis=0, keepdims=True)))


def _squared_distances(centered: Tensor) -> Tensor:
    norms = ops.sum(ops.square(centered), axis=1)
    products = ops.matmul(centered, ops.transpose(-2.0 * centered))
    squared = ops.maximum(products + norms[:, None] + norms[None, :], 0.0)
    return squared * (1.0 - ops.eye(ops.shape(centered)[0], dtype="float32"))


def distances(embeddings: Tensor) -> Tensor:
    """Compute the Euclidean distances between all pairs of rows, with a gradient of 0 where two rows coincide.

    Args:
        embeddings: `[batch, dim]`, any range, any float dtype, normalised or not.

    Returns:
        `[batch, batch]` float32, symmetric, at least 0.
    """
    embeddings = ops.cast(embeddings, "float32")
    return _distances(embeddings - ops.stop_gradient(ops.mean(embeddings, axis=0, keepdims=True)))


@ops.custom_gradient
def _distances(centered: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
    apart = ops.sqrt(_squared_distances(centered))

    # Written out, the gradient takes one matrix product where differentiating x x^T takes two, and needs no special
    # case for the root at 0. `divide_no_nan` lets a NaN through, which makes a diverged network show in its loss.
    def gradient(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
        upstream = args[0] if upstream is None else upstream
        pull = ops.divide_no_nan(upstream + ops.transpose(upstream), apart)
        return ops.sum(pull, axis=1, keepdims=True) * centered - ops.matmul(pull, centered)

    return apart, gradient


def relative_distances(embeddings: Tensor) -> Tensor:
    """Compute the Euclidean distances between all pairs of rows, each row divided by its mean.

    The mean includes the row's distance to itself and carries gradient. A row whose distances are all 0 stays 0.

    Args:
        embeddings: `[batch, dim]`, any range, any float dtype, not normalised.

    Returns:
        `[batch, batch]` float32, at least 0, not symmetric.
    """
    absolute = distances(embeddings)
    return ops.divide_no_nan(absolute, ops.mean(absolute, axis=1, keepdims=True))
