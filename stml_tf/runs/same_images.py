"""The record of a run's images, as a run can only be resumed on those: batches are positions among them."""

import hashlib

from stml_tf.data.catalog import Catalog
from stml_tf.data.fingerprint import Progress, differences, fingerprint, names_checksum
from stml_tf.errors import UserError
from stml_tf.files import read_json, write_json
from stml_tf.runs.folder import RunFolder


def require_same_images(folder: RunFolder, catalog: Catalog, *, resume: bool, progress: Progress) -> str:
    """Record the images of a run in `images.json`; if it is resumed, compare them with the record.

    Args:
        folder: The run folder, open.
        catalog: The images, before any is left out.
        resume: Whether the run is resumed.
        progress: See `fingerprint`.

    Returns:
        A checksum of the record, by which workers tell whether they see the same images.

    Raises:
        UserError: If the run started with other images, which the message names.
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
    """Return the checksum of the names of a run's test classes; None if it has none, or no record."""
    file = folder.path / "images.json"
    classes = read_json(file)["sets"].get("test", {}).get("classes", []) if file.exists() else []
    known = [name for name in classes if name is not None]
    return names_checksum(known) if known else None
