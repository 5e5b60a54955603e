"""The commands that embed images, make galleries and keep them up to date: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stml_tf.cli.errors import errors_as_messages, verbose_option
from stml_tf.cli.quiet import import_tensorflow
from stml_tf.cli.terminal import number, progress, say, tell, visible, waiting

if TYPE_CHECKING:
    from stml_tf.search.gallery import Changes, Gallery

# Commands import what they call, so that `stml-tf --help` need not wait for it, and TensorFlow only after everything
# that can be refused without it.

ANY_PATH = click.Path(path_type=Path)
model_argument = click.argument("model", type=ANY_PATH)
images_argument = click.argument("images", nargs=-1, required=True, type=ANY_PATH)
gallery_argument = click.argument("gallery", type=ANY_PATH)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace what this command wrote earlier; nothing else is ever replaced."
)
model_option = click.option(
    "--model", type=ANY_PATH, help="Where the gallery's model is now, if it was moved; remembered."
)


@click.command()
@model_argument
@images_argument
@click.option("-o", "--out", required=True, type=ANY_PATH, help="File to write: .npz, or .parquet.")
@overwrite_option
@verbose_option
def embed(model: Path, images: tuple[Path, ...], out: Path, overwrite: bool, verbose: bool) -> None:
    """Embed IMAGES (folders, text files that list paths, or images) with the SavedModel MODEL into one file.

    An interrupted run continues where it stopped.
    """
    with errors_as_messages(verbose):
        from stml_tf.export.saved_model import require_saved_model
        from stml_tf.search.embedding_files import check_output, embed_to_file
        from stml_tf.search.image_list import list_images

        check_output(out, overwrite=overwrite)
        listed = list_images(images)
        require_saved_model(model)
        load_tensorflow()
        from stml_tf.export import Embedder

        embedder = Embedder(model)
        with progress("embedding") as on_progress:
            count, unreadable = embed_to_file(embedder, listed, out, overwrite=overwrite, on_progress=on_progress)
        tell(f"{number(count)} embedded in {visible(out)}")
        _tell_unreadable(len(unreadable), f"{out}.unreadable.txt")


@click.command()
@model_argument
@images_argument
@click.option("-o", "--out", "gallery", required=True, type=ANY_PATH, help="Folder of the gallery.")
@click.option(
    "--kind",
    type=click.Choice(["exact", "hnsw", "ivfpq"]),
    default="exact",
    show_default=True,
    help="Kind of index. hnsw (fast to search) and ivfpq (faster to build) may miss a few neighbours.",
)
@overwrite_option
@verbose_option
def index(model: Path, images: tuple[Path, ...], gallery: Path, kind: str, overwrite: bool, verbose: bool) -> None:
    """Make a gallery to search of IMAGES with the SavedModel MODEL.

    IMAGES are folders, text files that list paths, or images.

    An interrupted run continues where it stopped. A gallery that is replaced answers until the new one is ready.
    """
    with errors_as_messages(verbose):
        from stml_tf.export.saved_model import require_saved_model
        from stml_tf.search import Gallery
        from stml_tf.search.image_list import list_images
        from stml_tf.search.store import GalleryStore

        GalleryStore(gallery.resolve()).refuse_existing(overwrite=overwrite)
        list_images(images)
        require_saved_model(model)
        load_tensorflow()
        with progress("embedding") as on_progress:
            made = Gallery.build(model, images, gallery, kind=kind, overwrite=overwrite, on_progress=on_progress)
        tell(f"{number(len(made))} in the gallery {visible(gallery)}")
        _tell_approximation(made)
        _tell_unreadable(len(made.unreadable), str(gallery / "unreadable.txt"))


@click.command()
@gallery_argument
@images_argument
@model_option
@verbose_option
def add(gallery: Path, images: tuple[Path, ...], model: Path | None, verbose: bool) -> None:
    """Add IMAGES (folders, text files that list paths, or images) to GALLERY.

    Images that it already holds are embedded again if they have changed, and skipped if not.
    """
    with errors_as_messages(verbose):
        from stml_tf.search import Gallery
        from stml_tf.search.image_list import list_images

        list_images(images)
        opened = Gallery.load(gallery, model=model)
        load_tensorflow()
        with progress("embedding") as on_progress:
            changes = opened.add(images, on_progress=on_progress)
        _tell_changes(opened, gallery, changes)


@click.command()
@gallery_argument
@click.argument("images", nargs=-1, type=ANY_PATH)
@model_option
@verbose_option
def update(gallery: Path, images: tuple[Path, ...], model: Path | None, verbose: bool) -> None:
    """Bring GALLERY up to date with the disk.

    New images are added, changed ones embedded again, missing ones dropped, and moved ones followed. New and moved
    images are looked for in IMAGES, by default what GALLERY was made from. Images that `remove` took out stay out.
    """
    with errors_as_messages(verbose):
        from stml_tf.search import Gallery

        opened = Gallery.load(gallery, model=model)
        load_tensorflow()
        with progress("embedding") as on_progress:
            changes = opened.update(images or None, on_progress=on_progress)
        _tell_changes(opened, gallery, changes)


@click.command()
@gallery_argument
@click.argument("images", nargs=-1, required=True, type=ANY_PATH)
@verbose_option
def remove(gallery: Path, images: tuple[Path, ...], verbose: bool) -> None:
    """Remove IMAGES, or all images below a folder, from GALLERY. Their files stay."""
    with errors_as_messages(verbose):
        from stml_tf.search import Gallery

        opened = Gallery.load(gallery)
        removed = opened.remove(images)
        tell(f"{number(removed)} removed: {number(len(opened))} in the gallery {visible(gallery)}")


def load_tensorflow() -> None:
    """Import TensorFlow, and say so in the meantime."""
    with waiting("loading TensorFlow"):
        import_tensorflow()


def tell_stale(gallery: Gallery, path: Path, consequence: str = "") -> None:
    """Say how many files have changed or disappeared since they were embedded, if any.

    Args:
        gallery: The gallery.
        path: Its folder, for the message.
        consequence: What follows from it, for the message.
    """
    stale = gallery.stale()
    if not len(stale):
        return
    parts = [
        f"{number(len(rows))} {what}"
        for rows, what in ((stale.changed, "changed"), (stale.missing, "gone"))
        if len(rows)
    ]
    say(f"Since they were embedded: {', '.join(parts)}{consequence}. Bring it up to date: stml-tf update {path}")


def _tell_changes(gallery: Gallery, path: Path, changes: Changes) -> None:
    told = [f"{count:,} {what}" for what, count in changes._asdict().items() if count or what == "added"]
    tell(f"{', '.join(told)}: {number(len(gallery))} in the gallery {visible(path)}")
    if any(changes):
        _tell_approximation(gallery)
    _tell_unreadable(len(gallery.unreadable), str(path / "unreadable.txt"))


def _tell_approximation(gallery: Gallery) -> None:
    from stml_tf.search.index import WANTED_RECALL

    found = gallery.manifest.approximation
    if found is None:
        return
    tell(
        f"{gallery.manifest.kind} finds {100 * found.recall_at_10:.1f} % of the true ten nearest of distinct images, "
        "measured on a sample"
    )
    if found.recall_at_10 < WANTED_RECALL:
        say(f"That is below the {100 * WANTED_RECALL:.0f} % aimed at, even at its most thorough: use --kind exact.")


def _tell_unreadable(count: int, file: str) -> None:
    if count:
        say(f"{number(count)} could not be read and left out: listed in {file}")
