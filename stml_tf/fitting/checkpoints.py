"""Checkpoints of everything a training needs to go on: weights, optimizers, random states, epoch, metrics.

A checkpoint is a folder of two files: `variables.npz`, the values of all variables of the model, of its metrics and of
every optimizer that is an attribute of it, and `state.json`, the numbers of the epoch and the checksums of both.
`epoch-0007/` was written after seven epochs, `epoch-0007-batch-00040/` after 40 batches of the eighth. It is written
under another name, synced to the disk and then renamed, so that one that bears its name is whole, whenever the process
was stopped.

A variable is known by the attribute of the model that holds it and its path there, so that a list that Keras orders in
another way restores nothing in the wrong place. The numbers that Keras appends to names count on from model to model;
their rank takes their place.

Keras's own weights file would not do: it leaves out the states of random generators, loading it skips an optimizer
that does not fit, and writing it to a full disk ends the process inside the HDF5 library.
"""

import contextlib
import math
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stml_tf import files
from stml_tf.errors import UserError, UserNotice
from stml_tf.visible import visible

FORMAT = 2
VARIABLES = "variables.npz"
STATE = "state.json"
KEPT = "kept."  # begins the names of arrays that are no variable


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk.

    Attributes:
        path: Its folder.
        epoch: Epochs that were complete when it was written.
        step: Optimizer steps taken until then.
        batch: Batches of the next epoch taken until then.
        metrics: What was measured, by name; None for what was not finite.
        extra: Whatever else the training wanted kept, JSON values.
    """

    path: Path
    epoch: int
    step: int
    metrics: dict[str, float | None]
    extra: dict[str, Any]
    batch: int = 0

    def arrays(self) -> dict[str, np.ndarray]:
        """Read the arrays that were kept beside the variables, by name."""
        file_of_all = self.path / VARIABLES
        with files.unreadable_is_damage(file_of_all), np.load(file_of_all) as file:
            return {key.removeprefix(KEPT): file[key] for key in file.files if key.startswith(KEPT)}


class Checkpoints:
    """The checkpoints in a folder: the last `keep` of them, and the best one.

    Args:
        folder: Where they lie; made with the first one.
        keep: How many of the last to keep, 1 or more.
        best_by: The metric whose highest value is best. The best checkpoint is never deleted.

    Raises:
        ValueError: If `keep` is below 1.
    """

    def __init__(self, folder: Path | str, *, keep: int = 3, best_by: str = "recall@1") -> None:
        if keep < 1:
            raise ValueError(f"Checkpoints: keep must be 1 or more, but {keep} was given.")
        self.folder = Path(folder)
        self.keep = keep
        self.best_by = best_by
        self._damage: dict[Path, str | None] = {}

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
        """Write a checkpoint, in place of an earlier one of the same moment, and delete what is no longer kept.

        Args:
            model: Built, with its optimizers built.
            epoch: Epochs that are complete.
            step: Optimizer steps taken.
            metrics: What was measured, by name.
            batch: Batches taken of the next epoch.
            extra: JSON values to keep.
            arrays: Arrays to keep, see `Checkpoint.arrays`.

        Returns:
            The checkpoint.

        Raises:
            OSError: If it could not be written, as when the disk is full. The earlier checkpoints are untouched.
        """
        target = self.folder / (f"epoch-{epoch:04d}" + (f"-batch-{batch:05d}" if batch else ""))
        try:
            with files.work_folder(target) as work:
                partial = work / target.name
                values = {key: variable.numpy() for key, variable in _variables(model).items()}
                kept = {f"{KEPT}{name}": array for name, array in (arrays or {}).items()}
                with files.write_file(partial / VARIABLES) as stream:
                    np.savez(stream, **values, **kept)
                state = {
                    "format": FORMAT,
                    "epoch": int(epoch),
                    "batch": int(batch),
                    "step": int(step),
                    "metrics": {name: _finite_or_none(value) for name, value in metrics.items()},
                    "extra": dict(extra or {}),
                    "variables_sha256": stream.digest,
                }
                files.write_json(partial / STATE, state)
                files.replace_folder(partial, target, (STATE, VARIABLES))
        except OSError as error:
            raise OSError(
                error.errno,
                f"Could not write checkpoint {target}: {error.strerror or error}. Earlier checkpoints are untouched; "
                "free disk space or choose another folder, then resume.",
            ) from error
        self._damage[target] = None
        self._prune(target)
        return _read(target)

    def latest(self) -> Checkpoint | None:
        """Return the newest intact checkpoint, or None, with a warning for each damaged one that is skipped."""
        return next((found for path in reversed(self._paths()) if (found := self._intact(path))), None)

    def best(self, metric: str | None = None) -> Checkpoint | None:
        """Return the intact checkpoint with the highest `metric` (default: `best_by`), the earliest of equal ones.

        Warns of each damaged one that is passed over.

        Returns:
            The checkpoint; None if none holds that metric.
        """
        return _best(filter(None, map(self._intact, self._paths())), metric or self.best_by)

    def restore(self, model: keras.Model, checkpoint: Checkpoint) -> None:
        """Put a checkpoint's state into a model.

        Args:
            model: Of the same architecture, built, with its optimizers built.
            checkpoint: An intact one.

        Raises:
            UserError: If the checkpoint holds something else than this model does.
        """
        variables = _variables(model)
        file_of_all = checkpoint.path / VARIABLES
        with files.unreadable_is_damage(file_of_all), np.load(file_of_all) as file:
            values = {key: file[key] for key in file.files if not key.startswith(KEPT)}
        for key in {**variables, **values}:
            saved, wanted = (_describe(found.get(key)) for found in (values, variables))
            if saved != wanted:
                raise UserError(
                    f"Checkpoint {checkpoint.path} does not fit this model: variable {key} is {saved} there, {wanted} "
                    "here. Restore it into a model made from the same recipe, and build the model and its optimizers "
                    "first."
                )
        for key, variable in variables.items():
            variable.assign(values[key])

    def _paths(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        with contextlib.suppress(OSError):  # What cannot be written can still be read.
            files.recover(self.folder)
        names = (
            (re.fullmatch(r"epoch-(\d+)(?:-batch-(\d+))?", path.name), path) for path in self.folder.glob("epoch-*")
        )
        moments = [(int(name[1]), int(name[2] or 0), path) for name, path in names if name]
        return [path for _, _, path in sorted(moments)]

    def _intact(self, path: Path) -> Checkpoint | None:
        self._damage[path] = damage = _damage(path)
        if damage is not None:
            notice = UserNotice(visible(f"Checkpoint {path} is damaged and is passed over: {damage}."))
            warnings.warn(notice, stacklevel=3)
            return None
        return _read(path)

    def _prune(self, newest: Path) -> None:
        paths = self._paths()
        for path in paths:
            if path not in self._damage:  # Reading all variables after each epoch would take long.
                self._damage[path] = _damage(path)
        readable = [_read(path) for path in paths if self._damage[path] is None]
        best = _best(readable, self.best_by)
        kept = {newest, *(checkpoint.path for checkpoint in readable[-self.keep :]), best and best.path}
        for checkpoint in readable:
            if checkpoint.path not in kept:
                files.delete_whole(checkpoint.path, (STATE, VARIABLES))
                self._damage.pop(checkpoint.path)


def _read(path: Path) -> Checkpoint:
    """Read the state of a checkpoint and compare its checksum.

    Raises:
        DamagedError: If it is not what was written.
        UserError: If an earlier version of this program wrote it.
    """
    file = path / STATE
    try:
        state = files.read_json(file)
    except files.DamagedError:
        if {"epoch", "step", "sha256"} <= _any_json(file).keys() and "format" not in _any_json(file):
            raise UserError(
                f"Checkpoint {path} is of format 1, which an earlier version wrote, and this version reads {FORMAT}: "
                "go on with that version, or train again with --overwrite."
            ) from None
        raise
    if state.pop("format", None) != FORMAT:
        raise UserError(f"Checkpoint {path} is of a format that this version does not read: install a newer stml-tf.")
    with files.unreadable_is_damage(file):
        del state["variables_sha256"]
        return _checked(Checkpoint(path=path, **state))


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    numbers = (checkpoint.epoch, checkpoint.batch, checkpoint.step)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"epoch, batch and step are {numbers}")
    if not (isinstance(checkpoint.metrics, dict) and isinstance(checkpoint.extra, dict)):
        raise ValueError("it holds no metrics")
    return checkpoint


def _damage(path: Path) -> str | None:
    """Read all of a checkpoint, and return why it cannot be used; None if it can."""
    try:
        _verify(path)
    except files.DamagedError as error:
        return str(error)
    return None


def _verify(path: Path) -> None:
    _read(path)
    try:
        digest = files.checksum(path / VARIABLES)
    except OSError as error:
        raise files.DamagedError(f"{VARIABLES} cannot be read ({error})") from error
    if digest != files.read_json(path / STATE)["variables_sha256"]:
        raise files.DamagedError(f"{VARIABLES} does not have the checksum that {STATE} says")


def _any_json(file: Path) -> dict[str, Any]:
    try:
        return files.read_any_json(file)
    except files.DamagedError:
        return {}


def _best(checkpoints: Any, metric: str) -> Checkpoint | None:
    measured = [checkpoint for checkpoint in checkpoints if checkpoint.metrics.get(metric) is not None]
    return max(measured, key=lambda checkpoint: checkpoint.metrics[metric], default=None)


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Collect every variable by its key."""
    parts = {
        name: value.variables
        for name, value in vars(model).items()
        if isinstance(value, keras.Layer) and not name.startswith("_")
    }
    keyed: dict[str, keras.Variable] = {}
    seen: set[int] = set()
    for group, variables in {**parts, "model": model.variables}.items():
        own = [variable for variable in variables if id(variable) not in seen]
        seen.update(map(id, own))
        keyed |= zip(_keys(group, [variable.path for variable in own]), own, strict=True)
    # An optimizer names what it keeps of a variable by the variable's path.
    trained = {id(variable): key for key, variable in keyed.items()}
    references = {v.path.replace("/", "_"): trained[id(v)] for v in model.trainable_variables if id(v) in trained}
    for group, value in vars(model).items():
        if isinstance(value, keras.optimizers.Optimizer):
            paths = [_with_reference(variable.path, references) for variable in value.variables]
            keyed |= zip(_keys(group, paths), value.variables, strict=True)
    metrics = model.metrics_variables
    return keyed | dict(zip(_keys("metrics", [variable.path for variable in metrics]), metrics, strict=True))


def _with_reference(path: str, references: Mapping[str, str]) -> str:
    """Replace the path of a variable in that of an optimizer's variable by the key of the former."""
    owner, _, name = path.rpartition("/")
    about = max((each for each in references if name.startswith(f"{each}_")), key=len, default=None)
    return path if about is None else f"{owner}/{references[about]}/{name[len(about) + 1 :]}"


def _keys(group: str, paths: Sequence[str]) -> list[str]:
    """Strip paths of the numbers that Keras counts up, and keep each unique."""
    parts = [path.split("/") for path in paths]
    plain: list[list[str]] = [[group] for _ in paths]
    for depth in range(max(map(len, parts), default=0)):
        numbers = defaultdict(set)
        at_depth = {}
        for row, names in enumerate(parts):
            if depth < len(names):
                base, number = re.fullmatch(r"(.*?)(?:_(\d+))?", names[depth]).groups()
                at_depth[row] = (tuple(plain[row]), base), int(number or 0)
                numbers[at_depth[row][0]].add(at_depth[row][1])
        for row, (named, number) in at_depth.items():
            rank = sorted(numbers[named]).index(number)
            plain[row].append(f"{named[1]}_{rank}" if rank else named[1])
    keys, times = [], Counter()
    for names in plain:
        key = "/".join(names)
        times[key] += 1
        keys.append(key if times[key] == 1 else f"{key}#{times[key]}")
    return keys


def _describe(value: keras.Variable | np.ndarray | None) -> str:
    return "missing" if value is None else f"{keras.backend.standardize_dtype(value.dtype)} {tuple(value.shape)}"


def _finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
