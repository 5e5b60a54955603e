"""Rows brought to unit length, differentiable everywhere, also at the origin."""

from keras import ops

from stml_tf.tensor import Tensor


def unit_rows(embeddings: Tensor) -> Tensor:
    """Each row divided by its Euclidean norm.

    Args:
        embeddings: `[batch, dim]`, any range, any float dtype.

    Returns:
        `[batch, dim]` float32; a row of zeros stays one, with a gradient of 0.
    """
    embeddings = ops.cast(embeddings, "float32")
    squared = ops.sum(ops.square(embeddings), axis=1, keepdims=True)
    # The inverse root must never see a 0, or its infinite gradient becomes NaN. A NaN is no 0 and stays one.
    zero = squared <= 0.0
    return ops.where(zero, 0.0, embeddings * ops.rsqrt(ops.where(zero, 1.0, squared)))


def cosine_similarities(embeddings: Tensor, others: Tensor | None = None) -> Tensor:
    """Cosine of the angle between every row of one batch and every row of another, or of the same.

    Args:
        embeddings: `[batch, dim]`, any range, any float dtype, not normalised.
        others: `[other, dim]` likewise; None compares the batch with itself.

    Returns:
        `[batch, other]` float32 in [-1, 1] but for rounding; 0 where a row is all zeros.
    """
    rows = unit_rows(embeddings)
    return ops.matmul(rows, ops.transpose(rows if others is None else unit_rows(others)))
