"""Records what each epoch logged, as soon as it is over: what is known of a run that does not come to its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

Epochs = list[dict[str, float | None]]


class RecordCallback(keras.callbacks.Callback):
    """Hands over the logs of all epochs that are over. Stands behind the callbacks that add to the logs.

    Args:
        write: Is called with what each epoch logged, by name; None for what was not finite.
        epochs: What the complete epochs of a run that is resumed logged.
    """

    def __init__(self, write: Callable[[Epochs], None], *, epochs: Sequence[dict[str, float | None]] = ()) -> None:
        super().__init__()
        self.write = write
        self.epochs: Epochs = list(epochs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.epochs.append({name: value if math.isfinite(value) else None for name, value in values.items()})
        self.write(self.epochs)
