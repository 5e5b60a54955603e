"""A run is resumed on the images that it started with: its neighbours and batches are kept as their positions."""

import hashlib

from stml_tf.data.catalog import Catalog
from stml_tf.data.fingerprint import Progress, differences, fingerprint, names_checksum
from stml_tf.errors import UserError
from stml_tf.files import read_json, write_json
from stml_tf.runs.folder import RunFolder


def require_same_images(folder: RunFolder, catalog: Catalog, *, resume: bool, progress: Progress) -> str:
    """Record in `images.json` which images a run is made with; where it is resumed, compare them with what is there.

    Args:
        folder: Of the run, open.
        catalog: Its images, before any is left out.
        resume: Whether the run is resumed.
        progress: See `fingerprint`.

    Returns:
        A checksum of all of it, by which workers can tell whether they see the same images.

    Raises:
        UserError: If the run started with other images; the message names them.
    """
    now = fingerprint(catalog, progress=progress)
    file = folder.path / "images.json"
    if resume and file.exists():
        if changed := differences(read_json(file)["sets"], now):
            raise UserError(
                f"The run in {folder.path} cannot be resumed, as its images are not those that it started with:\n  "
                + "\n  ".join(changed)
                + "\nRestore them, or start again with --overwrite or another --run-dir."
            )
    elif folder.write:
        write_json(file, {"sets": now})
    return hashlib.sha256(repr(now).encode("utf-8", "surrogatepass")).hexdigest()


def test_classes_of(folder: RunFolder) -> str | None:
    """The checksum of the names of a run's test classes; None where it has none, or kept no record."""
    file = folder.path / "images.json"
    classes = read_json(file)["sets"].get("test", {}).get("classes", []) if file.exists() else []
    known = [name for name in classes if name is not None]
    return names_checksum(known) if known else None
