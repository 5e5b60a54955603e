"""From a recipe to a trained, measured and exported network. Reads from top to bottom."""

from pathlib import Path

from rich.console import Console

from stml_tf.data.catalog import Catalog
from stml_tf.distribution.workers import is_chief
from stml_tf.monitoring import Summaries, say
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.barriers import wait_until_all_resume_from, wait_until_chief_has_written
from stml_tf.runs.export import export_student
from stml_tf.runs.fit import checkpoint_to_resume, fit, take_one_step
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.measure import embed_test_images, embeddings_before, measure_before, retrieval
from stml_tf.runs.prepare import prepare
from stml_tf.runs.report import draw_retrieval, report


def train(
    recipe: Recipe,
    *,
    data_dir: Path | None = None,
    download: bool = False,
    catalog: Catalog | None = None,
    run_dir: Path | None = None,
    saved_models: Path = Path("saved_models"),
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
) -> Path:
    """Train, measure and export what a recipe says.

    With `TF_CONFIG` in the environment this is one of several workers, which share the work and the folders; the first
    of them prints and writes.

    Args:
        recipe: What to do.
        data_dir: Where the recipe's data paths start from.
        download: Have TensorFlow Datasets fetch what is not there.
        catalog: Images of your own making, in place of the recipe's data.
        run_dir: Folder of the run; `runs/NAME` by default.
        saved_models: Where the SavedModel goes, under the recipe's name.
        overwrite: Replace a run that is in the folder.
        resume: Go on with a run that is in the folder from its last checkpoint; without one, from the beginning.
        dry_run: Take one step on a few images, write nothing.
        console: Where to print; the terminal by default.

    Returns:
        The run folder.

    Raises:
        UserError: If the run folder holds something or its run has another recipe, the data are missing, too few or
            unreadable, or the devices are not there or cannot divide a batch evenly.
        DryRunStopped: If a dry run would have to extract or download the data first.
        TrainingStopped: If the loss is no longer a number, or a checkpoint cannot be written.
        TrainingInterrupted: If SIGTERM or Ctrl-C came and a checkpoint was written.
    """
    console = console or Console(quiet=not is_chief())
    folder = RunFolder(run_dir or Path("runs") / recipe.name, write=is_chief())
    if resume and folder.is_over():
        folder.check(recipe, resume=True)
        say(console, f"The run in {folder.path} is over: there is nothing to go on with.")
        return folder.path
    run = prepare(
        recipe,
        catalog=catalog,
        data_dir=data_dir,
        download=download,
        run_dir=folder.path,
        overwrite=overwrite,
        resume=resume,
        dry_run=dry_run,
        console=console,
    )
    if dry_run:
        take_one_step(run)
        say(console, "Dry run: one step was taken, nothing was written.")
        return folder.path

    checkpoint = checkpoint_to_resume(run) if resume else None
    wait_until_all_resume_from(
        run.strategy, checkpoint and checkpoint.path.name, measured=run.folder.remembers("before_training")
    )
    results = measure_before(run)
    summaries = Summaries(run.folder.tensorboard if is_chief() else None)
    if checkpoint is None:
        summaries.text("recipe", f"```json\n{recipe.model_dump_json(indent=2)}\n```", step=0)
    history = fit(run, summaries, resume_from=checkpoint)

    after = embed_test_images(run) if run.test else None  # the last work that workers share
    if is_chief():
        if run.test:
            results["after training"] = retrieval(recipe, after, run.test, run.num_queries)
            draw_retrieval(run, summaries, before=embeddings_before(run), after=after)
        summaries.close()
        metrics = results.get("after training", {})
        saved_model = export_student(recipe, run.model.student, saved_models / recipe.name, metrics)
        report(run, results, history, saved_model)
    wait_until_chief_has_written(run.strategy)
    return folder.path
