"""Experiment trackers: Weights & Biases and MLflow, an optional callback each.

Each finds out where to log as its own documentation says: from `WANDB_MODE` and `WANDB_PROJECT`, from
`MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME`.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import keras

from stml_tf.errors import UserError
from stml_tf.monitoring.tensorboard_scalars import epoch_scalars

__all__ = ["TRACKERS", "MLflowTracker", "Tracker", "WandbTracker"]

Settings = Mapping[str, bool | int | float | str]
Status = Literal["finished", "failed", "killed"]


class Tracker(keras.callbacks.Callback):
    """A callback that logs a run to an experiment tracker, an epoch at a time, by the names that TensorBoard shows.

    A tracker that cannot be reached at the beginning is refused; one that is lost later does not end the training.
    Callbacks that add to the logs have to come before this one.

    Args:
        name: Name of the run.
        settings: What the run is compared by: its settings by name.
        run_id: The tracker's own name for a run that is resumed; None for a new one.
        warn: Is called with a message if the tracker is lost.

    Attributes:
        run_id: The tracker's own name for the run.

    Raises:
        UserError: If the package is not installed, or the tracker does not take the run.
    """

    package: str
    title: str
    advice: str

    def __init__(
        self, name: str, settings: Settings, *, run_id: str | None = None, warn: Callable[[str], None] = print
    ) -> None:
        super().__init__()
        self.warn = warn
        self._lost = False
        self._package = self.require()
        try:
            self.run_id = self._start(name, settings, run_id)
        except Exception as error:  # of many kinds: its own, its network's, its database's
            raise UserError(f"{self.title} does not take the run: {error}. {self.advice}") from None

    @classmethod
    def require(cls) -> ModuleType:
        """Import the tracker's package.

        Raises:
            UserError: If it is not installed.
        """
        try:
            package = import_module(cls.package)
        except ImportError:
            package = None
        if getattr(package, "__file__", None) is None:  # a folder of this name here passes for a package
            raise UserError(
                f"{cls.title} is not installed: pip install 'stml-tf[{cls.package}]', or leave "
                f'"{cls.package}" out of training.log_to'
            )
        return package

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        values = {name: float(value) for name, value in epoch_scalars(self.model, logs or {}).items()}
        self._guarded(lambda: self._log(values, epoch + 1))

    def log_results(self, results: Mapping[str, Mapping[str, float]], *, epoch: int, report: Path) -> None:
        """Log what was measured in the end.

        Args:
            results: Metrics by what was measured.
            epoch: The last one.
            report: The page of the run, which is uploaded, if there is one.
        """
        values = {
            f"results/{row}/{name}": float(value) for row, metrics in results.items() for name, value in metrics.items()
        }
        self._guarded(lambda: self._end(values, epoch, report))

    def close(self, status: Status) -> None:
        """End the tracker's run."""
        self._guarded(lambda: self._close(status))

    def _guarded(self, call: Callable[[], None]) -> None:
        """Call the tracker unless it is lost; whatever it raises, it must not cost a training of hours."""
        if self._lost:
            return
        try:
            call()
        except Exception as error:
            self._lost = True
            self.warn(f"{self.title} is lost, and the run goes on without it: {error}")

    @abstractmethod
    def _start(self, name: str, settings: Settings, run_id: str | None) -> str: ...

    @abstractmethod
    def _log(self, values: Mapping[str, float], epoch: int) -> None: ...

    @abstractmethod
    def _end(self, values: Mapping[str, float], epoch: int, report: Path) -> None: ...

    @abstractmethod
    def _close(self, status: Status) -> None: ...


class WandbTracker(Tracker):
    """A callback that logs a run to Weights & Biases; see `Tracker`."""

    package = "wandb"
    title = "Weights & Biases"
    advice = "Log in with `wandb login`, or set WANDB_MODE=offline."

    def _start(self, name: str, settings: Settings, run_id: str | None) -> str:
        wandb = self._package
        self._run = wandb.init(
            id=run_id,
            resume="allow" if run_id else None,
            name=name,
            config=dict(settings),
            reinit="create_new",  # a run of the caller's goes on beside it
            settings=wandb.Settings(console="off"),  # it would keep a line for each movement of the bars
        )
        # Its own steps can never go back, as the epochs of a resumed run do.
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("*", step_metric="epoch")
        return self._run.id

    def _log(self, values: Mapping[str, float], epoch: int) -> None:
        self._run.log({"epoch": epoch, **values})

    def _end(self, values: Mapping[str, float], epoch: int, report: Path) -> None:
        self._run.summary.update(dict(values))
        if report.exists():
            self._run.save(report, base_path=report.parent, policy="now")

    def _close(self, status: Status) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)


class MLflowTracker(Tracker):
    """A callback that logs a run to MLflow; see `Tracker`."""

    package = "mlflow"
    title = "MLflow"
    advice = "Set MLFLOW_TRACKING_URI to a server, or to a file such as sqlite:///mlflow.db."
    _at_once = 100  # settings; it refuses more

    def _start(self, name: str, settings: Settings, run_id: str | None) -> str:
        mlflow = self._package
        # Below a run of the caller's, if there is one.
        nested = mlflow.active_run() is not None
        started = mlflow.start_run(run_id=run_id, run_name=None if run_id else name, nested=nested).info.run_id
        if run_id is None:
            items = list(settings.items())
            for begin in range(0, len(items), self._at_once):
                mlflow.log_params(dict(items[begin : begin + self._at_once]), run_id=started)
        return started

    def _log(self, values: Mapping[str, float], epoch: int) -> None:
        named = {_mlflow_name(name): value for name, value in values.items()}
        self._package.log_metrics(named, step=epoch, run_id=self.run_id)

    def _end(self, values: Mapping[str, float], epoch: int, report: Path) -> None:
        self._log(values, epoch)
        if report.exists():
            self._package.log_artifact(str(report), run_id=self.run_id)

    def _close(self, status: Status) -> None:
        self._package.end_run(status.upper())


def _mlflow_name(name: str) -> str:
    """Return a name of a metric without the characters that MLflow refuses."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"))


TRACKERS: dict[str, type[Tracker]] = {"wandb": WandbTracker, "mlflow": MLflowTracker}
