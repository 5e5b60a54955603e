"""What an epoch costs: time, images a second, and memory."""

from __future__ import annotations

import sys
import time
from typing import Any

import keras

try:
    import resource
except ImportError:  # Windows
    resource = None


class SpeedCallback(keras.callbacks.Callback):
    """Adds to the logs of each epoch what it cost. Stands first, so that the time of others is not the epoch's.

    `speed/epoch_seconds` is the time from the search for neighbours to the last step, without what is measured after
    it; `speed/images_per_second` that of the steps alone; `speed/peak_memory_gb` the largest memory of this process so
    far, in 10^9 bytes, where the system tells; `learning_rate` the one of the last step.

    Args:
        images_per_batch: How many images a batch holds.
    """

    def __init__(self, *, images_per_batch: int) -> None:
        super().__init__()
        self.images_per_batch = images_per_batch
        self._epoch_began = self._steps_began = 0.0
        self._first_batch: int | None = None
        self._batches = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch_began = time.perf_counter()
        self._first_batch, self._batches = None, 0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._first_batch is None:
            self._first_batch, self._steps_began = batch, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches = batch + 1 - (self._first_batch or 0)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is None:
            return
        now = time.perf_counter()
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        logs["speed/epoch_seconds"] = now - self._epoch_began
        logs["speed/images_per_second"] = self._batches * self.images_per_batch / max(now - self._steps_began, 1e-9)
        if (peak := peak_memory()) is not None:
            logs["speed/peak_memory_gb"] = peak / 1e9


def peak_memory() -> int | None:
    """Return the peak memory of this process in bytes; None if the system does not tell."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
