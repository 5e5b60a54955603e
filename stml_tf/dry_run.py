"""A dry run: what would write to the disk says so instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


class DryRunStopped(Exception):
    """A dry run has come to where training would write what it goes on with; the message says what that is."""


@contextmanager
def trial(dry: bool) -> Iterator[list[str]]:
    """Let `would` and `would_have_to` take effect within the block, if `dry`.

    Yields:
        What `would` was told, in order, to which the block may look when it ends.
    """
    notes: list[str] = []
    token = _notes.set(notes if dry else None)
    try:
        yield notes
    finally:
        _notes.reset(token)


def would(what: str) -> bool:
    """Return whether this is a dry run, which then goes on without what it would have done.

    Args:
        what: Continues "training would", such as "download the weights".
    """
    notes = _notes.get()
    if notes is not None:
        notes.append(what)
    return notes is not None


def would_have_to(what: str) -> None:
    """End a dry run before something that it cannot go on without.

    Raises:
        DryRunStopped: If this is a dry run.
    """
    if would(what):
        raise DryRunStopped(f"Dry run: training would first {what}. Nothing was written, so it ends here.")
