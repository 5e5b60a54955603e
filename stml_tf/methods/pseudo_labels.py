"""Soft pseudo labels: how likely two images are of the same class, judged by the teacher's embeddings.

Kim, Kim, Cho, Kwak: Self-Taught Metric Learning without Labels, CVPR 2022, arXiv 2205.01903, equations 1 to 5.
Nothing here loops over the batch, and nothing carries gradient.
"""

from typing import NamedTuple

from keras import ops

from stml_tf.errors import UserError
from stml_tf.losses.geometry import squared_distances
from stml_tf.tensor import Tensor


class SelfTaughtSimilarity(NamedTuple):
    """Three `[batch, batch]` float32 tensors in [0, 1]; `combined` is the pseudo label."""

    pairwise: Tensor
    contextual: Tensor
    combined: Tensor


def self_taught_similarity(
    teacher_embeddings: Tensor, image_ids: Tensor, *, num_neighbors: int, sigma: float, contextual_weight: float = 0.5
) -> SelfTaughtSimilarity:
    """Predict how likely each pair of rows is of the same class.

    Args:
        teacher_embeddings: `[batch, dim]`, any range, any float dtype, normalised here.
        image_ids: `[batch]` integers; rows with the same id are views of one image.
        num_neighbors: Size of a row's neighbourhood in rows, including the row: neighbours per image times views.
        sigma: Bandwidth of the Gaussian on squared distances; smaller is stricter.
        contextual_weight: Weight of the contextual similarity in the combined one, in [0, 1]; the pairwise similarity
            has the rest. The paper has one half.

    Returns:
        The pairwise similarity, the contextual similarity and their weighted mean, each `[batch, batch]` float32 in
        [0, 1] and symmetric.

    Raises:
        UserError: If `num_neighbors` is below 1 or above the batch, `sigma` is not positive, or
            `contextual_weight` is outside [0, 1].
    """
    batch = teacher_embeddings.shape[0]
    if num_neighbors < 1 or (batch is not None and num_neighbors > batch):
        raise UserError(
            f"num_neighbors={num_neighbors} must be between 1 and the {batch} rows of the batch; "
            "lower num_neighbors or raise the batch size."
        )
    if not sigma > 0:
        raise UserError(f"sigma={sigma} must be positive.")
    if not 0 <= contextual_weight <= 1:
        raise UserError(f"contextual_weight={contextual_weight} must be from 0 to 1.")
    teacher_embeddings = ops.stop_gradient(ops.cast(teacher_embeddings, "float32"))
    pairwise = pairwise_similarity(teacher_embeddings, sigma=sigma)
    contextual = contextual_similarity(pairwise, image_ids, num_neighbors=num_neighbors)
    combined = (1.0 - contextual_weight) * pairwise + contextual_weight * contextual
    return SelfTaughtSimilarity(pairwise, contextual, combined)


def pairwise_similarity(embeddings: Tensor, *, sigma: float) -> Tensor:
    """Compute the Gaussian similarity of normalised rows (equation 1).

    Args:
        embeddings: `[batch, dim]` float32, any range, normalised here; a row of zeros stays at the origin.
        sigma: Bandwidth of the Gaussian on squared distances.

    Returns:
        `[batch, batch]` float32 in [exp(-4 / sigma), 1], 1 on the diagonal.
    """
    norms = ops.norm(embeddings, axis=1, keepdims=True)
    return ops.exp(-squared_distances(ops.divide_no_nan(embeddings, norms)) / sigma)


def contextual_similarity(pairwise: Tensor, image_ids: Tensor, *, num_neighbors: int) -> Tensor:
    """Measure how much the neighbourhoods of each pair of rows overlap (equations 2 to 4).

    Args:
        pairwise: `[batch, batch]` float32 in [0, 1], larger is closer.
        image_ids: `[batch]` integers; views of one image count as each other's nearest neighbours.
        num_neighbors: Size of a neighbourhood in rows, including the row itself.

    Returns:
        `[batch, batch]` float32 in [0, 1], symmetric.
    """
    rows = ops.shape(pairwise)[0]
    same_image = image_ids[:, None] == image_ids[None, :]
    ranking = ops.where(same_image, 1.0, pairwise)
    # The row outranks its other views, so it is in its own neighbourhood however often its image is in the batch.
    ranking = ranking + ops.eye(rows, dtype="float32")
    _, neighbors = ops.top_k(ranking, num_neighbors)
    neighbors = ops.cast(neighbors, "int32")

    # A row has few neighbours, so its relations are lists of `num_neighbors` columns and their values.
    of_neighbors = ops.take(neighbors, neighbors, axis=0)
    each = ops.arange(rows, dtype="int32")
    mutual = ops.cast(ops.any(of_neighbors == each[:, None, None], axis=2), "float32")
    reciprocal = _table(neighbors, mutual, rows)
    pairs = neighbors[:, :, None] * rows + neighbors[:, None, :]
    shared = ops.sum(ops.take(ops.reshape(reciprocal, (-1,)), pairs) * mutual[:, None, :], axis=2)
    overlap = mutual * ops.divide_no_nan(shared, ops.sum(mutual, axis=1, keepdims=True))

    # Query expansion over the nearer half. Python rounds half to even, like NumPy, which the reference uses.
    half = max(1, round(num_neighbors / 2))
    expanded = _table(
        ops.reshape(of_neighbors[:, :half], (rows, half * num_neighbors)),
        ops.reshape(ops.take(overlap, neighbors[:, :half], axis=0), (rows, half * num_neighbors)),
        rows,
    )
    return (expanded + ops.transpose(expanded)) / (2.0 * half)


def with_true_relations(similarity: Tensor, labels: Tensor) -> Tensor:
    """Replace predicted similarities by the true ones wherever both labels are known.

    Args:
        similarity: `[batch, batch]` float32, the predictions.
        labels: `[batch]` integer classes; below 0 where the class is unknown.

    Returns:
        `[batch, batch]` float32: 1 or 0 for pairs of labelled rows, the prediction for all others.
    """
    same_class = ops.cast(labels[:, None] == labels[None, :], "float32")
    known = labels >= 0
    return ops.where(known[:, None] & known[None, :], same_class, similarity)


def _table(columns: Tensor, values: Tensor, size: Tensor) -> Tensor:
    """Scatter the values of each row to their columns, both `[size, count]`, into `[size, size]` float32, summing."""
    lines = ops.broadcast_to(ops.arange(size, dtype="int32")[:, None], ops.shape(columns))
    places = ops.reshape(ops.stack([lines, columns], axis=2), (-1, 2))
    return ops.scatter(places, ops.reshape(values, (-1,)), (size, size))
