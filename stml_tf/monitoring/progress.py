"""Progress of training: one bar over all epochs, and a line for each that is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from rich.progress import TaskID
from rich.text import Text

from stml_tf.evaluation.health import Verdict
from stml_tf.monitoring.display import Display, duration

__all__ = ["ProgressCallback"]


class ProgressCallback(keras.callbacks.Callback):
    """A callback that shows the progress of `fit`, with loss, speed and remaining time.

    In a file or a log there is no bar, but a line every 30 seconds, and one for each epoch. Callbacks that add to the
    logs (`recall@1` is shown where it is there) go before this one. As a context manager it also takes the bar away
    after an error.

    Args:
        images_per_batch: How many images a batch holds.
        display: Where to show it.
        verdict: Says what the epoch's health amounts to; None where that is not known.
    """

    def __init__(
        self,
        *,
        images_per_batch: int,
        display: Display,
        verdict: Callable[[], Verdict | None] = lambda: None,
    ) -> None:
        super().__init__()
        self.images_per_batch = images_per_batch
        self.display = display
        self.verdict = verdict
        self._bar: TaskID | None = None
        self._shown = display.clock()
        self._epoch_began = display.clock()
        self._name = ""
        self._steps = _Steps(display.clock())

    def __enter__(self) -> ProgressCallback:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._epoch_began = self.display.clock()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._bar is None:
            self._bar = self.display.add_bar("", None)
        self._name = f"{epoch + 1}/{self.params['epochs']}"
        self._steps = _Steps(self.display.clock())
        steps = self.params.get("steps")  # fewer where a run goes on in the middle of an epoch
        self.display.update_bar(
            self._bar,
            description=f"epoch {self._name}",
            total=steps and steps * self.params["epochs"],
            completed=(steps or 0) * epoch,
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        advance = batch + 1 - self._steps.count
        self._steps.took(batch + 1, self.display.clock())
        self.display.update_bar(self._bar, advance=advance)
        # Reading a loss waits for the device: only where somebody sees it, and no more often than they can read.
        if self._bar is not None and self._due():
            self.display.update_bar(self._bar, told=f"{_loss(logs)} {self._speed()}")
        self.display.line(lambda: f"epoch {self._name}, step {batch + 1}{self._of_steps()}  {self._speed()}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        now = self.display.clock()
        seconds, self._epoch_began = now - self._epoch_began, now
        logs = logs or {}
        # Health stands where one looks first: the loss may rise in a good run and fall in one that is ruined.
        line = Text(f"epoch {self._name}")
        if "health" in logs:
            line.append(f"  health {float(logs['health']):.3f}")
        if "recall@1" in logs:
            line.append(f"  recall@1 {100 * float(logs['recall@1']):.1f} %")
        line.append(f"  {_loss(logs)}  {self._speed()}  {seconds:.1f} s")
        if epochs_left := self.params["epochs"] - epoch - 1:
            # Tracing the graph makes the very first step long, and happens once.
            line.append(f"  {duration((seconds - self._steps.excess_of_first) * epochs_left)} left")
        if told := self.verdict():
            line.append(f"  {told.value}", style="" if told is Verdict.HEALTHY else "bold red")
        self.display.console.print(line, soft_wrap=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal; harmless when there is none."""
        self.display.remove_bar(self._bar)
        self._bar = None

    def _due(self) -> bool:
        now = self.display.clock()
        due = now - self._shown > 0.2
        if due:
            self._shown = now
        return due

    def _speed(self) -> str:
        return f"{self._steps.per_second * self.images_per_batch:,.0f} images/s"

    def _of_steps(self) -> str:
        steps = self.params.get("steps")
        return f" of {steps}" if steps else ""


class _Steps:
    """The times of an epoch's steps, whose first one may be longer than the others."""

    def __init__(self, began: float) -> None:
        self.count = 0
        self._began = self._first_ended = self._ended = began
        self._first_count = 0

    def took(self, count: int, now: float) -> None:
        """Note that `count` steps have ended."""
        if self.count == 0:
            self._first_ended, self._first_count = now, count
        self.count, self._ended = count, now

    @property
    def per_second(self) -> float:
        """Steps in a second, without the first where there are others."""
        others = self.count - self._first_count
        if others:
            return others / max(self._ended - self._first_ended, 1e-9)
        return self.count / max(self._ended - self._began, 1e-9)

    @property
    def excess_of_first(self) -> float:
        """Seconds by which the first step was longer than the others."""
        return max(0.0, self._first_ended - self._began - self._first_count / max(self.per_second, 1e-9))


def _loss(logs: dict[str, Any] | None) -> str:
    return f"loss {float(logs['loss']):.4f}" if logs and "loss" in logs else ""
