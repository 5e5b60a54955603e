"""The commands that ask a gallery something: parse, call, print. Results go to standard output, the rest beside it."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stml_tf.cli.check import check
from stml_tf.cli.errors import errors_as_messages, verbose_option
from stml_tf.cli.gallery import (
    ANY_PATH,
    add,
    embed,
    gallery_argument,
    index,
    load_tensorflow,
    model_option,
    overwrite_option,
    remove,
    tell_stale,
    update,
)
from stml_tf.cli.terminal import number, progress, say, tell, visible

if TYPE_CHECKING:
    import numpy as np

    from stml_tf.search import Gallery
    from stml_tf.search.duplicates import DuplicateGroup

html_option = click.option("--html", type=ANY_PATH, help="Also write a page with the pictures to this file.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_DUPLICATE_COLUMNS = ["group", "path", "keep", "similarity", "identical", "bytes"]
_CLUSTER_COLUMNS = ["path", "cluster", "distance"]


@click.command()
@gallery_argument
@click.argument("images", nargs=-1, required=True, type=ANY_PATH)
@click.option("-k", type=int, default=10, show_default=True, help="How many to find; all where there are fewer.")
@html_option
@json_option
@model_option
@overwrite_option
@verbose_option
def search(
    gallery: Path,
    images: tuple[Path, ...],
    k: int,
    html: Path | None,
    as_json: bool,
    model: Path | None,
    overwrite: bool,
    verbose: bool,
) -> None:
    """Find the images in GALLERY that look most like each of IMAGES: images, folders, or files that list paths.

    A query that cannot be read is reported, and the others are answered; the exit status is then 1.
    """
    with errors_as_messages(verbose):
        from stml_tf.errors import UserError
        from stml_tf.search import Gallery
        from stml_tf.search.image_list import list_images

        if k < 1:
            raise UserError(f"k is {k}, but must be at least 1")
        _check_outputs(html=html, overwrite=overwrite)
        opened = Gallery.load(gallery, model=model)
        queries = list_images(images)
        missing = [query for query in queries if not query.is_file()]
        if len(missing) == len(queries):
            raise UserError(f"the query {missing[0]} is no file: give images that are there")
        load_tensorflow()
        results, unreadable = opened.search_readable(queries, k=k)
        bad = {image.index: image.reason for image in unreadable}
        if not results:
            raise UserError(f"the query {unreadable[0].path} cannot be read: {unreadable[0].reason}")
        answered = [query for place, query in enumerate(queries) if place not in bad]
        if html is not None:
            from stml_tf.search.page import search_page

            about = f"{number(len(opened))} in the gallery {gallery}."
            _write_page(html, search_page(answered, results, title="Search results", about=about))
        if as_json:
            told = [
                {"query": str(query), "matches": [_as_json(match) for match in matches]}
                for query, matches in zip(answered, results, strict=True)
            ]
            told += [{"query": str(image.path), "error": image.reason} for image in unreadable]
            tell(json.dumps(told, indent=2))
        else:
            for query, matches in zip(answered, results, strict=True):
                tell(visible(query))
                for match in matches:
                    score = match.distance if match.similarity is None else match.similarity
                    tell(f"  {score:.4f}  {visible(match.path)}")
        if html is not None:
            say(f"Page written to {html}")
        for image in unreadable:
            say(f"The query {visible(image.path)} cannot be read: {image.reason}")
        tell_stale(opened, gallery)
        if unreadable:
            sys.exit(1)


@click.command()
@gallery_argument
@click.option(
    "--threshold",
    type=float,
    metavar="T",
    help="Least cosine similarity to the image that is kept, such as 0.98. What it means differs from model to model; "
    "by default one is proposed from the similarities of nearest neighbours.",
)
@click.option("-o", "--out", type=ANY_PATH, help="Write the groups to this .csv file instead of the terminal.")
@html_option
@json_option
@overwrite_option
@verbose_option
def duplicates(
    gallery: Path,
    threshold: float | None,
    out: Path | None,
    html: Path | None,
    as_json: bool,
    overwrite: bool,
    verbose: bool,
) -> None:
    """List groups of images in GALLERY that look like one of them, which is the one to keep.

    That is the largest file, and of equal ones the oldest. Files of the same bytes are called identical.
    """
    with errors_as_messages(verbose):
        import numpy as np

        from stml_tf.search import Gallery
        from stml_tf.search.duplicates import LARGEST_SHARE, check_threshold, find_duplicates, propose_threshold
        from stml_tf.search.image_facts import preference, same_content

        if threshold is not None:
            check_threshold(threshold)
        _check_outputs(csv_file=out, columns=_DUPLICATE_COLUMNS, html=html, overwrite=overwrite)
        opened = Gallery.load(gallery)
        rows = _comparable(opened)
        tell_stale(opened, gallery, ", and left out")
        embeddings = opened.embeddings if len(rows) == len(opened) else opened.embeddings[rows]
        paths, facts = [opened.paths[row] for row in rows], opened.facts[rows]
        proposed = threshold is None
        if threshold is None:
            proposal = propose_threshold(embeddings)
            threshold = proposal.value
            if proposal.quartiles is not None:
                low, middle, high = proposal.quartiles
                say(
                    f"Threshold {threshold:.4f}, proposed as the nearest different image is {low:.4f} to {high:.4f} "
                    f"alike for the middle half of the images (median {middle:.4f}); --threshold sets another."
                )
        with progress("comparing", "pairs") as on_progress:
            groups = find_duplicates(
                embeddings, threshold=threshold, preference=preference(paths, facts), on_progress=on_progress
            )
        first = same_content(facts)
        table = [row for n, group in enumerate(groups) for row in _duplicate_rows(n, group, paths, facts, first)]
        if out is not None:
            _write_csv(out, _DUPLICATE_COLUMNS, table)
        if html is not None:
            from stml_tf.search.page import group_page

            pictured = [
                [(paths[group.kept], "keep"), *((paths[row], _score(*pair)) for row, *pair in _scored(group, first))]
                for group in groups
            ]
            about = f"{number(len(groups), 'group')} at the threshold {threshold:.4f} in the gallery {gallery}."
            _write_page(html, group_page(pictured, title="Duplicates", about=about))
        if as_json:
            told = {"threshold": threshold, "proposed": proposed, "groups": _groups_as_json(table, len(groups))}
            tell(json.dumps(told, indent=2))
        elif out is None:
            for group in groups:
                tell(f"keep       {visible(paths[group.kept])}")
                for row, *pair in _scored(group, first):
                    tell(f"{_score(*pair):<9}  {visible(paths[row])}")
                tell()
        extra = sum(map(len, groups)) - len(groups)
        identical = sum(row["identical"] == "yes" for row in table)
        say(
            f"{number(len(groups), 'group')} of duplicates at the threshold {threshold:.4f}: {number(extra)} could go, "
            f"{identical:,} of them identical to the one that stays"
        )
        largest = max((len(np.unique(first[[group.kept, *group.others]])) for group in groups), default=0)
        if largest > max(5, LARGEST_SHARE * len(rows)):
            say(
                f"One group holds {largest:,} of {number(len(rows))}: that is a wrong threshold, not a finding. "
                f"Nothing should go by it; try one between {threshold:.4f} and 1."
            )
        for what, file in (("Groups", out), ("Page", html)):
            if file is not None:
                say(f"{what} written to {file}")


@click.command()
@gallery_argument
@click.option("-o", "--out", type=ANY_PATH, help="Write to this .csv file instead: path, cluster, distance.")
@click.option("--clusters", "num_clusters", type=int, help="How many; by default as many as stand apart.")
@html_option
@json_option
@overwrite_option
@verbose_option
def cluster(
    gallery: Path,
    out: Path | None,
    num_clusters: int | None,
    html: Path | None,
    as_json: bool,
    overwrite: bool,
    verbose: bool,
) -> None:
    """Divide the images in GALLERY into clusters of look-alikes.

    The largest cluster comes first, and in a cluster the image nearest to its centre.
    """
    with errors_as_messages(verbose):
        import numpy as np

        from stml_tf.search import Gallery
        from stml_tf.search.clusters import check_num_clusters, cluster_embeddings

        _check_outputs(csv_file=out, columns=_CLUSTER_COLUMNS, html=html, overwrite=overwrite)
        opened = Gallery.load(gallery)
        check_num_clusters(num_clusters, len(opened))
        found = cluster_embeddings(opened.embeddings, num_clusters=num_clusters)
        order = np.lexsort([found.distances, found.labels])
        table = [
            {"path": opened.paths[row], "cluster": int(found.labels[row]), "distance": f"{found.distances[row]:.4f}"}
            for row in order
        ]
        if out is not None:
            _write_csv(out, _CLUSTER_COLUMNS, table)
        if html is not None:
            from stml_tf.search.page import group_page

            pictured = [[] for _ in found.sizes]
            for row in table:
                pictured[row["cluster"]].append((row["path"], row["distance"]))
            about = f"{number(len(opened))} in the gallery {gallery}; the number is the distance to the centre."
            _write_page(html, group_page(pictured, title="Clusters", about=about))
        if as_json:
            tell(json.dumps([{**row, "distance": float(row["distance"])} for row in table], indent=2))
        elif out is None:
            for number_, size in enumerate(found.sizes):
                tell(f"cluster {number_}: {number(int(size))}")
                for row in table:
                    if row["cluster"] == number_:
                        tell(f"  {row['distance']}  {visible(row['path'])}")
        sizes = found.sizes
        say(f"{number(len(opened))} in {number(len(sizes), 'cluster')} of {sizes.min():,} to {sizes.max():,}")
        for what, file in (("Clusters", out), ("Page", html)):
            if file is not None:
                say(f"{what} written to {file}")
        tell_stale(opened, gallery)


COMMANDS = (embed, index, add, update, remove, check, search, duplicates, cluster)


def _comparable(gallery: Gallery) -> np.ndarray:
    """Rows whose files are what was embedded, and each file once, whatever names it has."""
    from stml_tf.search.image_list import identity

    stale = gallery.stale()
    out = {*stale.changed.tolist(), *stale.missing.tolist()}
    seen: dict[object, int] = {}
    for row, path in enumerate(gallery.paths):
        if row not in out:
            seen.setdefault(identity(path) or path, row)
    import numpy as np

    return np.array(sorted(seen.values()), np.int64)


def _scored(group: DuplicateGroup, first: np.ndarray) -> Iterable[tuple[int, float, bool]]:
    for row, similarity in zip(group.others.tolist(), group.similarities.tolist(), strict=True):
        yield row, similarity, bool(first[row] == first[group.kept])


def _score(similarity: float, identical: bool) -> str:
    return "identical" if identical else f"{similarity:.4f}"


def _duplicate_rows(
    number_: int, group: DuplicateGroup, paths: list[str], facts: np.ndarray, first: np.ndarray
) -> Iterable[dict[str, Any]]:
    for row, similarity, identical in [(group.kept, 1.0, False), *_scored(group, first)]:
        yield {
            "group": number_,
            "path": paths[row],
            "keep": "yes" if row == group.kept else "no",
            "similarity": f"{similarity:.4f}",
            "identical": "yes" if identical else "no",
            "bytes": int(facts["size"][row]) if facts["size"][row] >= 0 else "",
        }


def _groups_as_json(table: list[dict[str, Any]], num_groups: int) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = [{"keep": None, "others": []} for _ in range(num_groups)]
    for row in table:
        if row["keep"] == "yes":
            groups[row["group"]]["keep"] = row["path"]
        else:
            told = {"similarity": float(row["similarity"]), "identical": row["identical"] == "yes"}
            groups[row["group"]]["others"].append({"path": row["path"], **told})
    return groups


def _as_json(match: Any) -> dict[str, object]:
    return {"path": str(match.path), "distance": match.distance, "similarity": match.similarity}


def _check_outputs(
    *,
    html: Path | None,
    overwrite: bool,
    csv_file: Path | None = None,
    columns: list[str] | None = None,
) -> None:
    """Refuse outputs that would replace something else, before any work is done."""
    from stml_tf.files import begins_with, refuse_existing
    from stml_tf.search.page import START

    if csv_file is not None and columns is not None:
        heading = ",".join(columns).encode()
        refuse_existing(csv_file, suffixes=[".csv"], ours=lambda file: begins_with(file, heading), overwrite=overwrite)
    if html is not None:
        refuse_existing(
            html, suffixes=[".html", ".htm"], ours=lambda file: begins_with(file, START.encode()), overwrite=overwrite
        )


def _write_page(file: Path, page: str) -> None:
    from stml_tf.files import write_bytes

    write_bytes(file.resolve(), page.encode("utf-8", "replace"))


def _write_csv(file: Path, columns: list[str], rows: Iterable[dict[str, Any]]) -> None:
    from stml_tf.files import write_text

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_text(file.resolve(), text.getvalue())
