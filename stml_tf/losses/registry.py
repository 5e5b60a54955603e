"""Supervised losses by name."""

import inspect
from collections.abc import Callable
from typing import Any

from stml_tf.losses.contrastive import ContrastiveLoss
from stml_tf.losses.lifted_structure import LiftedStructureLoss
from stml_tf.losses.multi_similarity import MultiSimilarityLoss
from stml_tf.losses.n_pairs import NPairsLoss
from stml_tf.losses.normalized_softmax import NormalizedSoftmaxLoss
from stml_tf.losses.options import require_known
from stml_tf.losses.proxies import ProxyLoss
from stml_tf.losses.proxy_anchor import ProxyAnchorLoss
from stml_tf.losses.supervised_contrastive import SupervisedContrastiveLoss
from stml_tf.losses.tensorflow_addons import PREFIX, TensorFlowAddonsLoss
from stml_tf.losses.triplet import TripletLoss
from stml_tf.tensor import Tensor

LOSSES: dict[str, type] = {
    "contrastive": ContrastiveLoss,
    "lifted_structure": LiftedStructureLoss,
    "multi_similarity": MultiSimilarityLoss,
    "n_pairs": NPairsLoss,
    "normalized_softmax": NormalizedSoftmaxLoss,
    "proxy_anchor": ProxyAnchorLoss,
    "supervised_contrastive": SupervisedContrastiveLoss,
    "triplet": TripletLoss,
}


def build_loss(
    name: str, *, num_classes: int | None = None, dim: int | None = None, **options: Any
) -> Callable[[Tensor, Tensor], Tensor]:
    """Builds the supervised loss of a name.

    Args:
        name: One of `LOSSES`, or "tfa:" and the name of a function in `tensorflow_addons.losses`.
        num_classes: How many classes the labels have; only losses with proxies need and use it.
        dim: Width of the embeddings, likewise.
        options: Further arguments of that loss, such as `margin=0.2`.

    Returns:
        `loss(labels [batch], embeddings [batch, dim])`, a scalar: a `keras.losses.Loss`, or for a loss with proxies a
        `keras.layers.Layer` whose trainable weights they are.

    Raises:
        ValueError: The name or an option is not known, an option's value is impossible, or a loss with proxies is not
            told `num_classes` and `dim`.
    """
    if name.startswith(PREFIX):
        return TensorFlowAddonsLoss(name.removeprefix(PREFIX), options)
    require_known(f"Unknown loss {name!r}.", name, LOSSES)
    loss = LOSSES[name]
    allowed = set(inspect.signature(loss).parameters) - {"name", "num_classes", "dim"}
    for option in options:
        require_known(f"Loss {name!r} has no option {option!r}.", option, allowed)
    if not issubclass(loss, ProxyLoss):
        return loss(**options)
    if num_classes is None or dim is None:
        raise ValueError(f"Loss {name!r} has proxies; build it with num_classes and dim.")
    return loss(num_classes, dim, **options)
