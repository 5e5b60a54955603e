"""A memory of the embeddings of past batches, for losses that compare with more images than a batch holds."""

from typing import Any

import keras
from keras import layers, ops

from stml_tf.errors import UserError
from stml_tf.tensor import Tensor


@keras.saving.register_keras_serializable("stml_tf")
class EmbeddingMemory(layers.Layer):
    """The last `size` embeddings, newest first; random directions until as many have come.

    It may be larger than the training set, as in the paper on CUB: then it also holds what the teacher made of the same
    images in earlier epochs.

    Args:
        size: Embeddings held.
        dim: Width of an embedding.

    Attributes:
        embeddings: `[size, dim]` float32 variable, not trained, saved with the model.

    Raises:
        UserError: If `size` is below 1.
    """

    def __init__(self, size: int, dim: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        if size < 1:
            raise UserError(f"A memory of {size} embeddings given: it must hold at least 1.")
        self.size = size
        self.dim = dim
        self.embeddings = self.add_weight(
            shape=(size, dim), dtype="float32", initializer="random_normal", trainable=False, name="embeddings"
        )
        self.built = True

    def push(self, embeddings: Tensor) -> None:
        """Put a batch `[batch, dim]` in front; the oldest fall out. Of a batch above `size` the first rows stay."""
        newest_first = ops.concatenate([ops.cast(embeddings, "float32"), self.embeddings])
        self.embeddings.assign(newest_first[: self.size])

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "size": self.size, "dim": self.dim}
