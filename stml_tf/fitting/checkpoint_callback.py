"""When checkpoints are written, what they hold beside the variables, and how a run goes on from one."""

import math
from signal import Signals
from typing import Any

import keras

from stml_tf.fitting.callbacks import (
    NeighborBatchesCallback,
    TrainingInterrupted,
    TrainingStopped,
    require_finite,
)
from stml_tf.fitting.checkpoints import Checkpoint, Checkpoints
from stml_tf.fitting.stop_signals import StopSignals


class CheckpointCallback(keras.callbacks.Callback):
    """Writes a checkpoint at the end of each epoch, within epochs on request, and when the run is asked to stop.

    Stands behind all other callbacks, so that nothing of an epoch is missing where a checkpoint says that it is over.
    Data order and views are functions of seed, epoch and place. The batches of an epoch also depend on the network at
    its beginning, and the losses that `fit` logs are means since then: a checkpoint within an epoch keeps both.

    Args:
        checkpoints: Where they lie.
        batches: Lays out the epochs.
        stop: Signals to stop.
        every: Batches from one checkpoint to the next, counted through all epochs; None: at the ends of epochs alone.
        write: False follows a run whose checkpoints another process writes.
        num_classes: How many classes the model learns from; kept, as a model with proxies is built again from it.

    Attributes:
        epoch: Epochs that are complete.
        batch: Batches of the next epoch that are done.
        history: What each complete epoch logged, by name; None for what was not finite.

    Raises:
        TrainingInterrupted: After the step, or the end of an epoch, in which a signal to stop was heard.
        TrainingStopped: If a checkpoint cannot be written, or would hold what is NaN or infinite.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        batches: NeighborBatchesCallback,
        *,
        stop: StopSignals,
        every: int | None = None,
        write: bool = True,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.checkpoints = checkpoints
        self.batches = batches
        self.stop = stop
        self.every = every
        self.write = write
        self.num_classes = num_classes
        self.epoch = 0
        self.batch = 0
        self.history: list[dict[str, float | None]] = []
        self._resumed: Checkpoint | None = None
        self._written = False

    def resume(self, model: keras.Model, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint: what is given to `fit` next begins at `epoch` and `batch`.

        Args:
            model: Of the same recipe, compiled.
            checkpoint: An intact one.

        Raises:
            ValueError: If the checkpoint does not fit the model.
        """
        self.checkpoints.restore(model, checkpoint)
        self.epoch, self.batch = checkpoint.epoch, checkpoint.batch
        self.history = list(checkpoint.extra["history"])
        if checkpoint.batch:
            self.batches.go_on(checkpoint.epoch, checkpoint.arrays()["batches"])
            self._resumed = checkpoint

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._resumed is not None:
            self.checkpoints.restore(self.model, self._resumed)  # `fit` has reset the means since the epoch's beginning
            self._resumed = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.batch += 1
        _, batches = self.batches.current()
        if self.batch == len(batches):
            return  # the epoch's end comes next
        due = self.every and (self.epoch * len(batches) + self.batch) % self.every == 0
        asked = self.stop.received()
        if due or asked:
            self._save({}, arrays={"batches": batches})
        self._leave_if(asked)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        self.history.append({name: value if math.isfinite(value) else None for name, value in metrics.items()})
        self.epoch, self.batch = epoch + 1, 0
        self._save(metrics)
        self._leave_if(self.stop.received())

    def _save(self, metrics: dict[str, float], **options: Any) -> None:
        require_finite(self.model)
        if not self.write:
            return
        if self._written and not self.checkpoints.folder.exists():
            raise TrainingStopped(
                f"{self.checkpoints.folder} was deleted while training, and what it held with it: train again."
            )
        try:
            self.checkpoints.save(
                self.model,
                epoch=self.epoch,
                batch=self.batch,
                step=int(self.model.optimizer.iterations.numpy()),
                metrics=metrics,
                extra={"history": self.history, "num_classes": self.num_classes},
                **options,
            )
        except OSError as error:
            raise TrainingStopped(str(error)) from error
        self._written = True

    def _leave_if(self, asked: Signals | None) -> None:
        if asked:
            after = f"batch {self.batch} of epoch {self.epoch + 1}" if self.batch else f"epoch {self.epoch}"
            raise TrainingInterrupted(
                f"Stopped after {after}, as {asked.name} asked, with a checkpoint of it in "
                f"{self.checkpoints.folder}. To resume, repeat the command with --resume.",
                asked,
            )
