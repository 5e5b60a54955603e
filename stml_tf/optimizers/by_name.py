"""Optimizers by name: AdamP and all of Keras's."""

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from stml_tf.optimizers.adamp import AdamP

# Wrappers of other optimizers, and the base class, have no learning rate of their own.
OPTIMIZERS: dict[str, type[keras.optimizers.Optimizer]] = {
    found.__name__.lower(): found
    for found in (AdamP, *vars(keras.optimizers).values())
    if inspect.isclass(found)
    and issubclass(found, keras.optimizers.Optimizer)
    and "learning_rate" in inspect.signature(found).parameters
}


def build_optimizer(
    name: str,
    *,
    learning_rate: float | LearningRateSchedule,
    weight_decay: float = 0.0,
    options: Mapping[str, Any] | None = None,
) -> keras.optimizers.Optimizer:
    """Builds the optimizer of a name.

    Args:
        name: "adamp", or the lower-case name of any Keras optimizer.
        learning_rate: float, or a `LearningRateSchedule`.
        weight_decay: decoupled weight decay per unit of learning rate, 0 or more.
        options: further arguments of that optimizer, such as `{"beta_1": 0.8, "clipnorm": 1.0}`.

    Returns:
        A new optimizer, not yet built.

    Raises:
        ValueError: the name or an option is not known.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"Unknown optimizer {name!r}.{_nearest(name, OPTIMIZERS)} Allowed: {_listed(OPTIMIZERS)}.")
    optimizer, options = OPTIMIZERS[name], dict(options or {})
    allowed = _options(optimizer)
    for option in options:
        if option not in allowed:
            raise ValueError(
                f"Optimizer {name!r} has no option {option!r}.{_nearest(option, allowed)} Allowed: {_listed(allowed)}."
            )
    if not isinstance(learning_rate, LearningRateSchedule):
        learning_rate = float(learning_rate)
    return optimizer(learning_rate=learning_rate, weight_decay=weight_decay, **options)


def _options(optimizer: type[keras.optimizers.Optimizer]) -> set[str]:
    # The classes it is built on name the arguments that it hands on as **kwargs.
    parameters = [inspect.signature(base).parameters.values() for base in optimizer.__mro__[:-1]]
    named = {p.name for group in parameters for p in group if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return named - {"learning_rate", "weight_decay"}


def _nearest(given: str, allowed: Mapping[str, Any] | set[str]) -> str:
    matches = get_close_matches(given.lower(), sorted(allowed), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def _listed(names: Mapping[str, Any] | set[str]) -> str:
    return ", ".join(sorted(names))
