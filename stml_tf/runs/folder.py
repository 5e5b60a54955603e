"""The folder of a run, which is never overwritten in silence, nor resumed with another recipe."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stml_tf.errors import UserError
from stml_tf.files import (
    delete_known,
    is_work_folder,
    read_any_json,
    read_json,
    require_seal,
    write_bytes,
    write_file,
    write_json,
    write_text,
)
from stml_tf.plugins import Record, records_of, require_registered
from stml_tf.recipe.load import load_recipe, save_recipe
from stml_tf.recipe.recipe import Recipe


class RunFolder:
    """Where a run keeps its recipe, checkpoints, logs, metrics and picture.

    Args:
        path: The folder; it need not exist yet.
        write: False where another process writes the run's folder; then this one writes nothing.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path = Path(path)
        self.write = write
        self.recipe_file = self.path / "recipe.json"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.metrics_file = self.path / "metrics.json"
        self.picture = self.path / "retrieval.png"
        self.plugins_file = self.path / "plugins.json"

    def check(self, recipe: Recipe, *, overwrite: bool = False, resume: bool = False) -> None:
        """Refuse a folder in which the run must not start or resume.

        Args:
            recipe: What the run is asked to do.
            overwrite: Allow replacing a run that is there. Any other folder is refused regardless.
            resume: Allow resuming a run that is there, if its recipe is the same.

        Raises:
            UserError: If the path is a file, the folder holds something that is in the way, the recipe differs from
                that of the run to resume, or both are asked for.
        """
        if overwrite and resume:
            raise UserError("A run is either replaced or resumed: give --overwrite or --resume, not both.")
        if self.path.is_file():
            raise UserError(f"The run folder {self.path} is a file: give another --run-dir.")
        if not self.recipe_file.exists():
            if any(not is_work_folder(path) for path in self._held()):
                raise UserError(f"{self.path} is not empty and is not a run folder: give another --run-dir.")
        elif resume:
            self._refuse_another(recipe)
            self._refuse_other_plugins(recipe)
        elif not overwrite:
            raise UserError(
                f"The run folder {self.path} holds a run already: resume it with --resume, replace it with "
                "--overwrite, or give another --run-dir."
            )

    def open(self, recipe: Recipe, *, overwrite: bool = False, resume: bool = False) -> None:
        """Make the folder and write the resolved recipe into it; what is there stays if the run is resumed.

        Takes and raises what `check` does.
        """
        if not self.write:
            return
        self.check(recipe, overwrite=overwrite, resume=resume)
        if overwrite and self.recipe_file.exists():
            self._delete_run()
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.recipe_file.exists():
            if records := records_of(recipe.registered_names):
                write_json(self.plugins_file, {"plugins": records})
            save_recipe(recipe, self.recipe_file)  # last, as it makes the folder a run

    def recipe(self) -> Recipe:
        """The recipe of the run.

        Raises:
            UserError: If the folder holds no run, or something that its recipe names is not registered.
        """
        if not self.recipe_file.exists():
            raise UserError(
                f"{self.path} is not a run folder: it lacks {self.recipe_file.name}. Give the folder that "
                "`stml-tf train` named at its end, such as runs/quickstart."
            )
        self.require_plugins()
        return load_recipe(self.recipe_file, check_files=False)

    def require_plugins(self) -> None:
        """Refuse a run whose recipe names what is not registered here.

        Raises:
            UserError: Naming what has to be imported, or given again.
        """
        require_registered(self.plugins(), self.path)

    def write_lists(self, **lists: Iterable[str]) -> None:
        """Write the lines of each list to the file of its name, such as `unreadable.txt`; an empty list has no file."""
        for name, lines in lists.items():
            text = "".join(f"{line}\n" for line in lines)
            if text and self.write:
                write_text(self.path / f"{name}.txt", text)

    def write_picture(self, png: bytes) -> None:
        """Write `retrieval.png`."""
        if self.write:
            write_bytes(self.picture, png)

    def remembers(self, name: str) -> bool:
        """Return whether `remember` was asked for this before."""
        return (self.path / f"{name}.npy").exists()

    def remember(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what `compute` returns, or returned the first time: a run that is resumed cannot look back."""
        path = self.path / f"{name}.npy"
        if self.remembers(name):
            return np.load(require_seal(path))
        computed = compute()
        if self.write:
            with write_file(path, sealed=True) as file:
                np.save(file, computed)
        return computed

    def remember_epoch(self, name: str, epoch: int, array: np.ndarray) -> None:
        """Keep an array of an epoch, beside that of the one before: a run may be resumed from either."""
        if self.write:
            with write_file(self._of_epoch(name, epoch), sealed=True) as file:
                np.savez(file, epoch=epoch, array=array)

    def recall_epoch(self, name: str, epoch: int) -> np.ndarray | None:
        """Return what `remember_epoch` kept of an epoch; None if it did not, or no longer does."""
        path = self._of_epoch(name, epoch)
        if not path.exists():
            return None
        with np.load(require_seal(path)) as kept:
            return kept["array"] if int(kept["epoch"]) == epoch else None

    def _of_epoch(self, name: str, epoch: int) -> Path:
        return self.path / f"{name}_{'even' if epoch % 2 == 0 else 'odd'}.npz"

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write `metrics.json`, the last file of a run: where it is, the run is over."""
        if self.write:
            if not self.recipe_file.exists():
                raise UserError(f"The run folder {self.path} was deleted while training, and its results with it.")
            write_text(self.metrics_file, json.dumps(metrics, indent=2) + "\n")

    def read_metrics(self) -> dict[str, Any]:
        """Read `metrics.json`, also that of an earlier version, whose keys were the labels that people read."""
        return {_as_key(label): value for label, value in read_any_json(self.metrics_file).items()}

    def is_over(self) -> bool:
        """Return whether a run in this folder has come to its end."""
        return self.metrics_file.exists()

    def plugins(self) -> list[Record]:
        """Return what was registered from outside the package, of what the run's recipe names."""
        return read_json(self.plugins_file)["plugins"] if self.plugins_file.exists() else []

    def _delete_run(self) -> None:
        """Delete what a run writes, and nothing else that lies in its folder."""
        for checkpoint in self.checkpoints.glob("epoch-*"):
            delete_known(checkpoint, ("state.json", "variables.npz"))
        delete_known(self.checkpoints, ())
        delete_known(self.tensorboard, ("events.out.tfevents.*",))
        remembered = ("before_training.npy", "frozen_features.npy", "whitening.npy", "health_*.np*")
        lists = (*remembered, "images.json", "unreadable.txt", "left_out.txt", "leaks.txt")
        own = (self.metrics_file, self.picture, self.plugins_file, self.recipe_file)
        delete_known(self.path, (*lists, *(file.name for file in own)))

    def _refuse_other_plugins(self, recipe: Recipe) -> None:
        there, here = (
            {record["kind"]: record["origin"] for record in records}
            for records in (self.plugins(), records_of(recipe.registered_names))
        )
        differing = [f"  {kind}: {there[kind]}; now {here[kind]}" for kind in here if there.get(kind) != here[kind]]
        if differing:
            raise UserError(
                f"The run in {self.path} cannot be resumed with other parts than it started with:\n"
                + "\n".join(differing)
            )

    def _held(self) -> list[Path]:
        return list(self.path.iterdir()) if self.path.is_dir() else []

    def _refuse_another(self, recipe: Recipe) -> None:
        there, here = (dict(_fields(each.model_dump(mode="json"))) for each in (self.recipe(), recipe))
        differing = [
            f"  {key}: {json.dumps(there.get(key))} in the run, {json.dumps(here.get(key))} given"
            for key in {**there, **here}
            if there.get(key) != here.get(key)
        ]
        if differing:
            raise UserError(
                f"The run in {self.path} cannot be resumed with another recipe:\n"
                + "\n".join(differing)
                + "\nGive the "
                f"recipe that it started with, which is {self.recipe_file}, or another --run-dir."
            )


def _as_key(label: str) -> str:
    return "whitened_features" if label.startswith("frozen, whitened to ") else label.replace(" ", "_")


def _fields(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
