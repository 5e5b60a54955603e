"""Checks of what a loss is built with, and what is said about it."""

from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Real
from typing import Any


def require_positive(**options: Any) -> None:
    """Raises a `ValueError` that names the first of the options that is no number above 0."""
    for name, value in options.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not value > 0:
            raise ValueError(f"{name}={value!r} must be a number above 0.")


def require_known(problem: str, given: str, allowed: Iterable[str]) -> None:
    """Raises a `ValueError` that begins with `problem` and names the nearest, unless `given` is among the allowed."""
    names = sorted(allowed)
    if given in names:
        return
    matches = get_close_matches(str(given).lower(), names, n=1)
    nearest = f" Did you mean {matches[0]!r}?" if matches else ""
    raise ValueError(f"{problem}{nearest} Allowed: {', '.join(names) or 'none'}.")
