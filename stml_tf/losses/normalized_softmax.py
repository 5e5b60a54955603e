"""The normalised softmax loss: classify by the angle to a trainable vector of each class.

Zhai, Wu: Classification is a Strong Baseline for Deep Metric Learning, BMVC 2019, arXiv 1811.12649, equation 2, with
its temperature of 0.05.
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.cosine import cosine_similarities
from stml_tf.losses.label_pairs import masked_mean
from stml_tf.losses.options import require_positive
from stml_tf.losses.proxies import ProxyLoss, own_proxies
from stml_tf.tensor import Tensor


def normalized_softmax_loss(
    labels: Tensor, embeddings: Tensor, proxies: Tensor, *, temperature: float = 0.05
) -> Tensor:
    """Compute the cross entropy of a softmax over the cosine similarities to all proxies.

    Args:
        labels: `[batch]` integers in [0, num_classes); rows with any other label are ignored.
        embeddings: `[batch, dim]`, any range, any float dtype, normalised here.
        proxies: `[num_classes, dim]`, normalised here.
        temperature: Divisor of the similarities, above 0.

    Returns:
        A float32 scalar, the mean over the rows.
    """
    logits = cosine_similarities(embeddings, proxies) / temperature
    return masked_mean(-ops.log_softmax(logits, axis=1), own_proxies(labels, proxies))


@keras.saving.register_keras_serializable("stml_tf")
class NormalizedSoftmaxLoss(ProxyLoss):
    """`normalized_softmax_loss` with its proxies as trainable weights: `loss(labels, embeddings)`, a scalar.

    Args:
        num_classes: Number of proxies; labels are in [0, num_classes).
        dim: Width of the embeddings.
        temperature: Divisor of the similarities.

    Raises:
        UserError: If `num_classes`, `dim` or `temperature` is not above 0.
    """

    def __init__(self, num_classes: int, dim: int, temperature: float = 0.05, name: str = "normalized_softmax") -> None:
        super().__init__(num_classes, dim, name=name)
        require_positive(temperature=temperature)
        self.temperature = temperature

    def call(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        return normalized_softmax_loss(labels, embeddings, self.proxies, temperature=self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}
