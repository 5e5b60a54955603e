"""Data sets by name."""

from pathlib import Path
from typing import Any

from stml_tf.data.catalog import Catalog


def open_catalog(name: str, *, data_dir: Path | None = None, **options: Any) -> Catalog:
    """List the images of a data set without decoding any; loads no TensorFlow.

    Args:
        name: "glyphs" or "folder".
        data_dir: Where the data lie on disk; glyphs need none.
        **options: What `load_glyphs` or `load_folder` takes.

    Returns:
        Training images, and test images where there are any.

    Raises:
        ValueError: If the name is unknown, a folder is missing or not laid out as expected, or no folder is given.
    """
    if name == "glyphs":
        from stml_tf.data.glyphs import load_glyphs  # matplotlib's fonts take a second to list

        return load_glyphs(**options)
    if name == "folder":
        if data_dir is None:
            raise ValueError("The data are in a folder of your own: say where with --data-dir DIR.")
        from stml_tf.data.folder import load_folder

        return load_folder(data_dir, **options)
    raise ValueError(f"Unknown data {name!r}: choose glyphs or folder.")
