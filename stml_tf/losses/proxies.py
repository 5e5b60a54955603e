"""The base class of losses with proxies: a trainable vector for each class."""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.options import require_positive
from stml_tf.tensor import Tensor


class ProxyLoss(keras.layers.Layer):
    """A loss with weights of its own: `loss(labels, embeddings)`, a float32 scalar.

    It is a layer because a Keras loss cannot have weights. Where it is an attribute of a model, its proxies are among
    the model's trainable weights and are saved with it.

    Args:
        num_classes: Number of proxies; labels are in [0, num_classes).
        dim: Width of the embeddings.

    Raises:
        UserError: If `num_classes` or `dim` is not above 0.
    """

    def __init__(self, num_classes: int, dim: int, name: str | None = None) -> None:
        # Proxies and loss are float32 under every dtype policy.
        super().__init__(name=name, dtype="float32")
        require_positive(num_classes=num_classes, dim=dim)
        self.num_classes = num_classes
        self.dim = dim
        # Created here and not in `build`, so that an optimizer can be built before the first batch.
        self.proxies = self.add_weight(shape=(num_classes, dim), initializer="he_normal", name="proxies")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "num_classes": self.num_classes, "dim": self.dim}


def own_proxies(labels: Tensor, proxies: Tensor) -> Tensor:
    """Return a mask of each row's own proxy.

    Args:
        labels: `[batch]` integers.
        proxies: `[num_classes, dim]`.

    Returns:
        Boolean `[batch, num_classes]`, true at the row's label.
    """
    labels = ops.cast(ops.reshape(labels, (-1, 1)), "int32")
    return ops.equal(labels, ops.arange(ops.shape(proxies)[0], dtype="int32")[None, :])
