"""The display of work in progress: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["SECONDS_BETWEEN_LINES", "Display", "duration"]

SECONDS_BETWEEN_LINES = 30.0


class Display:
    """A display of the work that a run is doing.

    A terminal gets one bar for each piece of work, below each other where one is part of another, and none that is
    done. A log, or a terminal without control codes, gets a line every 30 seconds at most: short work leaves no trace.

    Args:
        console: Where to write.
        clock: Seconds that only go up.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.console = console
        self.clock = clock
        self._bars = console.is_terminal and not console.is_dumb_terminal
        self._progress: Progress | None = None
        self._last_line = clock()

    @contextmanager
    def doing(self, what: str, total: int | None = None, *, unit: str = "images") -> Iterator[Work]:
        """Show a piece of work until the end of the block.

        Args:
            what: A phrase such as "embedding test images".
            total: How many units it has; None where that is not known.
            unit: What is counted.

        Yields:
            The work: call it with how many units are done.
        """
        work = Work(self, what, total, unit)
        try:
            yield work
        finally:
            work.end()

    def add_bar(self, what: str, total: int | None) -> TaskID | None:
        """Add a bar; None where there is no terminal."""
        if not self._bars:
            return None
        if self._progress is None:
            # rich has one live display for a console, so all bars share it.
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[told]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=self.console,
                transient=True,
            )
            self._progress.start()
        return self._progress.add_task(what, total=total, told="")

    def update_bar(self, bar: TaskID | None, **fields: Any) -> None:
        """Change a bar that `add_bar` returned."""
        if bar is not None and self._progress is not None:
            self._progress.update(bar, **fields)

    def remove_bar(self, bar: TaskID | None) -> None:
        """Remove a bar, and with the last one the display."""
        if bar is None or self._progress is None:
            return
        self._progress.remove_task(bar)
        if not self._progress.tasks:
            self._progress.stop()
            self._progress = None

    def line(self, text: Callable[[], str]) -> None:
        """Write a line to a log, unless one was written less than 30 seconds ago."""
        now = self.clock()
        if not self._bars and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.console.print(text(), markup=False, emoji=False, highlight=False, soft_wrap=True)


class Work:
    """A piece of work that `Display.doing` shows; a function of how many of its units are done."""

    def __init__(self, display: Display, what: str, total: int | None, unit: str) -> None:
        self.display, self.what, self.total, self.unit = display, what, total, unit
        self._bar = display.add_bar(what, total)
        self._began = display.clock()

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show that `done` units are done, of `total` where that has become known."""
        self.total = self.total if total is None else total
        self.display.update_bar(self._bar, completed=done, total=self.total)
        self.display.line(lambda: self._told(done))

    def end(self) -> None:
        """Take it off the terminal."""
        self.display.remove_bar(self._bar)
        self._bar = None

    def _told(self, done: int) -> str:
        if not self.total:
            return f"{self.what}: {done:,} {self.unit}"
        left = (self.display.clock() - self._began) / max(done, 1) * (self.total - done)
        return f"{self.what}: {done:,} of {self.total:,} {self.unit}, {duration(left)} left"


def duration(seconds: float) -> str:
    """Return a length of time as people say it, such as `45 s`, `8 min` or `1 h 20 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
