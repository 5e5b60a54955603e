"""Optimizers by name: AdamP and all of Keras's."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import keras
from keras.optimizers.schedules import LearningRateSchedule
from pydantic import Field

from stml_tf.errors import UserError
from stml_tf.optimizers.adamp import AdamP
from stml_tf.option_types import require_types
from stml_tf.registry import arguments_of, did_you_mean

# Wrappers of other optimizers, and the base class, have no learning rate of their own.
OPTIMIZERS: dict[str, type[keras.optimizers.Optimizer]] = {
    found.__name__.lower(): found
    for found in (AdamP, *vars(keras.optimizers).values())
    if inspect.isclass(found)
    and issubclass(found, keras.optimizers.Optimizer)
    and "learning_rate" in inspect.signature(found).parameters
}


_Above0 = Annotated[float, Field(gt=0)] | None
_Count = Annotated[int, Field(ge=1)] | None
# Keras declares no types; most can be read from a default, those of what is None by default cannot.
_TYPES = {
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"), _Above0),
    **dict.fromkeys(("ema_overwrite_frequency", "gradient_accumulation_steps"), _Count),
    "adam_lr_ratio": float,
    "exclude_layers": list[str] | None,
    "ns_steps": Annotated[int, Field(ge=1, le=100)],
}


def build_optimizer(
    name: str,
    *,
    learning_rate: float | LearningRateSchedule,
    weight_decay: float = 0.0,
    options: Mapping[str, Any] | None = None,
) -> keras.optimizers.Optimizer:
    """Build the optimizer of a name.

    Args:
        name: "adamp", or the lower-case name of any Keras optimizer.
        learning_rate: float, or a `LearningRateSchedule`.
        weight_decay: decoupled weight decay per unit of learning rate, 0 or more.
        options: further arguments of that optimizer, such as `{"beta_1": 0.8, "clipnorm": 1.0}`.

    Returns:
        A new optimizer, not yet built.

    Raises:
        UserError: If the name or an option is unknown, or an option's value is impossible.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"Unknown optimizer {name!r}; allowed: {_listed(OPTIMIZERS)}{did_you_mean(name, OPTIMIZERS)}")
    optimizer, options = OPTIMIZERS[name], dict(options or {})
    # The classes it is built on name the arguments that it hands on as **kwargs.
    allowed = arguments_of(optimizer) - {"learning_rate", "weight_decay", "name"}
    for option in options:
        if option not in allowed:
            raise UserError(
                f"Optimizer {name!r} has no option {option!r}; allowed: {_listed(allowed)}"
                f"{did_you_mean(option, allowed)}"
            )
    if not isinstance(learning_rate, LearningRateSchedule):
        learning_rate = float(learning_rate)
    require_types(f"Optimizer {name!r}", optimizer, options, undeclared=_TYPES)
    try:
        return optimizer(learning_rate=learning_rate, weight_decay=weight_decay, **options)
    except ValueError as error:
        raise UserError(f"Optimizer {name!r} cannot be built with the options {options}: {error}") from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
