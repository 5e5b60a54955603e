import errno
import re
import signal
import warnings

import click
import pytest
import tensorflow as tf
from click.testing import CliRunner

from stml_tf.cli.errors import errors_as_messages, verbose_option
from stml_tf.dry_run import DryRunStopped
from stml_tf.errors import UserError, UserNotice
from stml_tf.fitting.callbacks import TrainingInterrupted, TrainingStopped
from stml_tf.recipe.errors import RecipeError


def ended_by(error, *flags):
    """How a command ends within which an error is raised."""

    @click.command()
    @verbose_option
    def command(verbose):
        with errors_as_messages(verbose):
            raise error

    return CliRunner().invoke(command, flags)


def test_a_notice_is_its_text_alone_and_other_warnings_stay_as_they_are():
    @click.command()
    def command():
        with errors_as_messages(False):
            warnings.warn(UserNotice("epoch-0002 is damaged\x1b[2J"), stacklevel=2)
            warnings.warn("of Python's own kind", stacklevel=2)

    usual = warnings.showwarning
    with pytest.warns(UserWarning, match="of Python's own kind") as others:
        told = CliRunner().invoke(command).stderr
    assert told == "epoch-0002 is damaged\\x1b[2J\n"
    assert [type(each.message) for each in others] == [UserWarning]
    assert warnings.showwarning is usual


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("no images in photos"), 2),
        (RecipeError("recipe.json: not a text file"), 2),
        (FileExistsError("runs/quickstart exists: choose --overwrite"), 2),
        (TrainingStopped("the loss was NaN at step 12"), 1),
        (click.UsageError("no such option"), 2),
    ],
)
def test_an_error_that_is_meant_for_people_is_one_message(error, status):
    result = ended_by(error)
    assert result.exit_code == status
    assert result.output.endswith(f"Error: {error}\n")
    assert "Traceback" not in result.output


@pytest.mark.parametrize("error", [UserError("no images in photos"), TrainingStopped("the loss was NaN")])
def test_verbose_adds_the_traceback(error):
    result = ended_by(error, "--verbose")
    assert result.exit_code == (2 if isinstance(error, UserError) else 1)
    assert result.output.startswith("Traceback")
    assert result.output.endswith(f"Error: {error}\n")


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError("operands could not be broadcast"), TypeError("None"), KeyError("f"), RuntimeError("a bug")),
        *(AssertionError("never"), IndexError(3), UnicodeDecodeError("utf-8", b"a", 0, 1, "invalid")),
        tf.errors.InvalidArgumentError(None, None, "shapes do not fit"),
    ],
    ids=repr,
)
def test_a_fault_of_the_program_keeps_its_traceback(error):
    result = ended_by(error)
    assert result.exception is error
    assert result.exit_code == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "runs/quickstart/metrics.json"),
        TrainingStopped("Could not write checkpoint run/epoch-2: [Errno 28] No space left on device. Then resume."),
        UserError("gallery cannot be written: No space left on device"),
        tf.errors.ResourceExhaustedError(
            None, None, "{{function_node __wrapped__}} events.v2; No space left on device\nCould not flush events file."
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_is_told_whoever_finds_it(error):
    result = ended_by(error)
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: The disk is full \((?!{).*No space left.*\): free some space first\.\n", result.output)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 6.25 TiB for an array"),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[9,9]\n\tmore"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_runs_out_says_what_to_lower(error):
    result = ended_by(error)
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: Out of memory \(.*allocat.*\): lower batch\.size, .* leave more.*\n", result.output)


def test_a_lost_worker_is_told_of_where_there_are_several(monkeypatch):
    error = tf.errors.UnavailableError(None, None, "Socket closed\nAdditional GRPC error information")
    assert ended_by(error).exception is error
    monkeypatch.setenv("TF_CONFIG", "{}")
    result = ended_by(error)
    assert result.exit_code == 1
    assert result.output == (
        "Error: Another worker of this job cannot be reached (Socket closed): check that TF_CONFIG names all of them "
        "and that they can start, end those that still run, then start all of them again with --resume.\n"
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_training_that_was_asked_to_stop_ends_as_the_signal_has_it(number, status):
    result = ended_by(TrainingInterrupted("give the same command with --resume", number))
    assert (result.exit_code, result.output) == (status, "give the same command with --resume\n")


def test_a_dry_run_that_ends_early_is_no_failure():
    result = ended_by(DryRunStopped("extract a to b"))
    told = "Dry run: training would first extract a to b. Nothing was written, so it ends here.\n"
    assert (result.exit_code, result.output) == (0, told)


def test_an_interrupt_ends_quietly():
    result = ended_by(KeyboardInterrupt())
    assert (result.exit_code, result.output) == (130, "")
