"""Opens the images of a recipe. Where they are refused over single images, all of these are listed in a file."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stml_tf.data.catalog import Catalog
from stml_tf.data.image_files import ListedError, listed
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.dry_run import trial
from stml_tf.errors import UserError
from stml_tf.files import write_text
from stml_tf.recipe.recipe import Recipe
from stml_tf.runs.folder import RunFolder


def open_data(
    recipe: Recipe, folder: RunFolder, *, data_dir: Path | None = None, download: bool = False, dry_run: bool = False
) -> Catalog:
    """List the images that a run is to be made with, before TensorFlow loads.

    Args:
        recipe: Names the data.
        folder: Of the run.
        data_dir: Where the recipe's data paths start from.
        download: Let TensorFlow Datasets download what is not there.
        dry_run: Write nothing.

    Raises:
        UserError: If the data cannot be had, or test images are trained on.
        DryRunStopped: If a dry run would have to extract or download the data first.
    """
    with listing_all(folder, dry_run=dry_run), trial(dry_run):
        return open_catalog(data_dir=data_dir, download=download, **recipe.data.model_dump())


@contextmanager
def listing_all(folder: RunFolder, *, dry_run: bool = False) -> Iterator[None]:
    """Where an error within the block names some of many images, write all to a file beside the run folder.

    Raises:
        UserError: The same error, which names that file.
    """
    try:
        yield
    except ListedError as error:
        if error.names_all or not folder.write:
            raise
        file = folder.path.with_name(f"{folder.path.name}-{error.name}.txt")
        if dry_run:
            raise UserError(f"{error}\nWithout --dry-run, all of them are listed in {file}.") from None
        with suppress(OSError):  # A folder that cannot be written to is no reason to hide the error itself.
            write_text(file, "".join(f"{line}\n" for line in listed(error.images)))
            raise UserError(f"{error}\nAll of them are listed in {file}.") from None
        raise
