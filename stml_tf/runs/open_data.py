"""The images of a recipe, with all of those for which they are refused listed in a file."""

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
    """List the images of a run, before TensorFlow loads.

    Args:
        recipe: The recipe.
        folder: Folder of the run.
        data_dir: Folder that the recipe's data paths start from.
        download: Whether TensorFlow Datasets may download missing data.
        dry_run: Whether to write nothing.

    Raises:
        UserError: If the data are not available, or test images are trained on.
        DryRunStopped: If a dry run would have to extract or download the data first.
    """
    with listing_all(folder, dry_run=dry_run), trial(dry_run):
        return open_catalog(data_dir=data_dir, download=download, **recipe.data.model_dump())


@contextmanager
def listing_all(folder: RunFolder, *, dry_run: bool = False) -> Iterator[None]:
    """If an error within the block names some of many images, write all of them to a file next to the run folder.

    Args:
        folder: Folder of the run.
        dry_run: Whether to write nothing, and only say which file it would be.

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
