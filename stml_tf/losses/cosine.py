"""Unit rows and cosine similarities, differentiable everywhere, including at the origin."""

from keras import ops

from stml_tf.tensor import Tensor


def unit_rows(embeddings: Tensor) -> Tensor:
    """Divide each row by its Euclidean norm.

    Args:
        embeddings: `[batch, dim]`, any range, any float dtype.

    Returns:
        `[batch, dim]` float32. A row of zeros stays zero, with a gradient of 0.
    """
    embeddings = ops.cast(embeddings, "float32")
    squared = ops.sum(ops.square(embeddings), axis=1, keepdims=True)
    # The inverse root must never see a 0, as its infinite gradient would become NaN. A NaN row does stay NaN.
    zero = squared <= 0.0
    return ops.where(zero, 0.0, embeddings * ops.rsqrt(ops.where(zero, 1.0, squared)))


def cosine_similarities(embeddings: Tensor, others: Tensor | None = None) -> Tensor:
    """Compute the cosine similarity of every row of one batch to every row of another, or of the same.

    Args:
        embeddings: `[batch, dim]`, any range, any float dtype, normalised here.
        others: `[other, dim]`, likewise; None compares the batch with itself.

    Returns:
        `[batch, other]` float32 in [-1, 1] up to rounding; 0 where a row is all zeros.
    """
    rows = unit_rows(embeddings)
    return ops.matmul(rows, ops.transpose(rows if others is None else unit_rows(others)))
