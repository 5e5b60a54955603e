"""The report of a run on the terminal: what it is about to do, and how well it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stml_tf.data.catalog import Catalog
from stml_tf.data.image_files import counted
from stml_tf.evaluation.result_rows import best_of, label_of
from stml_tf.visible import visible, visible_lines

__all__ = [
    "best_of",
    "compared_with_free",
    "describe_run",
    "epochs_report",
    "label_of",
    "metrics_table",
    "say",
    "where_listed",
]


def describe_run(
    console: Console,
    catalog: Catalog,
    *,
    title: str,
    about: str,
    network: str,
    training: str,
    with_labels: bool = False,
    dry_run: bool = False,
) -> None:
    """Print in a few lines what a run is about to do, and with which data.

    Args:
        console: Where to print.
        catalog: The data.
        title: Name of the run.
        about: What it is for, in a sentence.
        network: The network, in words.
        training: The training, in words.
        with_labels: Whether the run learns from the labels of its training images.
        dry_run: Whether nothing is written, so that no file can be named.
    """
    tested = "no test images"
    if catalog.test:
        other = "other " if _share_no_class(catalog) else ""
        tested = f"{len(catalog.test):,} test images of {len(np.unique(catalog.test.labels)):,} {other}classes"
    if catalog.gallery:
        tested += f", which search {len(catalog.gallery):,} others"
    labeled, unlabeled = len(catalog.train), len(catalog.unlabeled or ())
    trained = f"{labeled + unlabeled:,} training images without labels"
    if with_labels:
        classes = len(np.unique(catalog.train.labels))
        trained = f"{labeled:,} training images of {classes:,} classes, {unlabeled:,} without labels"
    console.print(Text.assemble((visible(title), "bold"), f"  {visible_lines(about)}"), soft_wrap=True)
    say(console, f"Data      {catalog.name}: {trained}, {tested}")
    if catalog.left_out:
        say(console, f"Left out  {counted(catalog.left_out)} ({where_listed('left_out.txt', dry_run=dry_run)})")
    if catalog.leaks:
        tested = len(catalog.test) + len(catalog.gallery or ())
        say(
            console,
            f"Leaks     {len(catalog.leaks):,} of {tested:,} test images are training images too, as data.allow_leaks "
            f"lets them be ({where_listed('leaks.txt', dry_run=dry_run)})",
        )
    say(console, f"Network   {network}")
    say(console, f"Training  {training}")


def _share_no_class(catalog: Catalog) -> bool:
    """Return whether training and test images are known to have different classes; `unlabeled` may have any."""
    train, test = catalog.train, catalog.test
    if catalog.leaks or catalog.unlabeled or train.labels is None or test.labels is None:
        return False
    names = [{images.class_names[label] for label in np.unique(images.labels)} for images in (train, test)]
    return names[0].isdisjoint(names[1])


def where_listed(file: str, *, dry_run: bool) -> str:
    """Say where the images are listed of which only the number is told; a dry run lists nothing."""
    return f"{'a run without --dry-run lists them' if dry_run else 'listed'} in the run folder's {file}"


def say(console: Console, text: str) -> None:
    """Print text with names and paths literally, where rich would take `[a]` for markup and `:a:` for an emoji."""
    console.print(visible_lines(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


def epochs_report(history: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Give the logs of each epoch its number, and name the best epoch, which the test classes chose.

    Args:
        history: The logs of each epoch, by name.

    Returns:
        The keys `epochs` and, if there is retrieval, `best_epoch` of `metrics.json`.
    """
    epochs = [{"epoch": number, **logs} for number, logs in enumerate(history, start=1)]
    measured = [epoch for epoch in epochs if epoch.get("recall@1") is not None]
    if not measured:
        return {"epochs": epochs}
    best = max(measured, key=lambda epoch: epoch["recall@1"])
    return {"best_epoch": {**best, "chosen_on": "test classes"}, "epochs": epochs}


def compared_with_free(reached: Mapping[str, float], free: Mapping[str, Mapping[str, float]]) -> Text:
    """Say in a sentence whether training was worth it.

    Args:
        reached: The metrics after training.
        free: The metrics of what needs no training, by row of the results.

    Returns:
        A sentence to print with rich; red if training ended below the best of `free` in MAP@R.
    """
    best = best_of(free)
    name = label_of(best, free[best])
    (map_now, map_free), (recall_now, recall_free) = (
        (100 * reached[key], 100 * free[best][key]) for key in ("map@r", "recall@1")
    )
    if map_now < map_free:
        return Text(
            f"Training made it WORSE than no training: MAP@R {map_now:.1f}, {map_free - map_now:.1f} points below "
            f"{name} ({map_free:.1f}); R@1 {recall_now:.1f} against {recall_free:.1f}. Use those features, with "
            "--set method=whiten, or lower optimizer.learning_rate or model.trainable.",
            style="bold red",
        )
    return Text(
        f"Training was worth it: MAP@R {map_now:.1f}, {map_now - map_free:.1f} points above the best without training, "
        f"{name} ({map_free:.1f}); R@1 {recall_now:.1f} against {recall_free:.1f}."
    )


def metrics_table(rows: Mapping[str, Mapping[str, float]], *, title: str | None = None) -> Table:
    """Lay retrieval metrics out as a table, in percent.

    Args:
        rows: What `retrieval_metrics` returned for each row, such as "raw_pixels" or "after_training". Every Recall@K,
            MAP@R, R-precision and NMI becomes a column; a row may lack some.
        title: Title of the table.

    Returns:
        A table to print with rich. The best value of a column is bold if there are several rows.

    Raises:
        ValueError: If there is nothing to show.
    """
    names = {name for metrics in rows.values() for name in metrics}
    recalls = sorted((name for name in names if name.startswith("recall@")), key=lambda name: int(name[7:]))
    titles = {name: name.replace("recall", "R") for name in recalls}
    titles |= {"map@r": "MAP@R", "r_precision": "R-precision", "nmi": "NMI"}
    columns = [name for name in titles if name in names]
    if not columns:
        raise ValueError("there are no metrics to show: give at least one row with Recall@K or MAP@R")

    table = Table(title=title, title_justify="left", caption="percent", caption_justify="right")
    table.add_column("")
    for name in columns:
        table.add_column(titles[name], justify="right")
    best = {name: max(_percent(metrics, name) for metrics in rows.values()) for name in columns}
    for row, metrics in rows.items():
        cells = []
        for name in columns:
            text = f"{_percent(metrics, name):.1f}" if name in metrics else "–"
            is_best = len(rows) > 1 and name in metrics and _percent(metrics, name) == best[name]
            cells.append(Text(text, style="bold" if is_best else ""))
        table.add_row(Text(label_of(row, metrics)), *cells)
    return table


def _percent(metrics: Mapping[str, float], name: str) -> float:
    return 100 * metrics.get(name, float("-inf"))
