"""How a command ends that cannot do what it was asked: in one message, without a traceback."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from stml_tf.quiet import hush_tensorflow

verbose_option = click.option(
    "--verbose", is_flag=True, help="Show TensorFlow's messages, and the traceback of an error."
)


class Refused(click.ClickException):
    """What was asked for cannot be done as it was given."""

    exit_code = 2


@contextmanager
def errors_as_messages(verbose: bool) -> Iterator[None]:
    """Tell of an error in one message: exit status 2, 1 where a run had to stop, 130 where it was interrupted."""
    if not verbose:
        hush_tensorflow()
    try:
        yield
    except (ValueError, OSError) as error:
        _show_traceback(verbose)
        raise Refused(str(error)) from error
    except RuntimeError as error:
        from stml_tf.training.callbacks import TrainingStopped

        if not isinstance(error, TrainingStopped):
            raise
        _show_traceback(verbose)
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(130)


def _show_traceback(verbose: bool) -> None:
    if verbose:
        click.echo(traceback.format_exc(), err=True)
