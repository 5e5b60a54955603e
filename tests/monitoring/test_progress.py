import re
from io import StringIO
from itertools import count

import keras
import numpy as np
import pytest
from rich.console import Console

from stml_tf.monitoring.display import Display
from stml_tf.monitoring.progress import ProgressCallback


class AddRecall(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["recall@1"] = 0.25 * (epoch + 1)


class Explode(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise RuntimeError("boom")


def fit(console, *others, **options):
    """Fits a small model, by a clock that goes on by a millisecond whenever somebody looks at it."""
    clock = count(step=0.001).__next__
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    images = np.ones((12, 2), np.float32)
    with ProgressCallback(images_per_batch=4, display=Display(console, clock=clock)) as progress:
        model.fit(images, images[:, :1], batch_size=4, verbose=0, callbacks=[*others, progress], **options)
    return progress


def test_a_log_gets_one_plain_line_per_epoch():
    console = Console(file=StringIO(), width=200)
    fit(console, AddRecall(), epochs=2)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2
    assert re.fullmatch(
        r"epoch 1/2  recall@1 25\.0 %  loss \d+\.\d{4}  [\d,]+ images/s  \d+\.\d s  \d+ s left", lines[0]
    )
    assert re.fullmatch(r"epoch 2/2  recall@1 50\.0 %  loss \d+\.\d{4}  [\d,]+ images/s  \d+\.\d s", lines[1])


def run_by_the_clock(console, *, epochs, first_step, step, steps, after):
    """Calls the callback as `fit` would, by a clock on which each step takes `step` seconds and measuring `after`."""
    now = 0.0
    progress = ProgressCallback(images_per_batch=8, display=Display(console, clock=lambda: now))
    progress.set_params({"epochs": epochs, "steps": steps})
    progress.on_train_begin()
    for epoch in range(epochs):
        progress.on_epoch_begin(epoch)
        for batch in range(steps):
            now += first_step if (epoch, batch) == (0, 0) else step
            progress.on_train_batch_end(batch, {"loss": 0.5})
        now += after
        progress.on_epoch_end(epoch, {"loss": 0.5})
    return now


def test_speed_and_time_left_leave_out_that_the_first_step_traces_the_graph():
    console = Console(file=StringIO(), width=200)
    run_by_the_clock(console, epochs=4, first_step=41.0, step=1.0, steps=10, after=5.0)
    lines = [line for line in console.file.getvalue().splitlines() if "loss" in line]
    # 15 seconds an epoch from now on.
    assert lines[0] == "epoch 1/4  loss 0.5000  8 images/s  55.0 s  45 s left"
    assert lines[1:] == [
        "epoch 2/4  loss 0.5000  8 images/s  15.0 s  30 s left",
        "epoch 3/4  loss 0.5000  8 images/s  15.0 s  15 s left",
        "epoch 4/4  loss 0.5000  8 images/s  15.0 s",
    ]


def test_a_log_hears_of_a_long_epoch_every_30_seconds():
    console = Console(file=StringIO(), width=200)
    run_by_the_clock(console, epochs=1, first_step=10.0, step=10.0, steps=7, after=0.0)
    assert console.file.getvalue().splitlines()[:2] == [
        "epoch 1/1, step 3 of 7  1 images/s",
        "epoch 1/1, step 6 of 7  1 images/s",
    ]


def test_a_resumed_run_counts_on():
    console = Console(file=StringIO(), width=200)
    fit(console, epochs=3, initial_epoch=2)
    assert console.file.getvalue().startswith("epoch 3/3  loss ")
    assert "recall" not in console.file.getvalue()


def test_a_terminal_gets_a_bar_with_loss_speed_and_time_left():
    console = Console(file=StringIO(), width=200, force_terminal=True, color_system=None)
    display = Display(console)
    progress = ProgressCallback(images_per_batch=4, display=display)
    progress._shown -= 1  # what was shown last is old enough to be replaced
    progress.set_params({"epochs": 2, "steps": 2})
    progress.on_epoch_begin(0)
    progress.on_train_batch_end(0, {"loss": 0.5})
    bar = display._progress
    assert (bar.tasks[0].completed, bar.tasks[0].total) == (1, 4)
    with console.capture() as capture:
        console.print(bar.get_renderable())
    assert re.search(r"epoch 1/2 .* 25 % loss 0\.5000 [\d,]+ images/s \d:\d\d:\d\d \S+ left", capture.get())
    progress.on_train_batch_end(1, {"loss": 0.5})
    progress.on_epoch_end(0, {"loss": 0.5})
    progress.on_epoch_begin(1)
    # Where several steps run at once, only the last of them is reported.
    progress.on_train_batch_end(1, {"loss": 0.5})
    assert (bar.tasks[0].completed, bar.tasks[0].description) == (4, "epoch 2/2")
    progress.on_train_end()
    assert bar.live.is_started is False
    assert "epoch 1/2  loss 0.5000" in console.file.getvalue()


def test_the_bar_is_gone_after_an_error():
    console = Console(file=StringIO(), width=200, force_terminal=True, color_system=None)
    with pytest.raises(RuntimeError, match="boom"):
        fit(console, Explode(), epochs=1)
    assert console.file.getvalue().count("\x1b[?25l") == console.file.getvalue().count("\x1b[?25h") == 1
