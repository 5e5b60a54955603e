"""A folder that keeps arrays and JSON objects by name, each with its checksum."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stml_tf.files import read_json, require_seal, unreadable_is_damage, write_file, write_json


class SealedFolder:
    """A folder that keeps arrays and JSON objects by name, and refuses to read what is not what was written.

    Args:
        path: The folder.
        write: Whether to write; False if another process writes the folder.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path = Path(path)
        self.write = write

    def remembers(self, name: str) -> bool:
        """Return whether `remember` has stored an array of this name."""
        return (self.path / f"{name}.npy").exists()

    def remember(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Compute an array once in the life of a run, and read it from the folder if the run is resumed.

        Args:
            name: Name of the array's file.
            compute: Returns the array.
        """
        path = self.path / f"{name}.npy"
        if self.remembers(name):
            with unreadable_is_damage(path):
                return np.load(require_seal(path))
        computed = compute()
        if self.write:
            with write_file(path, sealed=True) as file:
                np.save(file, computed)
        return computed

    def remember_epoch(self, name: str, epoch: int, array: np.ndarray) -> None:
        """Store an array of an epoch along with that of the epoch before, as a run may be resumed from either.

        Args:
            name: Name of the array's file.
            epoch: Number of the epoch.
            array: The array.
        """
        if self.write:
            with write_file(self._of_epoch(name, epoch), sealed=True) as file:
                np.savez(file, epoch=epoch, array=array)

    def recall_epoch(self, name: str, epoch: int) -> np.ndarray | None:
        """Return the array that `remember_epoch` stored for an epoch; None if it did not, or no longer has it."""
        path = self._of_epoch(name, epoch)
        if not path.exists():
            return None
        with unreadable_is_damage(path), np.load(require_seal(path)) as kept:
            return kept["array"] if int(kept["epoch"]) == epoch else None

    def keep_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON object to `NAME.json`, with its checksum; one that is there is replaced."""
        if self.write:
            write_json(self.path / f"{name}.json", dict(content))

    def kept_json(self, name: str) -> dict[str, Any] | None:
        """Return what `keep_json` wrote; None if it did not.

        Raises:
            DamagedError: If the file is not what was written.
        """
        path = self.path / f"{name}.json"
        return read_json(path) if path.exists() else None

    def keep_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays to `NAME.npz`, with a checksum; a file that is there is replaced."""
        if self.write:
            with write_file(self.path / f"{name}.npz", sealed=True) as file:
                np.savez(file, **arrays)

    def kept_arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """Return what `keep_arrays` wrote; None if it did not.

        Raises:
            DamagedError: If the file is not what was written.
        """
        path = self.path / f"{name}.npz"
        if not path.exists():
            return None
        with unreadable_is_damage(path), np.load(require_seal(path)) as kept:
            return dict(kept)

    def _of_epoch(self, name: str, epoch: int) -> Path:
        return self.path / f"{name}_{'even' if epoch % 2 == 0 else 'odd'}.npz"
