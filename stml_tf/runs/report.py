"""The end of a run: its picture, its metrics, and a few lines on where everything is."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from stml_tf.data.loader import pixels_of
from stml_tf.monitoring import (
    Summaries,
    compared_with_free,
    epochs_report,
    figure_to_png,
    learning_figure,
    metrics_table,
    say,
)
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.fit import History
from stml_tf.runs.page import write_page
from stml_tf.runs.prepare import Run

Results = dict[str, dict[str, float | int]]


def reached(recipe: Recipe) -> str:
    """Return the key of the last row of a run's results."""
    return "after_training" if recipe.trains else "as_exported"


def draw_retrieval(run: Run, summaries: Summaries, *, before: np.ndarray, after: np.ndarray) -> None:
    """Draw what some test images retrieve before and after training, for the run folder and TensorBoard.

    Args:
        run: The run.
        summaries: The writer for TensorBoard.
        before: `[num_test_images, dim]`, embeddings before training.
        after: `[num_test_images, dim]`, embeddings after training.
    """
    figure = learning_figure(
        partial(pixels_of, run.test), run.test.labels, before=before, after=after, seed=run.recipe.seed
    )
    picture = figure_to_png(figure)
    run.folder.write_picture(picture)
    summaries.image("retrieval", picture, step=run.recipe.training.epochs)


def _title(num_images: int, counts: Mapping[str, float | int]) -> str:
    title = f"Retrieval among {num_images:,} test images, averaged over {counts['queries']:,} queries"
    without = counts["queries_without_match"]
    return f"{title} ({without:,} have no other image of their class to find)" if without else title


def report(run: Run, results: Results, history: History, saved_model: Path | None, *, free: Results) -> None:
    """Write `metrics.json`, which ends a run, and print what was reached and where everything is.

    Args:
        run: The run.
        results: The metrics of each row, such as "after_training".
        history: The logs of each epoch.
        saved_model: Where the SavedModel is; None if none was written.
        free: Those of the results that can be had without training.
    """
    if run.test is None:
        say(run.console, "There are no test images, so the network could not be evaluated: give data.test a folder.")
    else:
        run.console.print(metrics_table(results, title=_title(len(run.test), results[reached(run.recipe)])))
        if free and run.recipe.trains:
            run.console.print(compared_with_free(results[reached(run.recipe)], free), soft_wrap=True)
    folder = run.folder
    folder.write_metrics(
        {
            "evaluated": run.recipe.embedding,
            **results,
            **epochs_report(history),
            **({"saved_model": str(saved_model.absolute())} if saved_model else {}),
        }
    )
    write_page(folder)
    picture = f"{folder.picture}  (queries and their neighbours before and after)"
    made = {
        "Report": f"{folder.report}  (open it in a browser)",
        "Run folder": f"{folder.path}  (recipe.json, metrics.json, checkpoints/, tensorboard/)",
        **({"Picture": picture} if run.test else {}),
        **({"SavedModel": saved_model} if saved_model else {}),
        "Watch": f"tensorboard --logdir {folder.tensorboard}",
    }
    for what, where in made.items():
        say(run.console, f"{what:<11} {where}")
