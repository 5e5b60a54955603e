import os
import pty
import subprocess
import sys

import pytest

PROGRAM = """
from rich.console import Console
from stml_tf.cli.quiet import hush_tensorflow, import_tensorflow
from stml_tf.cli.terminal import plain_text_if_asked
plain_text_if_asked()
hush_tensorflow()
import_tensorflow()
from stml_tf.monitoring.display import Display
from rich.text import Text
console = Console()
with Display(console).doing("embedding test images", 4) as work:
    work(2)
    console.print(Text("collapsing", style="bold red"))
"""


def on_a_terminal(**environment):
    """What the program writes to a terminal."""
    terminal, program = pty.openpty()
    given = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM", "COLORTERM")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=program,
        stdout=program,
        stderr=program,
        env={**given, "TERM": "xterm-256color", **environment},
    )
    os.close(program)
    written = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the program has ended, and with it the other side
            break
        if not piece:
            break
        written += piece
    assert process.wait() == 0, written.decode()
    os.close(terminal)
    return written.decode()


def test_a_terminal_sees_what_is_loaded_a_bar_and_colours():
    written = on_a_terminal()
    assert "Loading TensorFlow ..." in written
    assert "embedding test images" in written
    assert "\x1b[1;31mcollapsing" in written


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color_and_a_dumb_terminal_mean_plain_text(environment):
    assert on_a_terminal(**environment) == "collapsing\r\n"
