"""Tries settings of a recipe, each in a run of its own, and finds the best without a look at the test classes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from stml_tf.data.catalog import Catalog
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.errors import UserError
from stml_tf.files import locked
from stml_tf.fitting.callbacks import TrainingRuined
from stml_tf.fitting.health_callback import SCORE
from stml_tf.monitoring import say
from stml_tf.recipe.errors import RecipeError
from stml_tf.recipe.load import load_recipe, read_document, save_recipe
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.fit import GivenUp
from stml_tf.runs.held_out import hold_out_classes, without_test
from stml_tf.runs.search_space import Parameter, Settings, as_override, overrides_of, require_accepted
from stml_tf.runs.study import Outcome, Study, Trial
from stml_tf.runs.sweep_folder import SweepFolder
from stml_tf.runs.train import train_recipe

CHOSEN_BY = {
    "score": "the health score",
    "heldout": "R@1 on training classes held out",
    "test": "R@1 on the test classes",
}


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        folder: Its folder, with that of each trial in it.
        outcomes: What became of the trials, best first.
        best: The settings that are best; None if no trial came to its end.
        recipe_file: The recipe with these settings; None likewise.
    """

    folder: Path
    outcomes: list[Outcome]
    best: Settings | None
    recipe_file: Path | None


def sweep(
    recipe: str | Path | Mapping[str, Any],
    parameters: Sequence[Parameter],
    *,
    overrides: Sequence[str] = (),
    on: str = "score",
    trials: int | None = None,
    data_dir: Path | None = None,
    folder: Path | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> SweepResult:
    """Train a recipe with varied settings, and choose the best.

    Args:
        recipe: What `load_recipe` takes.
        parameters: What to vary.
        overrides: What else to change of the recipe, as for `load_recipe`.
        on: What to choose by, see `CHOSEN_BY`. The test images are measured for "test" alone.
        trials: How many settings to try; None: see `Study`.
        data_dir: Where the recipe's data paths start from.
        folder: The sweep's folder; `runs/NAME-sweep` by default.
        resume: Go on with the sweep that is in the folder.
        console: Where to print; the terminal by default.

    Returns:
        The outcome of each trial, and the best settings.

    Raises:
        UserError: If the parameters do not fit the recipe, there is nothing to choose by, the folder holds something
            else, or Optuna is not installed.
        TrainingInterrupted: If SIGTERM or Ctrl-C came; the sweep can be resumed.
    """
    console = console or Console()
    name, document = read_document(recipe, overrides)
    require_accepted(parameters, document, name)
    home = SweepFolder(folder or Path("runs") / f"{document.get('name', 'unnamed')}-sweep")
    home.open({"recipe": document, "parameters": [asdict(each) for each in parameters], "chosen_by": on}, resume=resume)
    data = _Data(_SEEN[on], data_dir)
    with locked(home.lock, busy=f"Another sweep runs in {home.path}: waiting until it ends."):
        study = Study(home.database, parameters, trials=trials)
        say(console, f"{study.total} trials, chosen by {CHOSEN_BY[on]}; watch: tensorboard --logdir {home.path}")
        for trial in study.trials():
            _tell_begin(console, trial, len(study.outcomes()) + 1, study.total)
            began = time.perf_counter()
            outcome = _make(trial, document, data, by=_MEASURE[on], home=home, console=console)
            study.tell(trial, outcome)
            _tell_end(console, outcome, time.perf_counter() - began)
            keras.utils.clear_session()
        outcomes = sorted(study.outcomes(), key=_rank, reverse=True)
    if not outcomes or outcomes[0].ended != "complete":
        return SweepResult(home.path, outcomes, None, None)
    best = outcomes[0].settings
    save_recipe(load_recipe(document, overrides_of(best)), home.best)
    return SweepResult(home.path, outcomes, best, home.best)


def _with_test(catalog: Catalog) -> Catalog:
    if catalog.test is None:
        raise UserError(
            f"{catalog.name} has no test images to choose on: choose by the health score, which needs no labels"
        )
    return catalog


# By what is chosen on: what a trial sees of the data, and what its epochs log of it.
_SEEN = {"score": without_test, "heldout": hold_out_classes, "test": _with_test}
_MEASURE = {"score": SCORE, "heldout": "recall@1", "test": "recall@1"}


class _Data:
    """Opens the data of recipes: once, if they are the same."""

    def __init__(self, seen: Callable[[Catalog], Catalog], data_dir: Path | None) -> None:
        self._seen = seen
        self._data_dir = data_dir
        self._opened: dict[str, Catalog] = {}

    def of(self, recipe: Recipe) -> Catalog:
        key = recipe.data.model_dump_json()
        if key not in self._opened:
            self._opened = {key: self._seen(open_catalog(data_dir=self._data_dir, **recipe.data.model_dump()))}
        return self._opened[key]


def _make(
    trial: Trial, document: Mapping[str, Any], data: _Data, *, by: str, home: SweepFolder, console: Console
) -> Outcome:
    """Make a trial, and say what became of it. That settings are of no use is an outcome too."""
    outcome = Outcome(trial.folder, trial.settings)
    try:
        recipe = load_recipe(document, overrides_of(trial.settings))
    except RecipeError as error:
        return _failed(outcome, error)
    catalog = data.of(recipe)  # what is missing here, all trials lack
    try:
        result = train_recipe(
            recipe,
            catalog=catalog,
            run_dir=home.path / trial.folder,
            resume=True,  # what there is of it, if it was cut off
            export=False,
            watch=partial(_watch, trial, outcome, by, recipe.training.epochs, console),
            console=Console(quiet=True),
        )
    except GivenUp:
        outcome.ended = "pruned"
        return outcome
    except TrainingRuined as error:
        outcome.ended, outcome.value, outcome.score, outcome.why = "collapsed", 0.0, 0.0, str(error)
        outcome.epochs += 1  # the one that it was stopped after
        return outcome
    except (UserError, MemoryError, tf.errors.ResourceExhaustedError) as error:
        return _failed(outcome, error)
    kept = _kept_epoch(result.history, recipe.training.keep)
    outcome.epochs = len(result.history)
    outcome.score, outcome.recall = kept.get(SCORE), result.metrics.get("recall@1")
    outcome.value = outcome.score if by == SCORE else outcome.recall
    if outcome.value is None:
        return _failed(outcome, f"{by} was not measured")
    return outcome


def _watch(
    trial: Trial, outcome: Outcome, by: str, epochs: int, console: Console, epoch: int, logs: Mapping[str, float]
) -> None:
    outcome.epochs, outcome.score, outcome.recall = epoch, logs.get(SCORE), logs.get("recall@1")
    value = logs.get(by)
    if value is None:
        return
    outcome.value = float(value)
    say(console, f"  epoch {epoch}/{epochs}  {_measured(outcome)}")
    if epoch < epochs and not trial.goes_on(epoch, outcome.value):
        raise GivenUp  # the others have left it behind


def _kept_epoch(history: Sequence[Mapping[str, float | None]], keep: str) -> Mapping[str, float | None]:
    """Return the logs of the epoch whose network the run keeps."""
    if not history:
        return {}
    return max(history, key=lambda logs: logs.get(SCORE) or 0.0) if keep == "best" else history[-1]


def _failed(outcome: Outcome, reason: object) -> Outcome:
    outcome.ended, outcome.value, outcome.why = "failed", None, str(reason)
    return outcome


def _rank(outcome: Outcome) -> tuple[bool, float]:
    """Those that came to their end first, in the order of their values."""
    return outcome.ended == "complete", -1.0 if outcome.value is None else outcome.value


def _measured(outcome: Outcome) -> str:
    score = f"score {outcome.score:.3f}" if outcome.score is not None else ""
    recall = f"R@1 {100 * outcome.recall:.1f} %" if outcome.recall is not None else ""
    return "  ".join(filter(None, (score, recall)))


def _tell_begin(console: Console, trial: Trial, number: int, total: int) -> None:
    say(console, f"{trial.folder} ({number} of {total})  {describe(trial.settings)}")


def _tell_end(console: Console, outcome: Outcome, seconds: float) -> None:
    why = f": {outcome.why.strip().splitlines()[-1].strip()}" if outcome.why else ""
    say(console, f"  {outcome.ended} after {seconds:,.0f} s{why}")


def describe(settings: Settings) -> str:
    """Format settings in a line."""
    return "  ".join(as_override(key, value) for key, value in settings.items())
