"""Checks of what a loss is built with, and what is said about it."""

from collections.abc import Iterable
from numbers import Real
from typing import Any

from stml_tf.errors import UserError, did_you_mean


def require_positive(**options: Any) -> None:
    """Raise a `UserError` that names the first of the options that is not a number above 0."""
    for name, value in options.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not value > 0:
            raise UserError(f"{name}={value!r} must be a number above 0.")


def require_known(problem: str, given: str, allowed: Iterable[str]) -> None:
    """Raise a `UserError` that begins with `problem` and names the nearest, unless `given` is among the allowed."""
    names = sorted(allowed)
    if given not in names:
        raise UserError(f"{problem}; allowed: {', '.join(names) or 'none'}{did_you_mean(str(given), names)}")
