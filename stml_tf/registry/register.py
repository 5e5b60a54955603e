"""A register: entries of one kind by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

from stml_tf.errors import UserError, did_you_mean
from stml_tf.registry.entries import Entry

E = TypeVar("E", bound=Entry)


class Register(Mapping[str, E], Generic[E]):
    """A mapping of names to entries of one kind, the package's own first.

    Args:
        kind: The kind of entry, as messages call it.
        entries: The package's own entries.
    """

    def __init__(self, kind: str, entries: Iterable[E]) -> None:
        self.kind = kind
        self._entries = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> E:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str) -> E:
        """Return the entry of a name.

        Args:
            name: The name.

        Raises:
            UserError: If there is none; the message lists the names and suggests the nearest.
        """
        if name not in self._entries:
            allowed = ", ".join(sorted(self._entries))
            raise UserError(f'Unknown {self.kind} "{name}"; allowed: {allowed}{did_you_mean(name, self._entries)}')
        return self._entries[name]

    def add(self, entry: E) -> None:
        """Add an entry from outside the package, replacing one of the same name that also came from outside.

        Args:
            entry: The entry.

        Raises:
            UserError: If the name belongs to the package or is not allowed, or `build` is not callable.
        """
        known = self._entries.get(entry.name)
        if known is not None and known.origin is None:
            raise UserError(f'"{entry.name}" is a {self.kind} of stml_tf itself: register yours under another name.')
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", entry.name):
            raise UserError(
                f'"{entry.name}" cannot name a {self.kind}; allowed: letters, digits, dots, dashes and underscores.'
            )
        if not callable(entry.build) and not (isinstance(entry.build, str) and entry.build.count(":") == 1):
            raise UserError(
                f'{entry.build!r} cannot build the {self.kind} "{entry.name}"; allowed: a callable, or its place as '
                '"module:attribute".'
            )
        self._entries[entry.name] = entry

    @contextmanager
    def holding(self, entry: E | None) -> Iterator[None]:
        """Hold an entry for the duration of a `with` block, or nothing if it is None."""
        if entry is None:
            yield
            return
        self.add(entry)
        try:
            yield
        finally:
            del self._entries[entry.name]
