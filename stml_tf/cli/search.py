"""The commands that search with an exported network: parse, call, print."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from stml_tf.cli.errors import errors_as_messages, verbose_option
from stml_tf.cli.quiet import import_tensorflow

# What the commands call is imported inside them, so that `stml-tf --help` need not wait for it.

ANY_PATH = click.Path(path_type=Path)
model_argument = click.argument("model", type=ANY_PATH)
images_argument = click.argument("images", type=ANY_PATH)
gallery_argument = click.argument("gallery", type=ANY_PATH)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is already there.")
model_option = click.option("--model", type=ANY_PATH, help="Where the gallery's model is now, if it was moved.")


@click.command()
@model_argument
@images_argument
@click.option("-o", "--out", required=True, type=ANY_PATH, help="File to write: .npz, or .parquet.")
@overwrite_option
@verbose_option
def embed(model: Path, images: Path, out: Path, overwrite: bool, verbose: bool) -> None:
    """Embed IMAGES, a folder or a text file that lists paths, with the SavedModel MODEL into one file.

    A run that was interrupted goes on where it was.
    """
    with errors_as_messages(verbose):
        from stml_tf.search.embedding_files import check_output, embed_to_file
        from stml_tf.search.image_list import list_images

        # What can be refused is refused before TensorFlow loads.
        check_output(out, overwrite=overwrite)
        listed = list_images(images)
        import_tensorflow()
        from stml_tf.export import Embedder

        embedder = Embedder(model)
        with _progress("embedding") as on_progress:
            count, unreadable = embed_to_file(embedder, listed, out, overwrite=overwrite, on_progress=on_progress)
        click.echo(f"{_number(count)} embedded in {out}")
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
    help="How it is searched. hnsw (fast) and ivfpq (small) may miss a few neighbours.",
)
@overwrite_option
@verbose_option
def index(model: Path, images: Path, gallery: Path, kind: str, overwrite: bool, verbose: bool) -> None:
    """Make a gallery to search, of IMAGES, a folder or a text file that lists paths, with the SavedModel MODEL.

    A run that was interrupted goes on where it was.
    """
    with errors_as_messages(verbose):
        from stml_tf.search import Gallery
        from stml_tf.search.image_list import list_images

        listed = list_images(images)
        import_tensorflow()
        with _progress("embedding") as on_progress:
            made = Gallery.build(model, listed, gallery, kind=kind, overwrite=overwrite, on_progress=on_progress)
        click.echo(f"{_number(len(made))} in the gallery {gallery}")
        found = made.manifest.approximation
        if found is not None:
            click.echo(f"{kind} finds {100 * found.recall_at_10:.1f} % of the true ten nearest, measured on a sample")
        _tell_unreadable(len(made.unreadable), str(gallery / "unreadable.txt"))


@click.command()
@gallery_argument
@images_argument
@model_option
@verbose_option
def add(gallery: Path, images: Path, model: Path | None, verbose: bool) -> None:
    """Add IMAGES, a folder, a text file that lists paths or an image, to GALLERY; those it holds are passed over."""
    with errors_as_messages(verbose):
        from stml_tf.search import Gallery

        opened = Gallery.load(gallery, model=model)
        import_tensorflow()
        with _progress("embedding") as on_progress:
            added = opened.add(images, on_progress=on_progress)
        click.echo(f"{_number(added)} added: {_number(len(opened))} in the gallery {gallery}")
        _tell_unreadable(len(opened.unreadable), str(gallery / "unreadable.txt"))


@click.command()
@gallery_argument
@click.argument("images", nargs=-1, required=True, type=ANY_PATH)
@verbose_option
def remove(gallery: Path, images: tuple[Path, ...], verbose: bool) -> None:
    """Take IMAGES, or all below a folder, out of GALLERY. Their files stay."""
    with errors_as_messages(verbose):
        from stml_tf.search import Gallery

        opened = Gallery.load(gallery)
        removed = opened.remove(images)
        click.echo(f"{_number(removed)} removed: {_number(len(opened))} in the gallery {gallery}")


@click.command()
@gallery_argument
@click.argument("images", nargs=-1, required=True, type=ANY_PATH)
@click.option("-k", type=int, help="How many to find; 10, or all where there are fewer.")
@click.option("--html", type=ANY_PATH, help="Also write a page with the pictures to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@model_option
@verbose_option
def search(
    gallery: Path,
    images: tuple[Path, ...],
    k: int | None,
    html: Path | None,
    as_json: bool,
    model: Path | None,
    verbose: bool,
) -> None:
    """Find the images in GALLERY that look most like each of IMAGES."""
    with errors_as_messages(verbose):
        from stml_tf.search import Gallery

        opened = Gallery.load(gallery, model=model)
        import_tensorflow()
        results = opened.search(images, k=min(10, len(opened)) if k is None else k)
        if html is not None:
            from stml_tf.files import whole_file
            from stml_tf.search.search_page import search_page

            about = f"{_number(len(opened))} in the gallery {gallery}."
            with whole_file(html) as partial:
                partial.write_text(search_page(images, results, title="Search results", about=about), encoding="utf-8")
        if as_json:
            click.echo(json.dumps([_as_json(*pair) for pair in zip(images, results, strict=True)], indent=2))
            return
        for query, matches in zip(images, results, strict=True):
            click.echo(query)
            for match in matches:
                score = match.distance if match.similarity is None else match.similarity
                click.echo(f"  {score:.4f}  {match.path}")
        if html is not None:
            click.echo(f"Page written to {html}")


@click.command()
@gallery_argument
@click.option(
    "--threshold",
    type=float,
    required=True,
    metavar="T",
    help="Least cosine similarity of two duplicates, such as 0.98.",
)
@click.option("-o", "--out", type=ANY_PATH, help="Write the groups to this CSV file instead of the terminal.")
@verbose_option
def duplicates(gallery: Path, threshold: float, out: Path | None, verbose: bool) -> None:
    """List groups of images in GALLERY that look alike."""
    with errors_as_messages(verbose):
        from stml_tf.search import Gallery
        from stml_tf.search.duplicates import find_duplicates

        opened = Gallery.load(gallery)
        with _progress("comparing", "pairs") as on_progress:
            groups = find_duplicates(opened.embeddings, threshold=threshold, on_progress=on_progress)
        paths = [[opened.paths[row] for row in group] for group in groups]
        if out is not None:
            _write_csv(out, ["group", "path"], ((i, path) for i, group in enumerate(paths) for path in group))
        else:
            click.echo("".join("\n".join(group) + "\n\n" for group in paths), nl=False)
        extra = sum(map(len, paths)) - len(paths)
        click.echo(f"{_number(len(paths), 'group')} of duplicates: {_number(extra)} could go")
        if out is not None:
            click.echo(f"Groups written to {out}")


@click.command()
@gallery_argument
@click.option("-o", "--out", required=True, type=ANY_PATH, help="CSV file to write: path, cluster, distance.")
@click.option("--clusters", "num_clusters", type=int, help="How many; by default the number that fits best.")
@verbose_option
def cluster(gallery: Path, out: Path, num_clusters: int | None, verbose: bool) -> None:
    """Divide the images in GALLERY into clusters of look-alikes.

    The largest cluster comes first, and in a cluster the image nearest to its centre.
    """
    with errors_as_messages(verbose):
        import numpy as np

        from stml_tf.search import Gallery
        from stml_tf.search.clusters import cluster_embeddings

        opened = Gallery.load(gallery)
        found = cluster_embeddings(opened.embeddings, num_clusters=num_clusters)
        order = np.lexsort([found.distances, found.labels])
        rows = ((opened.paths[row], found.labels[row], f"{found.distances[row]:.4f}") for row in order)
        _write_csv(out, ["path", "cluster", "distance"], rows)
        sizes = found.sizes
        click.echo(
            f"{_number(len(opened))} in {_number(len(sizes), 'cluster')} of {sizes.min():,} to {sizes.max():,}: {out}"
        )


COMMANDS = (embed, index, add, remove, search, duplicates, cluster)


def _as_json(query: Path, matches: list) -> dict[str, object]:
    found = [{"path": str(match.path), "distance": match.distance, "similarity": match.similarity} for match in matches]
    return {"query": str(query), "matches": found}


def _write_csv(file: Path, header: list[str], rows: Iterator[tuple]) -> None:
    from stml_tf.files import whole_file

    with (
        whole_file(file) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


@contextmanager
def _progress(verb: str, unit: str = "images") -> Iterator[Callable[[int, int], None]]:
    """A bar with the speed, on the terminal alone; gives the function to call with what is done, and of how much."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn(verb),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(verb, total=None, speed="")

        def on_progress(done: int, total: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, completed=done, total=total, speed=f"{speed:,.0f} {unit}/s" if speed else "")

        yield on_progress


def _number(count: int, noun: str = "image") -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _tell_unreadable(count: int, file: str) -> None:
    if count:
        click.echo(f"{_number(count)} could not be read and left out: listed in {file}")
