"""`stml-tf check`: reads all of something that this program wrote, and says whether it is what was written."""

from pathlib import Path

import click

from stml_tf.cli.errors import errors_as_messages, verbose_option
from stml_tf.cli.terminal import number, visible


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@verbose_option
def check(path: Path, verbose: bool) -> None:
    """Read every file of the gallery PATH and compare it with its checksum."""
    with errors_as_messages(verbose):
        _check_gallery(path)


def _check_gallery(path: Path) -> None:
    from stml_tf.cli.gallery import tell_stale
    from stml_tf.search import Gallery

    gallery = Gallery.load(path)
    gallery.check()
    click.echo(f"{visible(path)} is whole: {number(len(gallery))}, {gallery.manifest.kind}")
    tell_stale(gallery, path)
