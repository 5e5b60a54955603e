"""Errors that are meant for people."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """The error of a request that cannot be fulfilled as it was made.

    The message says what was given, what is allowed and what to do. The command line shows nothing else, and exits with
    status 2; any other `ValueError` is a bug and keeps its traceback.
    """


class UserNotice(UserWarning):
    """The warning of something that work goes on without, such as a damaged file. The command line shows its text."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: '; did you mean "NAME"?', or '' if no name is close.

    Args:
        name: The unknown name.
        names: The known ones. Case is ignored.
    """
    by_folded = {candidate.casefold(): candidate for candidate in names}
    nearest = get_close_matches(name.casefold(), by_folded, n=1)
    return f'; did you mean "{by_folded[nearest[0]]}"?' if nearest else ""
