"""The student's two linear heads: `f`, the embedding that is kept, and `g`, which the teacher shares."""

from keras import layers

EMBEDDING_HEAD = "f"
AUXILIARY_HEAD = "g"


def build_head(width: int, name: str) -> layers.Dense:
    """A linear head on pooled features, `[batch, channels]` to `[batch, width]` float32."""
    # Orthogonal: a head at least as wide as the features starts by keeping their distances as they are.
    # float32 under mixed precision too: distances between embeddings are differences of close numbers.
    return layers.Dense(width, kernel_initializer="orthogonal", dtype="float32", name=name)
