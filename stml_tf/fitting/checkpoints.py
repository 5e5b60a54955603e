"""Checkpoints of everything a training needs to go on: weights, optimizers, random states, epoch, metrics.

A checkpoint is a folder of two files: `variables.npz`, the values of all variables of the model, of its metrics and of
every optimizer that is an attribute of it, and `state.json`, the numbers of the epoch and the checksum of the first.
`epoch-0007/` was written after seven epochs, `epoch-0007-batch-00040/` after 40 batches of the eighth. It is written
under another name, synced to the disk and then renamed, so that one that bears its name is whole, whenever the process
was stopped.

Keras's own weights file would not do: it leaves out the states of random generators, loading it skips an optimizer
that does not fit, and writing it to a full disk ends the process inside the HDF5 library.
"""

import hashlib
import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

VARIABLES = "variables.npz"
STATE = "state.json"
KEPT = "kept."  # begins the names of arrays that are no variable


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk.

    Attributes:
        path: its folder.
        epoch: epochs that were complete when it was written.
        step: optimizer steps taken until then.
        batch: batches of the next epoch taken until then.
        metrics: by name, what was measured; None for what was not finite.
        extra: whatever else the training wanted kept, JSON values.
    """

    path: Path
    epoch: int
    step: int
    metrics: dict[str, float | None]
    extra: dict[str, Any]
    batch: int = 0

    def arrays(self) -> dict[str, np.ndarray]:
        """By name, the arrays that were kept beside the variables."""
        with np.load(self.path / VARIABLES) as file:
            return {key.removeprefix(KEPT): file[key] for key in file.files if key.startswith(KEPT)}


class Checkpoints:
    """The checkpoints in a folder: the last `keep` of them, and the best one.

    Args:
        folder: where they lie; made with the first one.
        keep: how many of the last to keep, 1 or more.
        best_by: the metric whose highest value is best. The best checkpoint is never deleted.

    Raises:
        ValueError: `keep` is below 1.
    """

    def __init__(self, folder: Path | str, *, keep: int = 3, best_by: str = "recall@1") -> None:
        if keep < 1:
            raise ValueError(f"Checkpoints: keep must be 1 or more, but {keep} was given.")
        self.folder = Path(folder)
        self.keep = keep
        self.best_by = best_by

    def save(
        self,
        model: keras.Model,
        *,
        epoch: int,
        step: int,
        metrics: Mapping[str, float],
        batch: int = 0,
        extra: Mapping[str, Any] | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> Checkpoint:
        """Writes a checkpoint, in place of an earlier one of the same moment, and deletes what is no longer kept.

        Args:
            model: built, with its optimizers built.
            epoch: epochs that are complete.
            step: optimizer steps taken.
            metrics: by name, what was measured.
            batch: batches taken of the next epoch.
            extra: JSON values to keep.
            arrays: arrays to keep, see `Checkpoint.arrays`.

        Raises:
            OSError: it could not be written, as when the disk is full. The earlier checkpoints are untouched.
        """
        target = self.folder / (f"epoch-{epoch:04d}" + (f"-batch-{batch:05d}" if batch else ""))
        partial = self.folder / f".{target.name}.partial"
        try:
            for leftover in self.folder.glob(".epoch-*"):
                shutil.rmtree(leftover)
            partial.mkdir(parents=True)
            values = {key: variable.numpy() for key, variable in _variables(model).items()}
            kept = {f"{KEPT}{name}": array for name, array in (arrays or {}).items()}
            np.savez(partial / VARIABLES, **values, **kept)
            state = {
                "epoch": int(epoch),
                "batch": int(batch),
                "step": int(step),
                "metrics": {name: _finite_or_none(value) for name, value in metrics.items()},
                "extra": dict(extra or {}),
                "sha256": _sha256(partial / VARIABLES),
            }
            (partial / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
            for path in (partial / VARIABLES, partial / STATE, partial):
                _sync(path)
            if target.exists():
                target.rename(self.folder / f".{target.name}.replaced")
            partial.rename(target)
            _sync(self.folder)
        except OSError as error:
            raise OSError(
                f"Could not write checkpoint {target}: {error}. Earlier checkpoints are untouched; "
                "free disk space or choose another folder, then resume."
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._prune()
        return _read(target, verify=False)

    def latest(self) -> Checkpoint | None:
        """The newest intact checkpoint, or None. Warns of each damaged one that it passes over."""
        return next((found for path in reversed(self._paths()) if (found := self._intact(path))), None)

    def best(self, metric: str | None = None) -> Checkpoint | None:
        """The intact checkpoint with the highest `metric` (default: `best_by`), the earliest of equal ones.

        None where no checkpoint holds that metric. Warns of each damaged one that it passes over.
        """
        return _best(filter(None, map(self._intact, self._paths())), metric or self.best_by)

    def restore(self, model: keras.Model, checkpoint: Checkpoint) -> None:
        """Puts a checkpoint's state into a model of the same architecture, built, with its optimizers built.

        Raises:
            ValueError: the checkpoint holds something else than this model does.
        """
        variables = _variables(model)
        with np.load(checkpoint.path / VARIABLES) as file:
            values = {key: file[key] for key in file.files if not key.startswith(KEPT)}
        for key in {**variables, **values}:
            saved, wanted = (_describe(found.get(key)) for found in (values, variables))
            if saved != wanted:
                raise ValueError(
                    f"Checkpoint {checkpoint.path} does not fit this model: variable {key} is {saved} there, {wanted} "
                    "here. Restore it into a model made from the same recipe, and build the model and its optimizers "
                    "first."
                )
        for key, variable in variables.items():
            variable.assign(values[key])

    def _paths(self) -> list[Path]:
        names = (
            (re.fullmatch(r"epoch-(\d+)(?:-batch-(\d+))?", path.name), path) for path in self.folder.glob("epoch-*")
        )
        moments = [(int(name[1]), int(name[2] or 0), path) for name, path in names if name]
        return [path for _, _, path in sorted(moments)]

    def _intact(self, path: Path) -> Checkpoint | None:
        try:
            return _read(path)
        except _DamagedError as error:
            warnings.warn(f"Checkpoint {path} is damaged and is passed over: {error}.", stacklevel=3)
            return None

    def _prune(self) -> None:
        paths = self._paths()
        readable = []
        for path in paths:
            try:
                readable.append(_read(path, verify=False))  # Reading all variables after each epoch would take long.
            except _DamagedError:
                continue
        best = _best(readable, self.best_by)
        for path in paths[: -self.keep]:
            if best is None or path != best.path:
                shutil.rmtree(path, ignore_errors=True)


class _DamagedError(Exception):
    """Why a checkpoint cannot be used."""


def _read(path: Path, *, verify: bool = True) -> Checkpoint:
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        sha256 = state.pop("sha256")
        checkpoint = Checkpoint(path=path, **state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _DamagedError(f"{STATE} cannot be read ({error})") from error
    try:
        if verify and _sha256(path / VARIABLES) != sha256:
            raise _DamagedError(f"{VARIABLES} does not have the checksum that {STATE} says")
    except OSError as error:
        raise _DamagedError(f"{VARIABLES} cannot be read ({error})") from error
    return checkpoint


def _best(checkpoints: Any, metric: str) -> Checkpoint | None:
    measured = [checkpoint for checkpoint in checkpoints if checkpoint.metrics.get(metric) is not None]
    return max(measured, key=lambda checkpoint: checkpoint.metrics[metric], default=None)


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    groups = {"model": model} | {
        name: value for name, value in vars(model).items() if isinstance(value, keras.optimizers.Optimizer)
    }
    variables = {name: group.variables for name, group in groups.items()} | {"metrics": model.metrics_variables}
    # By number: the names that Keras makes up count on from model to model.
    return {f"{name}.{i:04d}": variable for name, group in variables.items() for i, variable in enumerate(group)}


def _describe(value: keras.Variable | np.ndarray | None) -> str:
    return "missing" if value is None else f"{keras.backend.standardize_dtype(value.dtype)} {tuple(value.shape)}"


def _finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
