"""The options that commands with a recipe share: its name, changes to it, plug-ins, and the data folder."""

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from stml_tf.cli.quiet import import_tensorflow


def _complete_recipe(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a shipped recipe, or of a file."""
    from stml_tf.recipe.load import shipped_recipes

    named = [CompletionItem(name, help=about) for name, about in shipped_recipes().items()]
    return [*(item for item in named if item.value.startswith(incomplete)), CompletionItem(incomplete, type="file")]


def import_plugins(modules: tuple[str, ...]) -> None:
    """Import the modules that `--import` names."""
    if modules:
        from stml_tf.plugins import import_plugin

        import_tensorflow()  # which most plug-ins import, and then with its notices
        for module in modules:
            import_plugin(module)


recipe_argument = click.argument("recipe", shell_complete=_complete_recipe)
recipe_or_images = click.argument("recipe", required=False, shell_complete=_complete_recipe)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Change a value of the recipe; may be repeated."
)
import_option = click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import a module, by name or as a .py file, that registers backbones, data sets, losses or methods; may be "
    "repeated.",
)
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(exists=True, path_type=Path),
    help="Folder that the recipe's data paths start from, or the downloaded archive of a published data set.",
)
