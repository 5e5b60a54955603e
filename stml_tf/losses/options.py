"""Checks of the options that a loss is built with."""

from collections.abc import Iterable
from numbers import Real
from typing import Any

from stml_tf.errors import UserError, did_you_mean


def require_positive(**options: Any) -> None:
    """Raise a `UserError` that names the first option whose value is not a number above 0."""
    for name, value in options.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not value > 0:
            raise UserError(f"{name}={value!r} must be a number above 0.")


def require_known(problem: str, given: str, allowed: Iterable[str]) -> None:
    """Raise a `UserError` unless a name is allowed.

    Args:
        problem: The beginning of the message; the allowed names, and the nearest of them, follow.
        given: The name that was given.
        allowed: The names that are allowed.
    """
    names = sorted(allowed)
    if given not in names:
        raise UserError(f"{problem}; allowed: {', '.join(names) or 'none'}{did_you_mean(str(given), names)}")
