"""Whenever a process is killed while it saves a checkpoint, the next one goes on as if nothing had been."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "check",
    [
        "before_any_is_removed",
        "while_the_first_is_removed",
        "while_one_within_an_epoch_is_removed",
        "again_and_again",
        "while_one_of_the_same_moment_is_replaced",
        "with_a_foreign_file_in_one_that_goes",
    ],
)
def test_killed_at_any_moment_it_goes_on_as_if_nothing_had_been(tmp_path, check):
    done = subprocess.run(
        [sys.executable, "-m", "tests.fitting.killed_checkpoints", check, tmp_path],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stdout == "as if nothing had been\n", done.stderr
