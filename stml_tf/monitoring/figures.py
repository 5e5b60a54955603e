"""Pictures of retrieval: queries with their nearest neighbours, before and after training."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stml_tf.errors import UserError
from stml_tf.evaluation.neighbors import nearest_neighbors
from stml_tf.files import write_bytes

__all__ = ["figure_to_png", "learning_figure", "pick_queries", "retrieval_figure", "save_figure"]

# An image, and whether it is right; None if that is unknown.
Neighbor = tuple[np.ndarray, bool | None]

# A mark as well as a colour, as red and green look alike to many.
_LOOKS = {True: ("#1a7f37", "✓"), False: ("#cf222e", "✗"), None: ("#8c959f", "")}
_TEXT = "#1f2328"
_MUTED = "#59636e"

# Inches.
_WIDTH = 12.0
_MARGIN = 0.3
_COLUMN_GAP = 0.1
_BLOCK_GAP = 0.35
_HEADER = 0.85
_FOOTER = 0.55
_LARGEST_CELL = 1.4


def retrieval_figure(
    queries: Sequence[np.ndarray],
    before: Sequence[Sequence[Neighbor]],
    after: Sequence[Sequence[Neighbor]],
    *,
    titles: tuple[str, str] = ("Before training", "After training"),
) -> Figure:
    """Draw a row for each query: the query, its neighbours before training, and those after.

    Args:
        queries: Images, each uint8 `[height, width, 3]` or `[height, width]`, or floats in [0, 1].
        before: The neighbours of each query before training, nearest first, as pairs of an image and whether it is
            right. None instead draws a grey frame without a mark.
        after: Likewise, after training.
        titles: Titles of the two blocks of neighbours.

    Returns:
        A figure 1,200 pixels wide at 100 dots per inch.

    Raises:
        ValueError: If there is no query, or the lists of neighbours are not as many as the queries.
    """
    if not len(queries) or not len(queries) == len(before) == len(after):
        raise ValueError(
            f"got {len(queries)} queries, {len(before)} lists of neighbours before and {len(after)} after: "
            "give one list of each per query, and at least one query"
        )
    blocks = [max(map(len, before)), max(map(len, after))]
    columns = 1 + sum(blocks)
    gaps = 2 * _BLOCK_GAP + _COLUMN_GAP * (columns - 3)
    cell = min(_LARGEST_CELL, (_WIDTH - 2 * _MARGIN - gaps) / columns)
    left = (_WIDTH - cell * columns - gaps) / 2
    height = _HEADER + _FOOTER + (cell + _COLUMN_GAP) * len(queries)
    figure = Figure(figsize=(_WIDTH, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)

    def heading(x: float, text: str, note: str = "") -> None:
        y = 1 - (_HEADER - 0.38) / height
        figure.text(x / _WIDTH, y, text, fontsize=13, fontweight="bold", color=_TEXT, va="bottom")
        figure.text(x / _WIDTH, y - 0.05 / height, note, fontsize=10, color=_MUTED, va="top")

    def show(x: float, row: int, image: np.ndarray, correct: bool | None) -> None:
        bottom = height - _HEADER - (row + 1) * (cell + _COLUMN_GAP) + _COLUMN_GAP
        axes = figure.add_axes((x / _WIDTH, bottom / height, cell / _WIDTH, cell / height))
        _draw(axes, image, correct)

    heading(left, "Query")
    for row, image in enumerate(queries):
        show(left, row, image, None)
    x = left + cell + _BLOCK_GAP
    for title, lists, width in zip(titles, (before, after), blocks, strict=True):
        heading(x, title, _score(lists))
        for row, neighbors in enumerate(lists):
            for column, (image, correct) in enumerate(neighbors):
                show(x + column * (cell + _COLUMN_GAP), row, image, correct)
        x += width * (cell + _COLUMN_GAP) - _COLUMN_GAP + _BLOCK_GAP
    _explain_marks(figure, height)
    return figure


def learning_figure(
    pixels_of: Callable[[int], np.ndarray],
    labels: np.ndarray,
    *,
    before: np.ndarray,
    after: np.ndarray,
    num_queries: int = 8,
    num_neighbors: int = 5,
    seed: int = 0,
) -> Figure:
    """Draw the neighbours of the same queries in the embeddings before and after training.

    Args:
        pixels_of: Returns the image of an index; see `retrieval_figure`.
        labels: `[num_images]` integers.
        before: `[num_images, dim]` embeddings before training.
        after: `[num_images, dim]` embeddings after training.
        num_queries: Number of queries, each of another class.
        num_neighbors: Number of neighbours to show, not counting the query; fewer if there are fewer images.
        seed: Seed of the choice of queries.

    Returns:
        The figure of `retrieval_figure`.
    """
    queries = pick_queries(labels, num_queries, seed)
    shown = min(num_neighbors, len(labels) - 1)

    def neighbors(embeddings: np.ndarray) -> list[list[Neighbor]]:
        _, found = nearest_neighbors(embeddings[queries], embeddings, k=shown + 1)
        # By index, not by rank: an exact duplicate may come before the query itself.
        others = [[index for index in row if index != query][:shown] for query, row in zip(queries, found, strict=True)]
        return [
            [(pixels_of(index), bool(labels[index] == labels[query])) for index in row]
            for query, row in zip(queries, others, strict=True)
        ]

    return retrieval_figure([pixels_of(query) for query in queries], neighbors(before), neighbors(after))


def figure_to_png(figure: Figure, *, dpi: int = 100) -> bytes:
    """Render a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 100) -> Path:
    """Write a figure to a PNG file, creating its folder if necessary, and return the path."""
    path = Path(path)
    write_bytes(path, figure_to_png(figure, dpi=dpi))
    return path


def pick_queries(labels: Any, count: int, seed: int) -> np.ndarray:
    """Choose images to look at, the same ones for the same seed.

    Args:
        labels: `[num_images]` integers.
        count: Number of images, each of another class; there are fewer if there are fewer such classes.
        seed: Seed of the choice.

    Returns:
        `[count]` int64 indices. Classes with a single image, in which nothing can be found, are skipped.

    Raises:
        ValueError: If `count` is below 1, or every class has a single image.
    """
    labels = np.asarray(labels)
    if count < 1:
        raise ValueError(f"count is {count}, but must be at least 1")
    classes, sizes = np.unique(labels, return_counts=True)
    classes = classes[sizes > 1]
    if not len(classes):
        raise UserError(f"none of the {len(labels)} images shares its class with another: there is nothing to look up")
    random = np.random.default_rng(seed)
    chosen = random.permutation(classes)[:count]
    return np.array([random.choice(np.flatnonzero(labels == one)) for one in chosen], np.int64)


def _draw(axes: Axes, image: np.ndarray, correct: bool | None) -> None:
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    brightest = 255 if image.dtype == np.uint8 else 1
    axes.imshow(image.clip(0, brightest), cmap="gray", vmin=0, vmax=brightest)
    axes.set_xticks([])
    axes.set_yticks([])
    color, mark = _LOOKS[None if correct is None else bool(correct)]
    axes.spines[:].set(color=color, linewidth=1 if correct is None else 3)
    if mark:
        badge = {"boxstyle": "circle,pad=0.15", "facecolor": color, "edgecolor": "white", "linewidth": 1}
        axes.text(
            0.97, 0.03, mark, transform=axes.transAxes, ha="right", va="bottom", fontsize=9, color="white", bbox=badge
        )


def _score(lists: Sequence[Sequence[Neighbor]]) -> str:
    known = [correct for neighbors in lists for _, correct in neighbors if correct is not None]
    return f"{sum(map(bool, known))} of {len(known)} right" if known else ""


def _explain_marks(figure: Figure, height: float) -> None:
    y = 0.5 * _FOOTER / height
    for x, correct, meaning in ((0.03, True, "same class as the query"), (0.22, False, "another class")):
        color, mark = _LOOKS[correct]
        badge = {"boxstyle": "circle,pad=0.15", "facecolor": color, "edgecolor": color}
        figure.text(x, y, mark, fontsize=9, color="white", ha="center", va="center", bbox=badge)
        figure.text(x + 0.013, y, meaning, fontsize=10, color=_MUTED, va="center")
    figure.text(0.975, y, "nearest first, from left to right", fontsize=10, color=_MUTED, ha="right", va="center")
