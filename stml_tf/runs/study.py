"""The trials of a sweep, past and next: an Optuna study in a file, which outlives the process."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stml_tf.errors import UserError
from stml_tf.runs.search_space import Parameter, Settings, grid, grid_size

if TYPE_CHECKING:
    from types import ModuleType

    import optuna

LARGEST_GRID = 30
_USUAL_TRIALS = 20
_NEVER_PRUNED = 4  # trials, before the first one may be pruned: a median of fewer says little
_FIRST_PRUNED = 2  # the epoch: after the first, networks have hardly moved
_NAME = "sweep"


@dataclass
class Outcome:
    """The outcome of a trial.

    Attributes:
        folder: The name of its run folder, within the sweep's.
        settings: What it changed of the recipe.
        ended: "complete", "pruned", "collapsed" or "failed".
        value: What trials are chosen by, larger is better; None where there is none.
        score: The health score, in [0, 1]; None where it was not measured.
        recall: R@1 on the classes it was measured on, in [0, 1]; None where it was not measured.
        epochs: Epochs that it trained.
        why: How it failed or collapsed.
    """

    folder: str
    settings: Settings
    ended: str = "complete"
    value: float | None = None
    score: float | None = None
    recall: float | None = None
    epochs: int = 0
    why: str = ""


@dataclass
class Trial:
    """A trial that runs.

    Attributes:
        settings: What it changes of the recipe.
        folder: The name of its run folder; that of the attempt before, if one was cut off.
        asked: Optuna's trial.
    """

    settings: Settings
    folder: str
    asked: optuna.Trial = field(repr=False)

    def goes_on(self, epoch: int, value: float) -> bool:
        """Report a value after an epoch; returns False if those of other trials make it hopeless."""
        self.asked.report(value, epoch)
        return not self.asked.should_prune()


class Study:
    """The trials of a sweep. A process that is killed leaves them as they are, and the next one takes up from there.

    Args:
        file: The database; only one process at a time may have it open as a study.
        parameters: What to try.
        trials: How many trials to make; None: all combinations where there are at most `LARGEST_GRID`, else 20.

    Attributes:
        total: How many trials there will be in the end.

    Raises:
        UserError: If Optuna is not installed.
    """

    def __init__(self, file: Path, parameters: Sequence[Parameter], *, trials: int | None = None) -> None:
        optuna = require_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # By a function, as a URL gives characters such as ? in a path another meaning.
        storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": lambda: sqlite3.connect(file)})
        self._samplers, self._states = optuna.samplers, optuna.trial.TrialState
        self._parameters = parameters
        self._study = optuna.create_study(
            storage=storage,
            study_name=_NAME,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_NEVER_PRUNED, n_warmup_steps=_FIRST_PRUNED),
        )
        size = grid_size(parameters)
        self._grid = list(grid(parameters)) if size <= (LARGEST_GRID if trials is None else trials) else None
        self.total = len(self._grid) if self._grid else trials or _USUAL_TRIALS
        # With the seed of its beginning, a sweep that is resumed would draw the same settings again.
        self._tpe = self._samplers.TPESampler(seed=len(self._study.trials))
        self._cut_off = self._give_up_running()

    def trials(self) -> Iterator[Trial]:
        """Yield the trials that are still to be made. Each is over once `tell` was called for it."""
        while len(self._over()) < self.total:
            folder, settings = self._cut_off.pop(0) if self._cut_off else (None, self._next_of_grid())
            asked = self._ask(settings)
            settings = {parameter.key: parameter.suggest(asked) for parameter in self._parameters}
            folder = folder or f"trial-{len(self._folders()):03d}"
            asked.set_user_attr("folder", folder)
            yield Trial(settings, folder, asked)

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Keep what became of a trial."""
        trial.asked.set_user_attr("outcome", asdict(outcome))
        if outcome.ended == "pruned":
            self._study.tell(trial.asked, state=self._states.PRUNED)
        elif outcome.value is None:
            self._study.tell(trial.asked, state=self._states.FAIL)
        else:
            self._study.tell(trial.asked, outcome.value)

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes of all trials that are over, in the order in which they ended."""
        return [Outcome(**over.user_attrs["outcome"]) for over in self._over()]

    def _ask(self, settings: Settings | None) -> optuna.Trial:
        """Begin a trial with settings, or, with None, with what the sampler draws."""
        if settings is None:
            self._study.sampler = self._tpe
        else:
            fixed = {each.key: each.stored(settings[each.key]) for each in self._parameters}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Optuna calls this sampler experimental
                self._study.sampler = self._samplers.PartialFixedSampler(fixed, self._tpe)
        return self._study.ask()

    def _next_of_grid(self) -> Settings | None:
        """Return the first combination that is not over yet; None if the sampler draws settings."""
        if self._grid is None:
            return None
        made = [outcome.settings for outcome in self.outcomes()]
        return next(settings for settings in self._grid if settings not in made)

    def _give_up_running(self) -> list[tuple[str, Settings]]:
        """End the trials that an earlier process left running; returns their folders and settings, to begin anew."""
        running = [trial for trial in self._study.trials if trial.state == self._states.RUNNING]
        for trial in running:
            self._study.tell(trial.number, state=self._states.FAIL)
        return [
            (trial.user_attrs["folder"], {each.key: each.loaded(trial.params[each.key]) for each in self._parameters})
            for trial in running
            if "folder" in trial.user_attrs  # else it was cut off before it began
        ]

    def _folders(self) -> set[str]:
        return {trial.user_attrs["folder"] for trial in self._study.trials if "folder" in trial.user_attrs}

    def _over(self) -> list[optuna.trial.FrozenTrial]:
        return [trial for trial in self._study.trials if trial.state.is_finished() and "outcome" in trial.user_attrs]


def require_optuna() -> ModuleType:
    """Import Optuna.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("A sweep needs Optuna, which is not installed: pip install 'stml-tf[sweep]'") from None
    return optuna
