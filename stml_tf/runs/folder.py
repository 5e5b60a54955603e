"""The folder of a run, which is never silently overwritten, nor resumed with another recipe."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stml_tf.errors import UserError
from stml_tf.files import (
    DamagedError,
    checksum,
    delete,
    delete_known,
    is_work_folder,
    locked,
    made_folder,
    publish,
    read_any_json,
    read_json,
    unreadable_is_damage,
    work_folder,
    write_bytes,
    write_json,
    write_text,
)
from stml_tf.plugins import Record, records_of, require_registered
from stml_tf.recipe.load import load_recipe, save_recipe
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.sealed_folder import SealedFolder


class RunFolder(SealedFolder):
    """The folder of a run, with its recipe, checkpoints, logs, metrics and picture.

    Args:
        path: The folder, which need not exist yet.
        write: Whether to write; False if another process writes the folder.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        super().__init__(path, write=write)
        self.recipe_file = self.path / "recipe.json"
        self.recipe_checksum = self.path / "recipe.json.sha256"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.metrics_file = self.path / "metrics.json"
        self.picture = self.path / "retrieval.png"
        self.plugins_file = self.path / "plugins.json"
        self.report = self.path / "report.html"
        self.lock = self.path / "run.lock"

    def check(self, recipe: Recipe, *, overwrite: bool = False, resume: bool = False) -> None:
        """Refuse a folder in which a run must not start or resume.

        Args:
            recipe: The recipe of the run.
            overwrite: Whether a run in the folder may be replaced. A folder that is not a run is refused in any case.
            resume: Whether a run in the folder may be resumed, provided that its recipe is the same.

        Raises:
            UserError: If the path is a file, the folder holds anything else, the recipe differs from that of the run to
                resume, someone has changed that of the run to replace, or both `overwrite` and `resume` are given.
        """
        if overwrite and resume:
            raise UserError("A run is either replaced or resumed: give --overwrite or --resume, not both.")
        if self.path.is_file():
            raise UserError(f"The run folder {self.path} is a file: give another --run-dir.")
        if not self._is_run():
            before_it = (self.lock, self.plugins_file, self.recipe_checksum)  # all there is of a run killed early
            if any(not is_work_folder(path) and path not in before_it for path in self._held()):
                raise UserError(f"{self.path} is not empty and is not a run folder: give another --run-dir.")
        elif resume:
            self._refuse_another(recipe)
            self._refuse_other_plugins(recipe)
        elif not overwrite:
            raise UserError(
                f"The run folder {self.path} holds a run already: resume it with --resume, replace it with "
                "--overwrite, or give another --run-dir."
            )
        elif not (self._wrote_recipe() or self._holds(recipe)):
            raise UserError(
                f"{self.recipe_file} is not what the run wrote, so --overwrite does not replace it: move it away with "
                "the rest of the folder, or give another --run-dir."
            )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other processes from training in the folder within the block.

        The folder is made; after an error it goes away again if nothing was put in it.

        Raises:
            UserError: If another process trains in it.
        """
        if not self.write:
            yield
            return
        busy = f"Another process trains in {self.path}: wait until it ends, or give another --run-dir."
        with made_folder(self.path), locked(self.lock, busy=busy, wait=False):
            try:
                yield
            except BaseException:
                if self._held() == [self.lock]:
                    with contextlib.suppress(OSError):
                        delete(self.lock)
                raise

    def open(self, recipe: Recipe, *, overwrite: bool = False, resume: bool = False) -> None:
        """Create the folder and write the resolved recipe into it, or keep a run that is resumed.

        Args:
            recipe: The recipe of the run.
            overwrite: Whether to replace a run in the folder.
            resume: Whether to resume a run in the folder.

        Raises:
            UserError: Like `check`.
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
            self._save_recipe(recipe)

    def recipe(self) -> Recipe:
        """Read the recipe of the run.

        Raises:
            UserError: If the folder holds no run, its recipe is not what was written, or something that it names is not
                registered.
        """
        if not self.recipe_file.exists():
            raise UserError(
                f"{self.path} is not a run folder: it lacks {self.recipe_file.name}. Give the folder that "
                "`stml-tf train` named at its end, such as runs/quickstart."
            )
        self._require_own_recipe()
        self.require_plugins()
        return load_recipe(self.recipe_file, check_files=False)

    def require_plugins(self) -> None:
        """Refuse a run whose recipe names something that is not registered.

        Raises:
            UserError: Naming what has to be imported, or passed again.
        """
        require_registered(self.plugins(), self.path)

    def write_lists(self, **lists: Iterable[str]) -> None:
        """Write each list, one line an entry, to a file of its name, such as `unreadable.txt`, unless it is empty."""
        for name, lines in lists.items():
            text = "".join(f"{line}\n" for line in lines)
            if text and self.write:
                write_text(self.path / f"{name}.txt", text)

    def write_picture(self, png: bytes) -> None:
        """Write `retrieval.png`, given the bytes of a PNG file."""
        if self.write:
            write_bytes(self.picture, png)

    def write_report(self, page: str) -> None:
        """Write `report.html`."""
        if self.write:
            write_bytes(self.report, page.encode())

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write `metrics.json`, the last file of a run, whose presence means that the run is over.

        Args:
            metrics: The metrics and everything else in the file.

        Raises:
            UserError: If the folder was deleted in the meantime.
        """
        if self.write:
            if not self.recipe_file.exists():
                raise UserError(f"The run folder {self.path} was deleted during training, and the results with it.")
            write_json(self.metrics_file, dict(metrics))

    def read_metrics(self) -> dict[str, Any]:
        """Read `metrics.json`, including that of an earlier version, which has no checksum and whose keys have spaces.

        Returns:
            The values by key.

        Raises:
            UserError: If it is not what was written.
        """
        content = read_any_json(self.metrics_file)
        if "sha256" in content:
            content = read_json(self.metrics_file)
        return {_as_key(label): value for label, value in content.items()}

    def is_over(self) -> bool:
        """Return whether the run in this folder is over."""
        return self.metrics_file.exists()

    def plugins(self) -> list[Record]:
        """Return the records of what the run's recipe names that was registered from outside the package."""
        if not self.plugins_file.exists():
            return []
        with unreadable_is_damage(self.plugins_file):
            return [{**record} for record in read_json(self.plugins_file)["plugins"]]

    def _delete_run(self) -> None:
        """Delete what a run writes, and nothing else in its folder."""
        for checkpoint in self.checkpoints.glob("epoch-*"):
            delete_known(checkpoint, ("state.json", "variables.npz"))
        delete_known(self.checkpoints, ())
        for baseline in ("raw_pixels", "frozen_features", "whitened_features"):
            delete_known(self.tensorboard / baseline, ("events.out.tfevents.*",))
        projector = ("projector_config.pbtxt", "embeddings.bytes", "metadata.tsv", "sprite.png")
        delete_known(self.tensorboard, ("events.out.tfevents.*", *projector))
        remembered = ("before_training.npy", "frozen_features.npy", "whitening.npy", "health_*.np*")
        lists = (*remembered, "images.json", "unreadable.txt", "left_out.txt", "leaks.txt")
        shown = ("baselines.json", "history.json", "queries.npz", "evidence.json", "trackers.json", self.report.name)
        own = (self.metrics_file, self.picture, self.plugins_file, self.recipe_file, self.recipe_checksum)
        delete_known(self.path, (*lists, *shown, *(file.name for file in own)))

    def _save_recipe(self, recipe: Recipe) -> None:
        # A recipe has no room for its checksum, so that lies beside it, as `sha256sum --check` reads it.
        with work_folder(self.recipe_file) as work:
            save_recipe(recipe, work / self.recipe_file.name)
            digest = checksum(work / self.recipe_file.name)
            write_text(self.recipe_checksum, f"{digest}  {self.recipe_file.name}\n")
            publish(work / self.recipe_file.name, self.recipe_file)  # last, as it makes the folder a run

    def _is_run(self) -> bool:
        """Return whether the folder holds a run, and not merely a recipe that someone else has written."""
        there = (self.recipe_checksum.exists(), any(self.checkpoints.glob("epoch-*/state.json")))
        return self.recipe_file.exists() and any(there)

    def _wrote_recipe(self) -> bool:
        if not self.recipe_checksum.exists():
            return False
        told = self.recipe_checksum.read_bytes().split(maxsplit=1)[:1]
        return told == [checksum(self.recipe_file).encode()]

    def _holds(self, recipe: Recipe) -> bool:
        try:
            return load_recipe(self.recipe_file, check_files=False) == recipe
        except UserError:
            return False

    def _require_own_recipe(self) -> None:
        """Compare the recipe with its checksum, which a run of an earlier version lacks."""
        if self.recipe_checksum.exists() and not self._wrote_recipe():
            raise DamagedError(
                f"{self.recipe_file} is not what the run wrote: restore it; or if you changed it yourself, delete "
                f"{self.recipe_checksum.name} beside it."
            )

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
