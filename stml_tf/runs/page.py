"""The page of a run, and the data that are kept for it."""

from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from stml_tf.distribution.workers import is_chief, worker
from stml_tf.errors import UserError
from stml_tf.monitoring import say
from stml_tf.pages.report import report_page
from stml_tf.runs.evidence import Sample, look, sample_training_images
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.measure import Measured
from stml_tf.runs.prepare import Run
from stml_tf.runs.record import EVIDENCE, HISTORY, keep_queries, read_run


def write_page(folder: RunFolder) -> None:
    """Write `report.html` from what lies in a run's folder."""
    folder.write_report(report_page([read_run(folder.path)]))


def keep_evidence(
    run: Run,
    sample: Sample,
    *,
    test_embeddings: np.ndarray | None = None,
    results: Mapping[str, Measured] | None = None,
) -> None:
    """Keep what the page shows of images, and what each query found.

    Args:
        run: The run.
        sample: What `sample_training_images` returned.
        test_embeddings: `[num_test_images, dim]` of the network as it is; None without test images.
        results: What was measured, the network as it is last.
    """
    queries = {row: each.queries for row, each in (results or {}).items()}
    if queries:
        keep_queries(run.folder, queries)
    last = list(queries.values())[-1] if queries else None
    run.folder.keep_json(EVIDENCE, look(run, sample, test_embeddings=test_embeddings, queries=last).to_json())


def leave_page_of_what_was_stopped(run: Run) -> None:
    """Write the page of a run that was stopped, so that one can see why.

    After a stop that came from the run itself it shows images too. Whoever sent a signal waits for the process to end.
    """
    if not is_chief():
        return
    history = run.folder.kept_json(HISTORY)
    alone = worker()[1] == 1  # other workers, with which embedding is shared, may be elsewhere
    if history and history["stopped"] and alone:
        with suppress(UserError):  # embeddings that are no numbers show nothing
            keep_evidence(run, sample_training_images(run))
    write_page(run.folder)
    say(run.console, f"Report      {run.folder.report}  (open it in a browser)")
