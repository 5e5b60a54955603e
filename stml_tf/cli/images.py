"""From a folder of images to a recipe, and from the trained network to a gallery: parse, call, print."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stml_tf.cli.errors import errors_as_messages, verbose_option
from stml_tf.cli.terminal import number, progress, say, tell, visible
from stml_tf.errors import UserError

if TYPE_CHECKING:
    from stml_tf.recipe.recipe import Recipe

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_KEYS = {"test": "data.test", "backbone": "model.backbone", "weights": "model.weights", "name": "name"}


def network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that go with a folder of images to a command."""
    for option in (
        click.option("--name", help="Name of the run and the gallery; the folder's by default."),
        click.option("--weights", metavar="PATH", help="Weights of --backbone: a file or a folder."),
        click.option("--backbone", metavar="NAME", help="Name of the backbone, as in recipes; chosen by default."),
        click.option("--test", type=FOLDER, help="Folder of test images, with a folder for each class."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("images", type=FOLDER)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="File to write; ends in .json.")
@network_options
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Change a value of the recipe; may be repeated."
)
@click.option("--overwrite", is_flag=True, help="Replace a recipe that this command wrote earlier.")
@verbose_option
def init(images: Path, out: Path, overrides: tuple[str, ...], overwrite: bool, verbose: bool, **chosen: Any) -> None:
    """Write the recipe that `train --images` would choose for the folder IMAGES, with a reason for each choice."""
    with errors_as_messages(verbose):
        from stml_tf.files import refuse_existing
        from stml_tf.recipe.load import load_recipe, save_recipe

        refuse_existing(out, suffixes=[".json"], ours=_has_reasons, overwrite=overwrite)
        recipe = load_recipe(choose_recipe(images, **chosen), overrides)
        save_recipe(recipe, out)
        tell(f"Recipe written to {visible(out)}: {describe(recipe)}")
        tell(f"Train with it: stml-tf train {_quoted(out)} --data-dir {_quoted(images)}")


def one_of_recipe_and_images(
    recipe: str | None, images: Path | None, data_dir: Path | None, chosen: Mapping[str, Any]
) -> None:
    """Refuse arguments of `train` that do not go together.

    Args:
        recipe: The argument RECIPE.
        images: The option --images.
        data_dir: The option --data-dir.
        chosen: The options that go with --images.

    Raises:
        UserError: If both or neither of RECIPE and --images are given, or an option that goes with the other.
    """
    if (recipe is None) == (images is None):
        given = "Neither was given" if recipe is None else "Both were given"
        raise UserError(
            f"{given}: train takes either RECIPE, a JSON file or a name that `stml-tf recipes` lists, or --images DIR, "
            "a folder of your own images"
        )
    if images is not None and data_dir is not None:
        raise UserError("--data-dir was given with --images, which already says where the images are: omit --data-dir")
    for option, value in chosen.items():
        if images is None and value is not None:
            raise UserError(
                f"--{option} goes with --images; with a recipe, give --set {_KEYS[option]}={shlex.quote(str(value))}"
            )


def choose_recipe(images: Path, **chosen: Any) -> dict[str, Any]:
    """Choose a recipe for a folder of images; see `recipe_for_images`."""
    from stml_tf.data.survey import survey_images
    from stml_tf.recipe.for_images import recipe_for_images

    return recipe_for_images(survey_images(images), **chosen)


def describe(recipe: Recipe) -> str:
    """Describe a chosen recipe in a line."""
    return (
        f"{recipe.model.backbone} at {recipe.views.size} px, batches of {number(recipe.batch.size)}, "
        f"{number(recipe.training.epochs, 'epoch')}"
    )


def tell_choices(recipe: Recipe, run_dir: Path | None) -> None:
    """Print what was chosen, where the reasons will be if there is a run folder, and what can be measured."""
    where = "" if run_dir is None else f"; the reasons are in {visible(run_dir / 'recipe.json')}"
    tell(f"Chosen for these images: {describe(recipe)}{where}")
    about_tests = "data.test" if recipe.data.train_classes is None else "data.train_classes"
    if recipe.data.test is None and about_tests in recipe.reasons:
        tell(recipe.reasons[about_tests])


def build_gallery(saved_model: Path, images: Path, gallery: Path, *, overwrite: bool) -> None:
    """Make a gallery of a folder of images with the network that was trained on them, and say how to search it."""
    from stml_tf.search import Gallery

    with progress("embedding") as on_progress:
        made = Gallery.build(saved_model, images, gallery, overwrite=overwrite, on_progress=on_progress)
    tell(f"{number(len(made))} in the gallery {visible(gallery)}")
    if made.unreadable:
        say(f"{number(len(made.unreadable))} could not be read and left out: listed in {gallery / 'unreadable.txt'}")
    tell(f"Search it: stml-tf search {_quoted(gallery)} photo.jpg")


def _has_reasons(file: Path) -> bool:
    from stml_tf.files import DamagedError, read_any_json

    try:
        return bool(read_any_json(file).get("reasons"))
    except DamagedError:
        return False


def _quoted(path: Path) -> str:
    return shlex.quote(visible(path))
