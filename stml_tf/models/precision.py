"""The precision that layers compute in: float32, or half precision with float32 variables."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from stml_tf.errors import UserError

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


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
