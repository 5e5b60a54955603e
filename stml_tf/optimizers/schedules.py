"""Learning rate over epochs: linear warm-up, then constant or cosine (Loshchilov and Hutter, "SGDR", ICLR 2017)."""

import math
from typing import Any, Literal

import keras
from keras import ops

from stml_tf.errors import UserError

SCHEDULES = ("cosine", "constant")
PACES = ("epoch", "step")


@keras.saving.register_keras_serializable(package="stml_tf")
class EpochSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that warms up linearly, then stays constant or falls to 0 along half a cosine.

    With E epochs, W of them warm-up, the rate in epoch e = 0, 1, ... is `learning_rate * (e + 1) / (W + 1)` while
    e < W, and from there on `learning_rate * (1 + cos(pi * (e - W) / (E - W))) / 2` for `cosine`. After epoch E it
    keeps its last value. `by="step"` counts steps instead of epochs.

    Args:
        learning_rate: The highest rate, 0 or more.
        name: "cosine" or "constant".
        epochs: Number of epochs, 1 or more.
        steps_per_epoch: Optimizer steps in an epoch, 1 or more.
        warmup_epochs: Number of epochs that are warm-up, from 0 to `epochs - 1`.
        by: Whether the rate changes once an "epoch" or at every "step".

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        name: Literal["cosine", "constant"] = "cosine",
        epochs: int,
        steps_per_epoch: int,
        warmup_epochs: int = 0,
        by: Literal["epoch", "step"] = "epoch",
    ) -> None:
        for argument, value, allowed, within in (
            ("learning_rate", learning_rate, "0 or more", learning_rate >= 0),
            ("name", name, f"one of {', '.join(SCHEDULES)}", name in SCHEDULES),
            ("epochs", epochs, "1 or more", epochs >= 1),
            ("steps_per_epoch", steps_per_epoch, "1 or more", steps_per_epoch >= 1),
            ("warmup_epochs", warmup_epochs, f"from 0 to epochs - 1 = {epochs - 1}", 0 <= warmup_epochs < epochs),
            ("by", by, f"one of {', '.join(PACES)}", by in PACES),
        ):
            if not within:
                raise UserError(f"EpochSchedule: {argument} must be {allowed}, but {value!r} was given.")
        super().__init__()
        self.learning_rate = learning_rate
        self.name = name
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.warmup_epochs = warmup_epochs
        self.by = by

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step.

        Args:
            step: Integer scalar, the number of optimizer steps taken so far.

        Returns:
            The rate of the next step, a float32 scalar.
        """
        units_per_epoch = 1 if self.by == "epoch" else self.steps_per_epoch
        time = step // self.steps_per_epoch if self.by == "epoch" else step
        time = ops.cast(time, "float32")
        warmup = self.warmup_epochs * units_per_epoch
        rising = (time + 1) / (warmup + 1)
        progress = ops.clip((time - warmup) / (self.epochs * units_per_epoch - warmup), 0, 1)
        falling = (1 + ops.cos(math.pi * progress)) / 2 if self.name == "cosine" else ops.ones_like(progress)
        return self.learning_rate * ops.where(time < warmup, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Return all arguments as plain values."""
        return {
            "learning_rate": self.learning_rate,
            "name": self.name,
            "epochs": self.epochs,
            "steps_per_epoch": self.steps_per_epoch,
            "warmup_epochs": self.warmup_epochs,
            "by": self.by,
        }
