"""The student's two linear heads: `f`, the embedding to keep, and `g`, which the teacher shares."""

from keras import layers

EMBEDDING_HEAD = "f"
AUXILIARY_HEAD = "g"


def build_head(width: int, name: str) -> layers.Dense:
    """Build a linear head for pooled features.

    Args:
        width: Width of the embedding.
        name: Name of the layer, `EMBEDDING_HEAD` or `AUXILIARY_HEAD`.

    Returns:
        A layer from `[batch, channels]` to `[batch, width]` float32, not normalised.
    """
    # Orthogonal: a head at least as wide as the features initially preserves their distances.
    # float32 even under mixed precision: distances between embeddings are differences of close numbers.
    return layers.Dense(width, kernel_initializer="orthogonal", dtype="float32", name=name)
