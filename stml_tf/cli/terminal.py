"""Output of commands: numbers with nouns, progress, and names that cannot control the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from stml_tf.visible import visible, visible_lines

__all__ = [
    "number",
    "plain_text_if_asked",
    "progress",
    "say",
    "tell",
    "visible",
    "visible_lines",
    "waiting",
    "while_loading",
]


def number(count: int, noun: str = "image") -> str:
    """Return a count with its noun, such as `1,234 images`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def tell(text: str = "") -> None:
    """Print a result to standard output. Control characters in it are escaped, except line breaks."""
    click.echo(visible_lines(text))


def say(text: str) -> None:
    """Print a message that is not a result to standard error, so that results can be piped."""
    click.echo(visible_lines(text), err=True)


def plain_text_if_asked() -> None:
    """Make NO_COLOR mean plain text, as rich would still write in bold, and move the cursor for its bars."""
    if os.environ.get("NO_COLOR"):
        os.environ["TERM"] = "dumb"


@contextmanager
def while_loading(what: str) -> Iterator[None]:
    """Say what is being loaded within the block, if there is a terminal."""
    shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if shown:
        print(f"Loading {what} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


@contextmanager
def progress(verb: str, unit: str = "images") -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the speed, if there is a terminal.

    Args:
        verb: What is being done.
        unit: What is counted.

    Yields:
        A function to call with how many are done, and of how many.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn(verb),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal or console.is_dumb_terminal,
    ) as bar:
        task = bar.add_task(verb, total=None, speed="")

        def on_progress(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total, speed=f"{speed:,.0f} {unit}/s" if speed else "")

        yield on_progress


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say what is waited for within the block, if there is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(what) if console.is_terminal and not console.is_dumb_terminal else _nothing():
        yield


@contextmanager
def _nothing() -> Iterator[None]:
    yield
