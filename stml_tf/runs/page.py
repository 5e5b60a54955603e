"""The page of a run, and the data that are kept for it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from stml_tf.distribution.workers import is_chief, worker
from stml_tf.errors import UserError
from stml_tf.fitting.callbacks import TrainingInterrupted, TrainingStopped
from stml_tf.monitoring import say
from stml_tf.pages.report import report_page
from stml_tf.runs.as_seen import Sample, sample_training_images
from stml_tf.runs.before_and_after import reached
from stml_tf.runs.evidence import look
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.measure import Results
from stml_tf.runs.prepare import Run
from stml_tf.runs.record import EVIDENCE, HISTORY, keep_queries, read_run


def write_page(folder: RunFolder) -> None:
    """Write `report.html` from what lies in a run's folder."""
    folder.write_report(report_page([read_run(folder.path)]))


def keep_evidence(run: Run, sample: Sample, results: Results) -> None:
    """Keep what the page shows of images, and what each query found.

    Args:
        run: The run.
        sample: What `sample_training_images` returned.
        results: What was measured; empty without test images.
    """
    with run.display.doing("looking at images for the report"):
        if not results:
            evidence = look(run, sample)
        else:
            keep_queries(run.folder, {row: each.queries for row, each in results.items()})
            last = results[reached(run.recipe)]
            evidence = look(run, sample, test_embeddings=last.embeddings, queries=last.queries)
        run.folder.keep_json(EVIDENCE, evidence.to_json())


@contextmanager
def leaving_page_if_stopped(run: Run) -> Iterator[None]:
    """Write the page of a run that is stopped, so that one can see why.

    After a stop that came from the run itself it shows images too. Whoever sent a signal waits for the process to end.
    """
    try:
        yield
    except (TrainingStopped, TrainingInterrupted):
        _leave_page(run)
        raise


def _leave_page(run: Run) -> None:
    if not is_chief():
        return
    history = run.folder.kept_json(HISTORY)
    alone = worker()[1] == 1  # other workers, with which embedding is shared, may be elsewhere
    if history and history["stopped"] and alone:
        with suppress(UserError):  # embeddings that are no numbers show nothing
            keep_evidence(run, sample_training_images(run), {})
    write_page(run.folder)
    say(run.console, f"Report      {run.folder.report}  (open it in a browser)")
