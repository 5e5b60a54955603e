"""The end of a run: its picture, its metrics, and a few lines on where everything is."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

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
from stml_tf.runs.before_and_after import BEFORE, free_of, reached
from stml_tf.runs.fit import History
from stml_tf.runs.measure import Results, metrics_of
from stml_tf.runs.page import write_page
from stml_tf.runs.prepare import Run


def draw_retrieval(run: Run, summaries: Summaries, results: Results) -> None:
    """Draw what some test images retrieve before and after training, for the run folder and TensorBoard.

    Args:
        run: The run.
        summaries: The writer for TensorBoard.
        results: What was measured; empty without test images, and nothing is drawn then.
    """
    if not results:
        return
    with run.display.doing("drawing queries and their neighbours"):
        figure = learning_figure(
            partial(pixels_of, run.test),
            run.test.labels,
            before=results[BEFORE].embeddings,
            after=results[reached(run.recipe)].embeddings,
            seed=run.recipe.seed,
        )
        picture = figure_to_png(figure)
        run.folder.write_picture(picture)
        summaries.image("retrieval", picture, step=run.recipe.training.epochs)


def _title(num_images: int, counts: Mapping[str, float | int]) -> str:
    title = f"Retrieval among {num_images:,} test images, averaged over {counts['queries']:,} queries"
    without = counts["queries_without_match"]
    return f"{title} ({without:,} have no other image of their class to find)" if without else title


def report(run: Run, results: Results, history: History, saved_model: Path | None) -> None:
    """Write `metrics.json`, which ends a run, and print what was reached and where everything is.

    Args:
        run: The run.
        results: What was measured; empty without test images.
        history: The logs of each epoch.
        saved_model: Where the SavedModel is; None if none was written.
    """
    metrics = metrics_of(results)
    if run.test is None:
        say(run.console, "There are no test images, so the network could not be evaluated: give data.test a folder.")
    else:
        last = metrics[reached(run.recipe)]
        run.console.print(metrics_table(metrics, title=_title(len(run.test), last)))
        if run.recipe.trains and (free := free_of(results)):
            run.console.print(compared_with_free(last, free), soft_wrap=True)
    folder = run.folder
    folder.write_metrics(
        {
            "evaluated": run.recipe.embedding,
            **metrics,
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
