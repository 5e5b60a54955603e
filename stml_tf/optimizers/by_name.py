"""Optimizers by name: AdamP and all of Keras's."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import keras
from keras.optimizers.schedules import LearningRateSchedule
from pydantic import Field

from stml_tf import registry
from stml_tf.errors import UserError, did_you_mean
from stml_tf.option_types import require_types
from stml_tf.registry import arguments_of, resolve

_Above0 = Annotated[float, Field(gt=0)] | None
_Count = Annotated[int, Field(ge=1)] | None
# Keras declares no types. Most follow from the default value, but not where that is None.
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
    """Build an optimizer by its name.

    Args:
        name: A name in `stml_tf.registry.optimizers`: "adamp", or the lower-case name of a Keras optimizer.
        learning_rate: A float, or a `LearningRateSchedule`.
        weight_decay: Decoupled weight decay per unit of learning rate, 0 or more.
        options: Further arguments of that optimizer, such as `{"beta_1": 0.8, "clipnorm": 1.0}`.

    Returns:
        A new optimizer, not yet built.

    Raises:
        UserError: If the name or an option is unknown, the installed Keras lacks the optimizer, or the value of an
            option is not allowed.
    """
    optimizer, options = _class_of(name), dict(options or {})
    # Its base classes declare the arguments that it passes on as **kwargs.
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


def _class_of(name: str) -> type[keras.optimizers.Optimizer]:
    entry = registry.optimizers.find(name)
    try:
        return resolve(entry.build)
    except AttributeError:
        raise UserError(
            f"Optimizer {name!r} is not in Keras {keras.__version__}: upgrade Keras, or choose another optimizer."
        ) from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
