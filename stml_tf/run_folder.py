"""The folder that a run leaves behind, and the rule that none is overwritten silently."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stml_tf.recipe import Recipe, load_recipe, save_recipe


class RunFolder:
    """Where a run keeps its recipe, checkpoints, logs, metrics and picture.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.json"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.metrics_file = self.path / "metrics.json"
        self.picture = self.path / "retrieval.png"
        self.unreadable_file = self.path / "unreadable.txt"

    def refuse_existing(self) -> None:
        """Refuse a folder that holds anything.

        Raises:
            ValueError: If the path is a file, or a folder that is not empty.
        """
        if self.path.is_file():
            raise ValueError(f"The run folder {self.path} is a file: give another --run-dir.")
        if self.path.is_dir() and any(self.path.iterdir()):
            held = "a run" if self.recipe_file.exists() else "files that are no run"
            raise ValueError(
                f"The run folder {self.path} holds {held} already: give another --run-dir"
                + (", or replace the run with --overwrite." if self.recipe_file.exists() else ".")
            )

    def create(self, recipe: Recipe, *, overwrite: bool = False) -> None:
        """Make the folder and write the resolved recipe into it.

        Args:
            recipe: What the run was asked to do.
            overwrite: Delete the run that is there. A folder that holds something else is refused all the same.

        Raises:
            ValueError: See `refuse_existing`.
        """
        if overwrite and self.recipe_file.exists():
            shutil.rmtree(self.path)
        self.refuse_existing()
        self.path.mkdir(parents=True, exist_ok=True)
        save_recipe(recipe, self.recipe_file)

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
        if lines:
            self.unreadable_file.write_text("".join(lines), encoding="utf-8")

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write `metrics.json`."""
        self.metrics_file.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
