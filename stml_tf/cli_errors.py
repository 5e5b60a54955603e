"""How a command ends that cannot do what it was asked: in one message, without a traceback."""

import errno
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from stml_tf.quiet import hush_tensorflow

verbose_option = click.option(
    "--verbose", is_flag=True, help="Show TensorFlow's messages, and the traceback of an error."
)


DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Refused(click.ClickException):
    """What was asked for cannot be done as it was given."""

    exit_code = 2


@contextmanager
def errors_as_messages(verbose: bool) -> Iterator[None]:
    """Tell of an error in one message: exit status 2, 1 where a run had to stop, 128 and the signal that stopped it."""
    if not verbose:
        hush_tensorflow()
    try:
        yield
    except (ValueError, OSError) as error:
        _show_traceback(verbose)
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise click.ClickException(f"The disk is full ({error}): free some space first.") from error
        raise Refused(str(error)) from error
    except RuntimeError as error:
        from stml_tf.training.callbacks import TrainingInterrupted, TrainingStopped

        if isinstance(error, TrainingInterrupted):
            click.echo(str(error), err=True)
            sys.exit(error.exit_status)
        if not isinstance(error, TrainingStopped):
            raise
        _show_traceback(verbose)
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(130)


def _show_traceback(verbose: bool) -> None:
    if verbose:
        click.echo(traceback.format_exc(), err=True)
