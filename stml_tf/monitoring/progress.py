"""Progress of a training run on the terminal: a bar over all epochs, and a line for each that is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from stml_tf.evaluation.health import Verdict

__all__ = ["ProgressCallback", "inspection_progress"]


@contextmanager
def inspection_progress(total: int, console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while images are inspected.

    Args:
        total: Number of images.
        console: Where to show it; only a terminal shows a bar.

    Yields:
        A function to call with the number of images done, and the total.
    """
    with Progress(
        TextColumn("checking images"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("checking", total=total)
        yield lambda done, _: progress.update(task, completed=done)


class ProgressCallback(keras.callbacks.Callback):
    """A callback that shows the progress of `fit`, with loss, speed and remaining time.

    In a file or a log there is no bar, only a plain line for each epoch. Callbacks that add to the logs, such as
    `recall@1`, have to come before this one. Use it as a context manager to remove the bar even after an error.

    Args:
        images_per_batch: Number of images in a batch.
        console: Where to write; None is the standard output.
        verdict: Returns the verdict on the epoch's health; None if it is unknown.
    """

    def __init__(
        self,
        *,
        images_per_batch: int,
        console: Console | None = None,
        verdict: Callable[[], Verdict | None] = lambda: None,
    ) -> None:
        super().__init__()
        self.images_per_batch = images_per_batch
        self.console = console or Console()
        self.verdict = verdict
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._epoch_started = 0.0
        self._batches = 0
        self._shown = 0.0

    def __enter__(self) -> ProgressCallback:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._progress is None:
            self._start()
        self._epoch_started = time.perf_counter()
        self._batches = 0
        steps = self.params.get("steps")  # fewer if a run resumes in the middle of an epoch
        self._progress.update(
            self._task,
            total=steps and steps * self.params["epochs"],
            completed=(steps or 0) * epoch,
            epoch=self._epoch_name(epoch),
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        done, self._batches = batch + 1 - self._batches, batch + 1
        self._progress.advance(self._task, done)
        # Reading a loss waits for the device: do so only if somebody sees it, and no more often than they can read.
        if self.console.is_terminal and self._due():
            self._progress.update(self._task, loss=_loss(logs), speed=f"{self._images_per_second():,.0f} images/s")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        seconds = time.perf_counter() - self._epoch_started
        logs = logs or {}
        # Health comes first: the loss may rise in a good run and fall in a ruined one.
        line = Text(f"epoch {self._epoch_name(epoch)}")
        if "health" in logs:
            line.append(f"  health {float(logs['health']):.3f}")
        if "recall@1" in logs:
            line.append(f"  recall@1 {100 * float(logs['recall@1']):.1f} %")
        line.append(f"  {_loss(logs)}  {seconds:.1f} s")
        if told := self.verdict():
            line.append(f"  {told.value}", style="" if told is Verdict.HEALTHY else "bold red")
        self.console.print(line, soft_wrap=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar from the terminal, if there is one."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _start(self) -> None:
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task("training", epoch="", loss="", speed="")
        self._progress.start()

    def _due(self) -> bool:
        now = time.perf_counter()
        due = now - self._shown > 0.2
        if due:
            self._shown = now
        return due

    def _images_per_second(self) -> float:
        return self._batches * self.images_per_batch / max(time.perf_counter() - self._epoch_started, 1e-9)

    def _epoch_name(self, epoch: int) -> str:
        return f"{epoch + 1}/{self.params['epochs']}"


def _loss(logs: dict[str, Any] | None) -> str:
    return f"loss {float(logs['loss']):.4f}" if logs and "loss" in logs else ""
