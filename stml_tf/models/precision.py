"""The precision that layers compute in: float32, or half precision with float32 variables."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras import layers

from stml_tf.errors import UserError

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")

_DEPTHWISE = layers.DepthwiseConv2D | layers.SeparableConv2D


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Build layers within the block in a precision; layers with a dtype of their own, such as the heads, keep it.

    Args:
        precision: One of `PRECISIONS`.

    Raises:
        UserError: If it is not.
    """
    if precision not in PRECISIONS:
        raise UserError(f"The precision is one of {', '.join(PRECISIONS)}, not {precision!r}.")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def in_float32(network: keras.Model) -> Iterator[None]:
    """Let all layers of a network compute in float32 within the block, also those that were built in half precision.

    A function that is traced in the block computes in float32 for good.
    """
    policies = [(layer, layer.dtype_policy) for layer in network._flatten_layers()]
    try:
        for layer, _ in policies:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in policies:
            layer.dtype_policy = policy


def trains_single_channels(network: keras.Model) -> bool:
    """Return whether a network trains depthwise or grouped convolutions.

    Processors compute their gradients in bfloat16 several times more slowly than in float32.
    """
    return any(
        trains_single_channels(layer)
        if isinstance(layer, keras.Model)
        else layer.trainable
        and (isinstance(layer, _DEPTHWISE) or (isinstance(layer, layers.Conv2D) and layer.groups > 1))
        for layer in network.layers
    )
