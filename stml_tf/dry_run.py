"""Dry runs, in which code that would write to the disk says so instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


class DryRunStopped(Exception):
    """Raised where a dry run cannot go on without what training would first write, which the message names.

    Args:
        what: What training would first do.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"Dry run: training would first {what}. Nothing was written, so it ends here.")
        self.what = what


@contextmanager
def trial(dry: bool) -> Iterator[list[str]]:
    """Make the block a dry run, if `dry`.

    Args:
        dry: Whether it is one.

    Yields:
        The list of what `would` is told within the block.
    """
    notes: list[str] = []
    token = _notes.set(notes if dry else None)
    try:
        yield notes
    finally:
        _notes.reset(token)


def would(what: str) -> bool:
    """Note what training would do, and return whether this is a dry run, which goes on without it.

    Args:
        what: What training would do, such as "download the weights".
    """
    notes = _notes.get()
    if notes is not None:
        notes.append(what)
    return notes is not None


def would_have_to(what: str) -> None:
    """End a dry run before something that it cannot go on without.

    Args:
        what: What training would do, such as "extract the archive".

    Raises:
        DryRunStopped: If this is a dry run.
    """
    if would(what):
        raise DryRunStopped(what)
