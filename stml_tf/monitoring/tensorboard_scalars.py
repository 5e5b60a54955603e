"""The curves of a run in TensorBoard, in the order in which one asks about it.

TensorBoard sorts its groups by name, with digits before letters. Is it learning (`health`, `loss`)? What does it think
belongs together (`neighbors`, `pseudo_labels`)? What came out (`retrieval`)? With which settings, how fast (`steps`,
`train`)? These come in the right order by themselves; the overview of them all comes first because it begins with a 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from stml_tf.monitoring.summaries import Summaries
from stml_tf.registry import log_group

__all__ = ["OVERVIEW", "SHOWN_BESIDE_SETTINGS", "FreeBaselines", "TensorBoardScalars"]

OVERVIEW = "0_overview"
_OVERVIEW_OF = {
    "health": "health",
    "recall@1": "recall@1",
    "health/effective_rank": "effective_rank",
    "speed/epoch_seconds": "epoch_seconds",
}
SHOWN_BESIDE_SETTINGS = {f"{OVERVIEW}/recall@1": "R@1", "retrieval/map@r": "MAP@R", f"{OVERVIEW}/health": "health"}

_RETRIEVAL = ("map@r", "r_precision", "nmi")
# Counts of the test images, the same at each epoch.
_CONSTANT = ("queries", "queries_without_match")
# A run of so many steps has a point for each of them; of longer ones, about as many up to the largest distance.
_POINTS = 500
_FARTHEST = 50


class TensorBoardScalars(keras.callbacks.Callback):
    """A callback that writes the logs of each epoch, and the losses now and then in between.

    The values of an epoch are drawn over epochs, those within an epoch over optimizer steps, under `steps/`. The group
    of a name comes from the register of methods; retrieval metrics are under `retrieval/`, everything else under
    `train/`. The overview repeats what one looks at first: health, Recall@1, effective rank, and the seconds of an
    epoch. Callbacks that add to the logs have to come before this one.

    Args:
        summaries: Where to write. It is left open.
        every: Batches between two records within an epoch. Each waits for the device, so frequent ones are slow. None:
            every batch of a short run, at most every 50th of a long one.

    Raises:
        ValueError: If `every` is below 1.
    """

    def __init__(self, summaries: Summaries, *, every: int | None = None) -> None:
        super().__init__()
        if every is not None and every < 1:
            raise ValueError(f"every is {every}, but must be at least 1 batch")
        self.summaries = summaries
        self.every = every
        self._distance = every or 1
        self._first_step = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.every is None:
            steps = (self.params.get("steps") or 0) * self.params["epochs"]
            self._distance = max(1, min(_FARTHEST, steps // _POINTS))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # The optimizer's own count continues in a resumed run.
        self._first_step = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if (batch + 1) % self._distance == 0:
            losses = {name: value for name, value in (logs or {}).items() if _tag(name).startswith("loss/")}
            tags = {f"steps/{name}": value for name, value in losses.items()}
            self.summaries.scalars(tags, step=self._first_step + batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.summaries.scalars(epoch_scalars(self.model, logs or {}), step=epoch + 1)
        self.summaries.flush()


class FreeBaselines(keras.callbacks.Callback):
    """Draws what is free as lines into the chart of Recall@1: each is a run of its own to TensorBoard.

    Args:
        summaries: The writer of the run, below whose folder each baseline has one.
        recall: Recall@1 by the name of the baseline.
    """

    def __init__(self, summaries: Summaries, recall: Mapping[str, float]) -> None:
        super().__init__()
        self.recall = {name: (summaries.beside(name), value) for name, value in recall.items()}
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not self._begun:  # where a resumed run begins, so that no line goes back
            self.draw(epoch)
        self._begun = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.draw(epoch + 1)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        for summaries, _ in self.recall.values():
            summaries.close()

    def draw(self, epoch: int) -> None:
        """Draw the lines as far as an epoch."""
        for summaries, value in self.recall.values():
            summaries.scalars({f"{OVERVIEW}/recall@1": value}, step=epoch)
            summaries.flush()


def epoch_scalars(model: keras.Model, logs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is drawn of an epoch, by tag: what it logged, the learning rate, and the overview of them."""
    values = {"learning_rate": model.optimizer.learning_rate, **logs}
    by_tag = {_tag(name): value for name, value in values.items() if name not in (*_CONSTANT, "health")}
    return {**by_tag, **overview(values)}


def overview(values: Mapping[str, Any]) -> dict[str, Any]:
    """Choose from what was logged or measured what the overview shows, by its tags."""
    return {f"{OVERVIEW}/{shown}": values[name] for name, shown in _OVERVIEW_OF.items() if name in values}


def _tag(name: str) -> str:
    if "/" in name:
        return name
    if name == "loss":
        return "loss/total"
    if name.startswith("recall@") or name in _RETRIEVAL:
        return f"retrieval/{name}"
    return f"{log_group(name) or 'train'}/{name}"
