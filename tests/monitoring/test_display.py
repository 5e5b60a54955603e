from io import StringIO

import pytest
from rich.console import Console

from stml_tf.monitoring.display import Display, duration


def a_log():
    return Console(file=StringIO(), width=200)


def a_terminal():
    return Console(file=StringIO(), width=200, force_terminal=True, color_system=None)


def test_a_log_hears_of_long_work_every_30_seconds_and_of_short_work_never():
    console, now = a_log(), 0.0
    display = Display(console, clock=lambda: now)
    with display.doing("embedding test images", 2_000) as work:
        for second in range(70):
            now = float(second)
            work(10 * second)
    with display.doing("drawing") as work:
        work(1)
    assert console.file.getvalue().splitlines() == [
        "embedding test images: 300 of 2,000 images, 3 min left",
        "embedding test images: 600 of 2,000 images, 2 min left",
    ]


def test_a_total_may_become_known_later():
    console, now = a_log(), 0.0
    display = Display(console, clock=lambda: now)
    with display.doing("checking") as work:
        now = 30.0
        work(3)
        now = 60.0
        work(6, 12)
    assert console.file.getvalue().splitlines() == ["checking: 3 images", "checking: 6 of 12 images, 60 s left"]


def test_a_terminal_gets_a_bar_for_each_piece_of_work_and_none_afterwards():
    console = a_terminal()
    display = Display(console)
    with display.doing("training", 4) as training:
        training(1)
        with display.doing("embedding test images", 10) as work:
            work(5)
            tasks = [(task.description, task.completed, task.total) for task in display._progress.tasks]
            assert tasks == [("training", 1, 4), ("embedding test images", 5, 10)]
        assert len(display._progress.tasks) == 1
        live = display._progress.live
    assert display._progress is None and not live.is_started
    assert console.file.getvalue().count("\x1b[?25l") == console.file.getvalue().count("\x1b[?25h") == 1


def test_the_bar_is_gone_after_an_error():
    display = Display(a_terminal())
    with pytest.raises(RuntimeError, match="boom"), display.doing("training", 4):
        raise RuntimeError("boom")
    assert display._progress is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3_570, "1 h 0 min"), (4_800, "1 h 20 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
