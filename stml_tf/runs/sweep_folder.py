"""The folder of a sweep: its request, its trials, and their run folders."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stml_tf.errors import UserError
from stml_tf.files import is_work_folder, read_json, write_json


class SweepFolder:
    """The folder of a sweep.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.asked = self.path / "sweep.json"
        self.database = self.path / "optuna.db"
        self.lock = self.path / "sweep.lock"
        self.best = self.path / "best.json"

    def open(self, asked: Mapping[str, Any], *, resume: bool = False) -> None:
        """Make the folder and note in it what is asked; or see that it is the same, if a sweep is resumed.

        Raises:
            UserError: If the folder is in the way, or holds a sweep that was asked something else.
        """
        if self.path.is_file():
            raise UserError(f"The sweep's folder {self.path} is a file: give another one with -o.")
        asked = json.loads(json.dumps(asked))
        if self.asked.exists():
            if not resume:
                raise UserError(f"{self.path} holds a sweep already: go on with --resume, or give another folder, -o.")
            self._refuse_another(asked)
        elif self.path.is_dir() and any(not is_work_folder(path) for path in self.path.iterdir()):
            raise UserError(f"{self.path} is not empty and holds no sweep: give another folder with -o.")
        else:
            write_json(self.asked, asked)

    def _refuse_another(self, asked: Mapping[str, Any]) -> None:
        there = read_json(self.asked)
        differing = [
            f"  {key}: {json.dumps(there.get(key))} in the sweep, {json.dumps(value)} given"
            for key, value in asked.items()
            if there.get(key) != value
        ]
        if differing:
            raise UserError(
                f"The sweep in {self.path} cannot be resumed, as it was asked something else:\n"
                + "\n".join(differing)
                + "\nGive what it was begun with, or another folder with -o. Only --trials may change."
            )
