"""Finds a SavedModel in a folder, tells one model from another by what its files hold, and a damaged one by its own."""

import hashlib
from pathlib import Path
from typing import Any

from stml_tf import files
from stml_tf.errors import UserError

METADATA = Path("assets.extra") / "metadata.json"

_BLOCK = 1 << 20


def find_saved_model(folder: Path) -> Path | None:
    """Find the SavedModel in a folder of versions, or in a version's own folder.

    Args:
        folder: Holds `saved_model.pb`, or numbered versions that do, of which the newest is taken.

    Returns:
        The folder of `saved_model.pb`; None where there is none.
    """
    if not folder.is_dir():
        return None
    return next(iter(_saved_models(folder)), None)


def _saved_models(folder: Path) -> list[Path]:
    """List the folder itself and its versions, the newest first, as far as they are SavedModels."""
    versions = sorted((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    return [path for path in (folder, *reversed(versions)) if (path / "saved_model.pb").is_file()]


def require_saved_model(folder: Path) -> Path:
    """Return what `find_saved_model` finds.

    Raises:
        UserError: If it finds nothing.
    """
    found = find_saved_model(folder)
    if found is not None:
        return found
    if (folder / "checkpoints").is_dir():
        raise UserError(
            f"{folder} is the folder of a run, not a SavedModel: write one with "
            f"`stml-tf export {folder} saved_models/NAME`, and give that folder."
        )
    raise UserError(
        f"{folder} is no SavedModel: neither it nor a numbered folder in it holds saved_model.pb. "
        "Give a folder that `stml-tf export` wrote, such as saved_models/birds or saved_models/birds/1."
    )


def fingerprint(saved_model: Path) -> str:
    """Compute what tells this model from every other: the SHA-256, in hexadecimal, of its graph and variables.

    A copy of the folder has the same fingerprint. Another export has another one, even of the same network.
    """
    digest = hashlib.sha256()
    for path in (saved_model / "saved_model.pb", *sorted((saved_model / "variables").glob("variables.*"))):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def read_metadata(saved_model: Path) -> dict[str, Any]:
    """Read what `stml-tf export` says of a SavedModel.

    Args:
        saved_model: The folder of `saved_model.pb`.

    Returns:
        By name. An export of an earlier version has no checksums; a SavedModel of something else has no metadata.

    Raises:
        DamagedError: If it is not what was written.
    """
    file = saved_model / METADATA
    if not file.is_file():
        return {}
    content = files.read_any_json(file)
    return files.read_json(file) if "sha256" in content else content


def require_intact(saved_model: Path) -> str:
    """Compare a SavedModel with the fingerprint in its metadata.

    Args:
        saved_model: The folder of `saved_model.pb`.

    Returns:
        Its fingerprint.

    Raises:
        DamagedError: If it is not what was exported.
    """
    found = fingerprint(saved_model)
    if read_metadata(saved_model).get("fingerprint", found) != found:
        raise files.DamagedError(
            f"{saved_model} is damaged: its graph or its variables are not what was exported. Export it again, or "
            "copy it again from where it is whole."
        )
    return found


def require_same_model(folder: Path, expected: str, *, product: Path) -> Path:
    """Find the SavedModel that made `product`, in its own folder or among the versions in a folder.

    Args:
        folder: As for `find_saved_model`; of several versions the one with the fingerprint is taken.
        expected: The fingerprint of the model that made it.
        product: What was made, for the message.

    Returns:
        The folder of `saved_model.pb`.

    Raises:
        UserError: If there is no model, another one, or a damaged one.
    """
    newest = require_saved_model(folder)
    found = {}
    for saved_model in _saved_models(folder):
        found[saved_model] = fingerprint(saved_model)
        if found[saved_model] == expected:
            return saved_model
    for saved_model in found:
        require_intact(saved_model)
    raise UserError(
        f"{product} was made by another model (fingerprint {expected[:12]}) than {newest} ({found[newest][:12]})"
        f"{f' and the {len(found) - 1} other versions beside it' if len(found) > 1 else ''}: give the one that made "
        "it, or make it anew with this one"
    )
