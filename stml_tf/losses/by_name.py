"""Supervised losses by name."""

from collections.abc import Callable
from typing import Any

from stml_tf import registry
from stml_tf.errors import UserError
from stml_tf.losses.options import require_known
from stml_tf.option_types import require_types
from stml_tf.registry import ADDONS_PREFIX, arguments_of, resolve
from stml_tf.tensor import Tensor


def build_loss(
    name: str, *, num_classes: int | None = None, dim: int | None = None, **options: Any
) -> Callable[[Tensor, Tensor], Tensor]:
    """Build a supervised loss by its name.

    Args:
        name: A name in `stml_tf.registry.losses`, or "tfa:" and the name of a function in `tensorflow_addons.losses`.
        num_classes: Number of classes. Only losses with proxies need it.
        dim: Width of the embeddings. Only losses with proxies need it.
        options: Further arguments of that loss, such as `margin=0.2`.

    Returns:
        A callable of labels `[batch]` and embeddings `[batch, dim]` that returns a scalar: a `keras.losses.Loss`, or a
        `keras.layers.Layer` if the loss has proxies, which are its trainable weights.

    Raises:
        UserError: If the name or an option is unknown, the value of an option is not allowed, or a loss with proxies
            is not given `num_classes` and `dim`.
    """
    if name.startswith(ADDONS_PREFIX):
        from stml_tf.losses.tensorflow_addons import TensorFlowAddonsLoss

        return TensorFlowAddonsLoss(name.removeprefix(ADDONS_PREFIX), options)
    build = resolve(registry.losses.find(name).build)
    arguments = arguments_of(build) - {"name"}
    from_run = {"num_classes": num_classes, "dim": dim}
    for option in options:
        require_known(f"Loss {name!r} has no option {option!r}", option, arguments - from_run.keys())
    needed = {argument: value for argument, value in from_run.items() if argument in arguments}
    if None in needed.values():
        raise UserError(f"Loss {name!r} has proxies; build it with num_classes and dim.")
    require_types(f"Loss {name!r}", build, options)
    return build(**needed, **options)
