"""The parameters of whatever a register builds."""

import inspect
from collections.abc import Callable
from typing import Any


def parameters_of(build: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function or class by name.

    A class that passes `**kwargs` on to its base classes has their parameters, too.

    Args:
        build: The function or class.

    Returns:
        The name of each parameter, without `self`, and what `inspect.signature` says of it.
    """
    found: dict[str, inspect.Parameter] = {}
    for layer in [base for base in build.__mro__ if "__init__" in vars(base)] if inspect.isclass(build) else [build]:
        parameters = inspect.signature(layer).parameters.values()
        named = (each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD))
        found = {**{each.name: each for each in named}, **found}
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    return {name: parameter for name, parameter in found.items() if name != "self"}


def arguments_of(build: Callable[..., Any]) -> set[str]:
    """Return the names of the arguments that a function or class takes; see `parameters_of`."""
    return set(parameters_of(build))
