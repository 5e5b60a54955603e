import re
from io import StringIO

import keras
import numpy as np
import pytest
from rich.console import Console

from stml_tf.monitoring.progress import ProgressCallback


class AddRecall(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["recall@1"] = 0.25 * (epoch + 1)


class Explode(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise RuntimeError("boom")


def fit(console, *others, **options):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    images = np.ones((12, 2), np.float32)
    with ProgressCallback(images_per_batch=4, console=console) as progress:
        model.fit(images, images[:, :1], batch_size=4, verbose=0, callbacks=[*others, progress], **options)
    return progress


def test_a_log_gets_one_plain_line_per_epoch():
    console = Console(file=StringIO(), width=200)
    fit(console, AddRecall(), epochs=2)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"epoch 1/2  recall@1 25\.0 %  loss \d+\.\d{4}  \d+\.\d s", lines[0])
    assert re.fullmatch(r"epoch 2/2  recall@1 50\.0 %  loss \d+\.\d{4}  \d+\.\d s", lines[1])


def test_a_resumed_run_counts_on():
    console = Console(file=StringIO(), width=200)
    fit(console, epochs=3, initial_epoch=2)
    assert console.file.getvalue().startswith("epoch 3/3  loss ")
    assert "recall" not in console.file.getvalue()


def test_a_terminal_gets_a_bar_with_loss_speed_and_time_left():
    console = Console(file=StringIO(), width=200, force_terminal=True, color_system=None)
    progress = ProgressCallback(images_per_batch=4, console=console)
    progress.set_params({"epochs": 2, "steps": 2})
    progress.on_epoch_begin(0)
    progress.on_train_batch_end(0, {"loss": 0.5})
    bar = progress._progress
    assert (bar.tasks[0].completed, bar.tasks[0].total) == (1, 4)
    with console.capture() as capture:
        console.print(bar.get_renderable())
    assert re.search(r"epoch 1/2 .* 25 % loss 0\.5000 [\d,]+ images/s 0:00:00 \S+ left", capture.get())
    progress.on_train_batch_end(1, {"loss": 0.5})
    progress.on_epoch_end(0, {"loss": 0.5})
    progress.on_epoch_begin(1)
    # Where several steps run at once, only the last of them is reported.
    progress.on_train_batch_end(1, {"loss": 0.5})
    assert (bar.tasks[0].completed, bar.tasks[0].fields["epoch"]) == (4, "2/2")
    progress.on_train_end()
    assert bar.live.is_started is False
    assert "epoch 1/2  loss 0.5000" in console.file.getvalue()


def test_the_bar_is_gone_after_an_error():
    console = Console(file=StringIO(), width=200, force_terminal=True, color_system=None)
    with pytest.raises(RuntimeError, match="boom"):
        fit(console, Explode(), epochs=1)
    assert console.file.getvalue().count("\x1b[?25l") == console.file.getvalue().count("\x1b[?25h") == 1
