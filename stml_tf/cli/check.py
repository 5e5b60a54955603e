"""`stml-tf check`: looks over what a run would train on before it begins, or reads a gallery whole."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from stml_tf.cli.errors import errors_as_messages, verbose_option
from stml_tf.cli.quiet import import_tensorflow
from stml_tf.cli.recipe_options import data_dir_option, import_option, import_plugins, set_option
from stml_tf.cli.terminal import number, progress, say, tell, visible, waiting
from stml_tf.errors import UserError

_GALLERY = "gallery.json"


@click.command()
@click.argument("what", metavar="RECIPE|DIR|GALLERY")
@data_dir_option
@set_option
@import_option
@click.option("--no-steps", is_flag=True, help="Skip the ten training steps that measure time and memory.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="Also write a page with pictures to this file."
)
@click.option("--overwrite", is_flag=True, help="Replace a page that this program wrote earlier.")
@verbose_option
@click.pass_context
def check(
    context: click.Context,
    what: str,
    data_dir: Path | None,
    overrides: tuple[str, ...],
    modules: tuple[str, ...],
    no_steps: bool,
    as_json: bool,
    html: Path | None,
    overwrite: bool,
    verbose: bool,
) -> None:
    """Check what RECIPE or `train --images DIR` would train on, or the checksums of GALLERY.

    Count images and find those that are unreadable, both in training and test, identical or nearly so, tiny, huge,
    grey, dark, blurred or blank, and measure memory and time in ten training steps. Nothing is written except the page
    that --html names. The exit status is 1 if training would refuse to begin.
    """
    with errors_as_messages(verbose):
        from stml_tf.search.manifest import holds_generations

        path = Path(what)
        if (path / _GALLERY).is_file() or holds_generations(path):
            _refuse_options(data_dir=data_dir, set=overrides, no_steps=no_steps, json=as_json, html=html)
            _check_gallery(path)
            return
        _check_run(
            context,
            what,
            data_dir,
            overrides,
            modules,
            steps=not no_steps,
            as_json=as_json,
            html=html,
            overwrite=overwrite,
        )


def _check_gallery(path: Path) -> None:
    from stml_tf.cli.gallery import tell_stale
    from stml_tf.search import Gallery

    gallery = Gallery.load(path)
    gallery.check()
    tell(f"{visible(path)} is whole: {number(len(gallery))}, {gallery.manifest.kind}")
    tell_stale(gallery, path)


def _check_run(
    context: click.Context,
    what: str,
    data_dir: Path | None,
    overrides: tuple[str, ...],
    modules: tuple[str, ...],
    *,
    steps: bool,
    as_json: bool,
    html: Path | None,
    overwrite: bool,
) -> None:
    from stml_tf.files import refuse_existing, write_text
    from stml_tf.recipe.load import load_recipe

    if html is not None:
        refuse_existing(html, suffixes=[".html", ".htm"], ours=_is_page, overwrite=overwrite)
    import_plugins(modules)
    folder = Path(what) if Path(what).is_dir() else None
    if folder is not None and data_dir is not None:
        raise UserError(f"--data-dir was given with {what}, which is a folder of images itself: omit --data-dir")
    recipe = None if folder else load_recipe(what, overrides, check_files=False)
    with waiting("loading TensorFlow"):
        import_tensorflow()
    from stml_tf.runs.check import check_folder, check_recipe

    found = (
        check_folder(folder, overrides, steps=steps, progress=_progress)
        if folder
        else check_recipe(recipe, data_dir=data_dir, steps=steps, progress=_progress)
    )
    if html is not None:
        from stml_tf.runs.check_page import check_page

        write_text(html, check_page(found))
        say(f"Page written to {html}")
    if as_json:
        tell(json.dumps(found.as_json(), indent=2))
    else:
        from stml_tf.cli.check_text import check_lines

        for line in check_lines(found):
            tell(line)
    context.exit(1 if found.refused else 0)


def _is_page(file: Path) -> bool:
    from stml_tf.files import begins_with
    from stml_tf.pages.template import START

    return begins_with(file, START.encode())


def _refuse_options(**given: object) -> None:
    for option, value in given.items():
        if value:
            raise UserError(
                f"--{option.replace('_', '-')} goes with a recipe or a folder of images, not with a gallery"
            )


@contextmanager
def _progress(what: str) -> Iterator[object]:
    if "images" in what and "looking" in what:
        with progress(what) as on_progress:
            yield on_progress
    else:
        with waiting(what):
            yield None
