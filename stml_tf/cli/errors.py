"""Errors on the command line: a single message without a traceback."""

import errno
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from stml_tf.cli.quiet import hush_tensorflow
from stml_tf.cli.terminal import say, tell, visible_lines
from stml_tf.dry_run import DryRunStopped
from stml_tf.errors import UserError, UserNotice

verbose_option = click.option(
    "--verbose", is_flag=True, help="Show TensorFlow's messages, and the traceback of an error."
)
# TensorFlow's errors by name, as this module does not import it.
LOST_WORKER = ("UnavailableError", "AbortedError", "CancelledError", "DeadlineExceededError")
DISK_FULL = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]


class Stopped(click.ClickException):
    """The error of work that had to stop. File names in its message cannot control the terminal."""

    def __init__(self, message: str) -> None:
        super().__init__(visible_lines(message))


class Refused(Stopped):
    """The error of a request that cannot be fulfilled as it was made."""

    exit_code = 2


class Commands(click.Group):
    """A group of commands whose usage errors, which repeat what was typed, cannot control the terminal either."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _visible_usage_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _visible_usage_errors():
            return super().invoke(ctx)


@contextmanager
def _visible_usage_errors() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        error.message = visible_lines(error.message)
        raise


@contextmanager
def _notices_as_messages() -> Iterator[None]:
    """Show notices without the file and line of the program that Python adds to warnings."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, UserNotice):
                say(str(message))
            else:
                usual(message, category, *place, **more)

        warnings.showwarning = show
        yield


@contextmanager
def errors_as_messages(verbose: bool) -> Iterator[None]:
    """Show an error that is meant for people as a message; any other keeps its traceback.

    The exit status is 2 for a refused request, 1 for a run that had to stop, and 128 plus the signal that interrupted
    it.

    Args:
        verbose: Whether to show TensorFlow's messages, and the traceback of every error.
    """
    if not verbose:
        hush_tensorflow()
    try:
        with _notices_as_messages():
            yield
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        raise  # The reader has seen enough, and click ends quietly.
    except Exception as error:
        told = _as_message(error)
        if told is None:
            raise
        if verbose:
            say(traceback.format_exc())
        raise told from error


def _as_message(error: Exception) -> click.ClickException | SystemExit | None:
    """Return what to raise in place of an error that is meant for people; None for a bug."""
    if isinstance(error, DryRunStopped):
        tell(str(error))
        return SystemExit(0)
    # By its wording, as TensorFlow writes summaries and SavedModels itself and raises its own errors.
    full = [line for line in str(error).splitlines() if any(words in line for words in DISK_FULL)]
    if full:
        reason = re.sub(r"^{{function_node .*?}} ", "", full[0])
        return Stopped(f"The disk is full ({reason}): free some space first.")
    if isinstance(error, RuntimeError):
        from stml_tf.fitting.callbacks import TrainingInterrupted, TrainingStopped

        if isinstance(error, TrainingInterrupted):
            say(str(error))
            return SystemExit(error.exit_status)
        if isinstance(error, TrainingStopped):
            return Stopped(str(error))
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "ResourceExhaustedError":
        return Stopped(
            f"Out of memory ({_first_line(error)}): lower batch.size, views.size or --batch-size, raise "
            "training.accumulate, or leave more memory free."
        )
    if os.environ.get("TF_CONFIG") and name in LOST_WORKER:
        return Stopped(
            f"Another worker of this job cannot be reached ({_first_line(error)}): check that TF_CONFIG names all of "
            "them and that they can start, end those that still run, then start all of them again with --resume."
        )
    return Refused(str(error)) if isinstance(error, UserError | OSError) else None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
