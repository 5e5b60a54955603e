"""What is measured of a run before its first step and after its last one."""

from stml_tf.distribution.workers import is_chief
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.measure import Metrics, Results, StudentRetrieval, measure_pixels, measure_student, metrics_of
from stml_tf.runs.prepare import Run
from stml_tf.runs.record import BASELINES
from stml_tf.runs.whitened import FREE, measure_free

BEFORE = "before_training"


def reached(recipe: Recipe) -> str:
    """Return the key of the last row of a run's results."""
    return "after_training" if recipe.trains else "as_exported"


def free_of(results: Results) -> dict[str, Metrics]:
    """Return the metrics of what a pretrained network reaches without training; empty if it started at random."""
    return {row: metrics for row, metrics in metrics_of(results).items() if row in FREE}


def measure_before(run: Run, student: StudentRetrieval) -> Results:
    """Measure what a run starts from, so that test images that cannot be measured fail now, not after training.

    Raw pixels, which take long, wait until the end. A resumed run remembers the embeddings from before its first step.

    Args:
        run: The run, before its first step or resumed.
        student: Measures the run's student.

    Returns:
        The rows of what is free and of the network before training; empty without test images.
    """
    if run.test is None:
        return {}
    results = measure_free(run)
    remembered = run.folder.remembers(BEFORE)
    embeddings = run.folder.remember(BEFORE, lambda: student().embeddings)
    results[BEFORE] = measure_student(run, embeddings) if remembered else student()
    run.folder.keep_json(BASELINES, metrics_of(results))
    return results


def measure_after(run: Run, student: StudentRetrieval, before: Results) -> Results:
    """Measure what a run has reached, as far as its last epoch has not. All workers embed; the chief compares pixels.

    Args:
        run: The run, after its last step.
        student: Measures the run's student.
        before: What `measure_before` returned.

    Returns:
        All rows, that of the network as it is last; empty without test images.
    """
    if run.test is None:
        return {}
    after = student()
    from_scratch = run.recipe.model.weights is None
    pixels = {"raw_pixels": measure_pixels(run)} if from_scratch and is_chief() else {}
    return {**pixels, **before, reached(run.recipe): after}
