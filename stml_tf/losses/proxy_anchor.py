"""The proxy-anchor loss: a trainable vector of each class attracts its rows and repels all others.

Kim, Kim, Cho, Kwak: Proxy Anchor Loss for Deep Metric Learning, CVPR 2020, arXiv 2003.13911, equation 4, with its
alpha of 32 and delta of 0.1. The authors train the proxies with 100 times the learning rate of the network.
"""

from typing import Any

import keras
from keras import ops

from stml_tf.losses.cosine import cosine_similarities
from stml_tf.losses.label_pairs import masked_logsumexp, masked_mean
from stml_tf.losses.options import require_positive
from stml_tf.losses.proxies import ProxyLoss, own_proxies
from stml_tf.tensor import Tensor


def proxy_anchor_loss(
    labels: Tensor, embeddings: Tensor, proxies: Tensor, *, alpha: float = 32.0, delta: float = 0.1
) -> Tensor:
    """Compute the proxy-anchor loss of a batch.

    For each proxy it is log(1 + sum exp(-alpha (s - delta))) over the rows of its class plus
    log(1 + sum exp(alpha (s + delta))) over all other rows, s being their cosine similarity to the proxy.

    Args:
        labels: `[batch]` integers in [0, num_classes); every proxy repels a row with any other label.
        embeddings: `[batch, dim]`, any range, any float dtype, normalised here.
        proxies: `[num_classes, dim]`, normalised here.
        alpha: Weight of hard rows against easy ones.
        delta: Margin in cosine similarity.

    Returns:
        A float32 scalar: the mean of the first term over the proxies whose class is in the batch, plus the mean of the
        second over all proxies.
    """
    similarity = cosine_similarities(embeddings, proxies)
    own = own_proxies(labels, proxies)
    pull = ops.softplus(masked_logsumexp(-alpha * (similarity - delta), own, axis=0))
    push = ops.softplus(masked_logsumexp(alpha * (similarity + delta), ops.logical_not(own), axis=0))
    return masked_mean(pull, ops.any(own, axis=0)) + ops.mean(push)


@keras.saving.register_keras_serializable("stml_tf")
class ProxyAnchorLoss(ProxyLoss):
    """`proxy_anchor_loss` with its proxies as trainable weights: `loss(labels, embeddings)`, a scalar.

    Args:
        num_classes: Number of proxies; labels are in [0, num_classes).
        dim: Width of the embeddings.
        alpha: Weight of hard rows against easy ones.
        delta: Margin in cosine similarity.

    Raises:
        UserError: If `num_classes`, `dim` or `alpha` is not above 0.
    """

    def __init__(
        self, num_classes: int, dim: int, alpha: float = 32.0, delta: float = 0.1, name: str = "proxy_anchor"
    ) -> None:
        super().__init__(num_classes, dim, name=name)
        require_positive(alpha=alpha)
        self.alpha = alpha
        self.delta = delta

    def call(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        return proxy_anchor_loss(labels, embeddings, self.proxies, alpha=self.alpha, delta=self.delta)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha, "delta": self.delta}
