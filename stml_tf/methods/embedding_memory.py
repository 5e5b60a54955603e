"""A memory of the embeddings of past batches, for losses that compare with more images than a batch holds."""

from typing import Any

import keras
from keras import layers, ops

from stml_tf.errors import UserError
from stml_tf.tensor import Tensor


@keras.saving.register_keras_serializable("stml_tf")
class EmbeddingMemory(layers.Layer):
    """A queue of the last `size` embeddings, newest first, filled with random directions to begin with.

    It may be larger than the training set, as in the paper on CUB. It then also holds embeddings of the same images
    from earlier epochs.

    Args:
        size: Number of embeddings, 1 or more.
        dim: Width of an embedding.

    Attributes:
        embeddings: `[size, dim]` float32 variable, saved with the model but not trained.

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
        """Insert a batch at the front and drop the oldest embeddings.

        Args:
            embeddings: `[batch, dim]`. If there are more than `size`, the first rows are kept.
        """
        newest_first = ops.concatenate([ops.cast(embeddings, "float32"), self.embeddings])
        self.embeddings.assign(newest_first[: self.size])

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "size": self.size, "dim": self.dim}
