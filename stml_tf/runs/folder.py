"""The folder that a run leaves behind, and the rules that none is overwritten silently or goes on as another."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stml_tf.recipe.load import load_recipe, save_recipe
from stml_tf.recipe.recipe import Recipe


class RunFolder:
    """Where a run keeps its recipe, checkpoints, logs, metrics and picture.

    Args:
        path: The folder; it need not exist yet.
        write: False for a run whose folder another process writes: then nothing is.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path = Path(path)
        self.write = write
        self.recipe_file = self.path / "recipe.json"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.metrics_file = self.path / "metrics.json"
        self.picture = self.path / "retrieval.png"
        self.unreadable_file = self.path / "unreadable.txt"

    def check(self, recipe: Recipe, *, overwrite: bool = False, resume: bool = False) -> None:
        """Refuse a folder in which a run must not begin, or not go on.

        Args:
            recipe: What the run is asked to do.
            overwrite: A run that is there may be replaced. A folder that holds something else is refused all the same.
            resume: A run that is there may go on, if its recipe is the same.

        Raises:
            ValueError: If the path is a file, the folder holds something that is in the way, the recipe differs from
                that of the run to go on with, or both are asked for.
        """
        if overwrite and resume:
            raise ValueError("A run is either replaced or gone on with: give --overwrite or --resume, not both.")
        if self.path.is_file():
            raise ValueError(f"The run folder {self.path} is a file: give another --run-dir.")
        if not self.recipe_file.exists():
            if any(path != _partial(self.recipe_file) for path in self._held()):
                raise ValueError(
                    f"The run folder {self.path} holds files that are no run already: give another --run-dir."
                )
        elif resume:
            self._refuse_another(recipe)
        elif not overwrite:
            raise ValueError(
                f"The run folder {self.path} holds a run already: go on with it with --resume, replace it with "
                "--overwrite, or give another --run-dir."
            )

    def open(self, recipe: Recipe, *, overwrite: bool = False, resume: bool = False) -> None:
        """Make the folder and write the resolved recipe into it; what is there stays if the run is to go on.

        Takes and raises what `check` does.
        """
        if not self.write:
            return
        self.check(recipe, overwrite=overwrite, resume=resume)
        if overwrite and self.recipe_file.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.recipe_file.exists():
            # Under its own name at last and whole: the recipe is what makes the folder a run.
            save_recipe(recipe, _partial(self.recipe_file))
            _partial(self.recipe_file).replace(self.recipe_file)

    def recipe(self) -> Recipe:
        """The recipe of the run.

        Raises:
            ValueError: If the folder holds no run.
        """
        if not self.recipe_file.exists():
            raise ValueError(
                f"{self.path} is no run folder: it lacks {self.recipe_file.name}. Give the folder that "
                "`stml-tf train` named at its end, such as runs/quickstart."
            )
        return load_recipe(self.recipe_file, check_files=False)

    def write_unreadable(self, unreadable: Iterable[tuple[Path, str]]) -> None:
        """List the files that could not be decoded, with the reason, in `unreadable.txt`; without any, no file."""
        lines = [f"{path}\t{reason}\n" for path, reason in unreadable]
        if lines and self.write:
            self.unreadable_file.write_text("".join(lines), encoding="utf-8")

    def remembers(self, name: str) -> bool:
        """Whether `remember` was asked for this before."""
        return (self.path / f"{name}.npy").exists()

    def remember(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """What `compute` gives, or gave when it was first asked for: a run that goes on cannot look back."""
        path = self.path / f"{name}.npy"
        if self.remembers(name):
            return np.load(path)
        computed = compute()
        if self.write:
            with _partial(path).open("wb") as file:
                np.save(file, computed)
            _partial(path).replace(path)
        return computed

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write `metrics.json`, the last file of a run: where it is, the run is over."""
        if not self.write:
            return
        _partial(self.metrics_file).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        _partial(self.metrics_file).replace(self.metrics_file)

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
            raise ValueError(
                f"The run in {self.path} cannot go on with another recipe:\n" + "\n".join(differing) + "\nGive the "
                f"recipe that it began with, which is {self.recipe_file}, or another --run-dir."
            )


def _fields(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")
