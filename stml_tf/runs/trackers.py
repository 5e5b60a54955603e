"""The experiment trackers of a run: opened before its first step, closed with what became of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from stml_tf.distribution.workers import is_chief
from stml_tf.fitting.callbacks import TrainingInterrupted
from stml_tf.monitoring import say
from stml_tf.monitoring.trackers import TRACKERS, Status, Tracker
from stml_tf.runs.fit import GivenUp
from stml_tf.runs.measure import Results, metrics_of
from stml_tf.runs.prepare import Run
from stml_tf.runs.tensorboard import settings_of

TRACKED_AS = "trackers"


@contextmanager
def tracked(run: Run) -> Iterator[list[Tracker]]:
    """Log a run to the trackers that its recipe names; a run that is resumed goes on where it was logged before.

    Args:
        run: The run.

    Yields:
        The callbacks that log; none in workers other than the first.

    Raises:
        UserError: If a tracker does not take the run.
    """
    trackers: list[Tracker] = []
    status: Status = "failed"
    try:
        if is_chief():
            _open(run, trackers)
        yield trackers
        status = "finished"
    except (TrainingInterrupted, KeyboardInterrupt, GivenUp):
        status = "killed"
        raise
    finally:
        for tracker in reversed(trackers):
            tracker.close(status)


def log_results(trackers: Sequence[Tracker], run: Run, results: Results) -> None:
    """Log the metrics of each row, and upload the page of the run."""
    for tracker in trackers:
        tracker.log_results(metrics_of(results), epoch=run.recipe.training.epochs, report=run.folder.report)


def _open(run: Run, trackers: list[Tracker]) -> None:
    known = run.folder.kept_json(TRACKED_AS) or {}
    for name in run.recipe.training.log_to:
        kind = TRACKERS[name]
        with run.display.doing(f"connecting to {kind.title}"):  # which takes minutes if its server is away
            tracker = kind(
                run.folder.path.name,
                settings_of(run.recipe),
                run_id=known.get(name),
                warn=partial(say, run.console),
            )
        trackers.append(tracker)
        known[name] = tracker.run_id
        run.folder.keep_json(TRACKED_AS, known)
