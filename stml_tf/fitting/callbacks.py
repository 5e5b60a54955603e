"""What happens around the steps: neighbours anew, measuring, and stopping when numbers go wrong."""

import math
import signal
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from stml_tf.evaluation.neighbors import nearest_neighbors


class TrainingStopped(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to do."""


class TrainingRuined(TrainingStopped):
    """What has been learned is of no use: it collapsed, or is no longer a number."""


class TrainingInterrupted(RuntimeError):
    """A signal asked training to stop, and it did; the message says how to go on.

    Args:
        message: For people.
        received: The signal.

    Attributes:
        exit_status: What a process ends with that such a signal has stopped.
    """

    def __init__(self, message: str, received: signal.Signals) -> None:
        super().__init__(message)
        self.exit_status = 128 + received


class NeighborBatchesCallback(keras.callbacks.Callback):
    """Finds every image's nearest neighbours at the start of an epoch and lays out its batches.

    Args:
        embed: Gives the student's `g` of all training images, `[num_images, teacher_dim]`, Euclidean, not normalised.
        batches: From the epoch's number and the neighbours `[num_images, num_neighbors]`, each image itself first, to
            `[steps_per_epoch, batch_size]` image indices. Without neighbours to find it is given None.
        num_neighbors: Images in a group, the query included; with 1 nothing is embedded and searched.
    """

    def __init__(
        self,
        embed: Callable[[], np.ndarray],
        batches: Callable[[int, np.ndarray | None], np.ndarray],
        *,
        num_neighbors: int,
    ) -> None:
        super().__init__()
        self.embed = embed
        self.batches = batches
        self.num_neighbors = num_neighbors
        self._current: tuple[int, np.ndarray] | None = None
        self._goes_on = False

    def go_on(self, epoch: int, batches: np.ndarray) -> None:
        """Keep the batches `[steps_per_epoch, batch_size]` of an epoch that has begun already, when it begins again."""
        self._current, self._goes_on = (epoch, batches), True

    def current(self) -> tuple[int, np.ndarray]:
        """Return the current epoch and its batches, which `training_batches` asks for."""
        if self._current is None:
            raise ValueError("No epoch has begun: give this callback to `fit` before its dataset is iterated.")
        return self._current

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._goes_on:
            self._goes_on = False
            return
        neighbors = None
        if self.num_neighbors > 1:
            _, neighbors = nearest_neighbors(self.embed(), k=self.num_neighbors)
        self._current = (epoch, self.batches(epoch, neighbors))


class MeasureCallback(keras.callbacks.Callback):
    """Adds what `measure` returns to the logs of each epoch. Stands before the callbacks that read the logs."""

    def __init__(self, measure: Callable[[], dict[str, float]]) -> None:
        super().__init__()
        self.measure = measure

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs.update(self.measure())


class StopOnNonFinite(keras.callbacks.Callback):
    """Stops a run whose loss or gradient is no longer a number.

    What a method logs are means since the beginning of the epoch, and a mean does not recover from a NaN: to look at
    it seldom is enough, and a GPU need not be waited for at every step.

    Args:
        every: Steps from one look to the next; the end of an epoch is always looked at.

    Raises:
        TrainingRuined: If a logged value or, at the end of an epoch, a variable is NaN or infinite.
    """

    def __init__(self, every: int = 20) -> None:
        super().__init__()
        self.every = every

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if (batch + 1) % self.every == 0:
            self._look_at(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._look_at(logs)
        require_finite(self.model)

    def _look_at(self, logs: dict[str, Any] | None) -> None:
        bad = [name for name, value in (logs or {}).items() if not math.isfinite(float(value))]
        if bad:
            raise _no_longer_numbers(self.model, ", ".join(bad))


def require_finite(model: keras.Model) -> None:
    """Refuse a model with a weight or an optimizer's variable that is NaN or infinite.

    Raises:
        TrainingRuined: If one is.
    """
    optimizers = [value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)]
    groups = {
        "weights": model.variables,
        "the optimizer's variables": [v for each in optimizers for v in each.variables],
    }
    for name, variables in groups.items():
        # One answer for all of them is read from the device.
        sound = [ops.all(ops.isfinite(each)) for each in variables if keras.backend.is_float_dtype(each.dtype)]
        if sound and not bool(ops.all(ops.stack(sound))):
            raise _no_longer_numbers(model, name)


def _no_longer_numbers(model: keras.Model, what: str) -> TrainingRuined:
    return TrainingRuined(
        f"Training stopped at step {int(model.optimizer.iterations.numpy())}: {what} became NaN or infinite. The "
        "checkpoints of the epochs before are intact. Lower optimizer.learning_rate, or give schedule.warmup_epochs."
    )
