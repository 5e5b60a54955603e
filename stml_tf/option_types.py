"""Type checks of the options that a recipe passes on to a function or class."""

import inspect
import typing
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from stml_tf.errors import UserError
from stml_tf.registry import parameters_of

_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_NONE: Mapping[str, Any] = MappingProxyType({})


def require_types(
    owner: str, build: Callable[..., Any], options: Mapping[str, Any], *, undeclared: Mapping[str, Any] = _NONE
) -> None:
    """Refuse an option of the wrong type.

    Args:
        owner: What takes the options, for the message, such as "Loss 'triplet'".
        build: The function or class that they are passed to. The type of an option is its annotation there or, without
            one, the type of its default.
        options: The options by name, each an argument of `build`.
        undeclared: Types by name, for arguments that `build` does not declare usefully.

    Raises:
        UserError: Naming the first such option, what was given and what is allowed.
    """
    parameters = parameters_of(build)
    hints = _hints(build)
    for name, value in options.items():
        declared = undeclared.get(name, hints.get(name, _of_default(parameters[name].default)))
        try:
            TypeAdapter(declared, config=_STRICT).validate_python(value)
        except ValidationError as error:
            allowed = "; or ".join(dict.fromkeys(each["msg"].lower() for each in error.errors()))
            raise UserError(f"{owner}, option {name!r}: {value!r} given; {allowed}.") from None
        except PydanticUserError:
            continue  # an annotation that does not describe values, which plug-ins are free to use


def _hints(build: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(build.__init__ if inspect.isclass(build) else build)
    except (NameError, TypeError):
        return {}


def _of_default(default: Any) -> Any:
    # A number need not be whole because its default is, such as 1 for a ratio; but it is neither text nor a list.
    return type(default) if isinstance(default, bool | float | int | str) else Any
