"""Training of a run's model, from the beginning or a checkpoint, to the end or until a signal stops it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras

from stml_tf.distribution.devices import distribute_batches, sum_over_workers
from stml_tf.distribution.workers import is_chief, worker
from stml_tf.fitting.callbacks import MeasureCallback, StopOnNonFinite, TrainingStopped
from stml_tf.fitting.checkpoint_callback import CheckpointCallback
from stml_tf.fitting.checkpoints import Checkpoint, Checkpoints
from stml_tf.fitting.health_callback import SCORE, HealthCallback, StopWhenCollapsed
from stml_tf.fitting.record_callback import RecordCallback
from stml_tf.fitting.resumable_fit import fit_from
from stml_tf.fitting.speed_callback import SpeedCallback
from stml_tf.fitting.stop_signals import StopSignals
from stml_tf.monitoring import ProgressCallback, Summaries, say
from stml_tf.monitoring.trackers import Tracker
from stml_tf.runs.health import health_callback, stops_when_collapsed
from stml_tf.runs.history import write_history
from stml_tf.runs.measure import Agreement, StudentRetrieval, measure_epoch
from stml_tf.runs.prepare import Run
from stml_tf.runs.tensorboard import callbacks_for

History = list[dict[str, float | None]]
Watch = Callable[[int, Mapping[str, float]], None]  # of the number of complete epochs, and what the last one logged


class GivenUp(Exception):
    """Raised by who watches a run, to end it: it is not worth going on."""


def take_one_step(run: Run) -> None:
    """Train on a single batch without writing anything."""
    batch = distribute_batches(run.batches(part=worker()).take(1), run.strategy)
    fit_from(run.model, lambda: batch, epochs=1, callbacks=[run.neighbors, StopOnNonFinite()])


def checkpoint_to_resume(run: Run) -> Checkpoint | None:
    """Return the newest intact checkpoint in the run folder; if there is none, say so and return None."""
    found = Checkpoints(run.folder.checkpoints).latest()
    if found is None:
        say(run.console, f"No intact checkpoint in {run.folder.checkpoints}: starting from the beginning")
    return found


def fit(
    run: Run,
    summaries: Summaries,
    student: StudentRetrieval,
    *,
    free: Mapping[str, Mapping[str, float]] | None = None,
    resume_from: Checkpoint | None = None,
    watch: Watch | None = None,
    trackers: Sequence[Tracker] = (),
) -> History:
    """Train to the end of the recipe's last epoch; a method that does not train only leaves a checkpoint.

    Args:
        run: The run; its model is trained.
        summaries: What TensorBoard shows of it.
        student: Measures its student after each epoch.
        free: Metrics of what can be had without training, by name, to compare with in TensorBoard.
        resume_from: The checkpoint to resume from; None: start from the beginning.
        watch: Is called when an epoch is over, its checkpoint too; what it raises ends the run.
        trackers: Log each epoch elsewhere.

    Returns:
        What each epoch logged, by name; None for what was not finite.

    Raises:
        TrainingStopped: If the loss is no longer a number, or a checkpoint cannot be written.
        TrainingInterrupted: If SIGTERM or Ctrl-C came and a checkpoint was written.
    """
    if not run.recipe.trains:
        return _keep_as_it_is(run)
    stop = StopSignals(sum_over_workers(run.strategy))
    keeps_best = run.recipe.training.keep == "best"
    store = Checkpoints(run.folder.checkpoints, best_by=SCORE if keeps_best else "recall@1")
    checkpoints = CheckpointCallback(
        store,
        run.neighbors,
        stop=stop,
        every=run.recipe.training.checkpoint_steps,
        write=is_chief(),
        num_classes=run.data.num_classes,
    )
    if resume_from:
        checkpoints.resume(run.model, resume_from)
        say(run.console, f"Resuming from {resume_from.path}")
    health = health_callback(run, epochs_done=checkpoints.epoch)
    if health:
        health.go_on(checkpoints.history)
    progress = ProgressCallback(
        images_per_batch=run.data.batches.batch_size, display=run.display, verdict=lambda: health and health.verdict
    )
    shown = [*callbacks_for(run, summaries, health, free or {}, epochs_done=checkpoints.epoch), *trackers]
    record = RecordCallback(partial(write_history, run, health), epochs=checkpoints.history)
    record.write(record.epochs)
    try:
        with stop, progress:
            fit_from(
                run.model,
                partial(_own_batches, run),
                epoch=checkpoints.epoch,
                first_batch=checkpoints.batch,
                epochs=run.recipe.training.epochs,
                callbacks=[
                    *_in_order(run, student, health, shown, progress, record, checkpoints),
                    *([_Watched(watch)] if watch else []),
                ],
            )
    except TrainingStopped as stopped:
        write_history(run, health, record.epochs, stopped=str(stopped))
        raise
    if keeps_best and (best := store.best()):
        store.restore(run.model, best)
        say(run.console, f"The network of epoch {best.epoch} is kept: its health, {best.metrics[SCORE]:.3f}, was best.")
    return checkpoints.history


def _keep_as_it_is(run: Run) -> History:
    """Write a checkpoint of a run whose method does not train, so that it is evaluated and exported like any other."""
    if is_chief():
        Checkpoints(run.folder.checkpoints).save(
            run.model, epoch=0, step=0, metrics={}, extra={"history": [], "num_classes": run.data.num_classes}
        )
        write_history(run, None, [])
    return []


def _own_batches(run: Run, **at: Any) -> Any:
    """Return this worker's part of the batches, divided among its devices."""
    return distribute_batches(run.batches(part=worker(), **at), run.strategy)


def _in_order(
    run: Run,
    student: StudentRetrieval,
    health: HealthCallback | None,
    shown: list[keras.callbacks.Callback],
    progress: ProgressCallback,
    record: RecordCallback,
    checkpoints: CheckpointCallback,
) -> list[keras.callbacks.Callback]:
    """Put the callbacks into the order in which they are called at each step and epoch."""
    stop_when_collapsed = [StopWhenCollapsed(health)] if health and stops_when_collapsed(run) else []
    return [
        SpeedCallback(images_per_batch=run.data.batches.batch_size),  # before everything that takes time
        StopOnNonFinite(),  # a run that has diverged must not be measured, shown or kept
        run.neighbors,  # before anything asks which batches the epoch has
        *([run.rewhiten] if run.rewhiten else []),  # changes the network that the next ones measure and keep
        MeasureCallback(partial(measure_epoch, run, student, Agreement(run))),  # adds to the logs, which others read
        *([health] if health else []),  # likewise
        *shown,
        progress,
        record,
        *stop_when_collapsed,  # after what tells of an epoch, before what keeps its network
        checkpoints,  # last: a checkpoint means that the epoch is complete, and a signal to stop ends the run here
    ]


class _Watched(keras.callbacks.Callback):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.watch(epoch + 1, logs or {})
