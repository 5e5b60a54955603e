"""Charts as SVG inside a page, drawn by Matplotlib.

Why Matplotlib, not Plotly or Vega-Lite: it is there already, a chart weighs 10 kB in place of the megabytes of their
scripts, and shows without a script, in print too. Its colours become those of the page's stylesheet, so that a chart
follows light and dark; its text is text; every point tells its value when it is pointed at; and what a chart shows is
said in words for those who cannot see it.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stml_tf.pages.evidence import Map

# Stand-ins, which become the stylesheet's colours.
_COLORS = {
    "ink": "#010203",
    "muted": "#010204",
    "line": "#010205",
    "page": "#010206",
    "first": "#010207",
    "second": "#010208",
    "third": "#010209",
    "good": "#01020a",
    "bad": "#01020b",
}
_SERIES = ("first", "second", "third")
_SIZE = (4.4, 2.55)  # inches; 72 units of the drawing each
_FONT = 10.5
_MOST_MARKERS = 40
_MAP_SIZE = (9.0, 5.6)
_PICTURE_ON_MAP = 30  # units of the drawing

_numbers = itertools.count()


@dataclass(frozen=True)
class Chart:
    """A chart, and what it shows in words.

    Attributes:
        title: Stands above it, with the unit.
        note: A sentence below the title that says how to read it; may be empty.
        alt: What it shows, for those who cannot see it.
        svg: The drawing.
    """

    title: str
    note: str
    alt: str
    svg: Markup


@dataclass(frozen=True)
class Curve:
    """Values over epochs.

    Attributes:
        name: Its name in the legend; one curve alone needs none.
        epochs: Their numbers; 0 is before training.
        values: One an epoch.
    """

    name: str
    epochs: Sequence[int]
    values: Sequence[float]


def curves_chart(
    title: str,
    curves: Sequence[Curve],
    *,
    note: str = "",
    unit: str = "",
    digits: int = 3,
    from_zero: bool = False,
    top: float | None = None,
    references: Mapping[str, float] | None = None,
) -> Chart:
    """Draw curves over epochs.

    Args:
        title: Stands above the chart.
        curves: At most three.
        note: How to read it.
        unit: Behind each value that is told.
        digits: Behind the point.
        from_zero: Whether the axis begins at zero.
        top: Where the axis ends; by default where the values do.
        references: Values to compare with, by their names, as horizontal lines.
    """
    figure, axes = _figure()
    told = []
    for number, (curve, color) in enumerate(zip(curves, _SERIES, strict=False)):
        marker = "o" if len(curve.values) <= _MOST_MARKERS else ""
        (line,) = axes.plot(
            curve.epochs, curve.values, color=_COLORS[color], marker=marker, markersize=4, linewidth=2, label=curve.name
        )
        line.set_gid(f"curve-{number}")
        told.append(
            [
                f"{curve.name + ', ' if curve.name else ''}"
                f"{f'epoch {epoch}' if epoch else 'before training'}: {value:.{digits}f}{unit}"
                for epoch, value in zip(curve.epochs, curve.values, strict=True)
            ]
        )
    for name, value in (references or {}).items():
        axes.axhline(value, color=_COLORS["muted"], linewidth=1.2, linestyle=(0, (4, 3)), label=name)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
    if from_zero and top is None:
        drawn = [value for curve in curves for value in curve.values] + [*(references or {}).values()]
        top = 1.1 * max(drawn) or 1
    if top is not None:
        axes.set_ylim(bottom=0 if from_zero else None, top=top)
    if len(curves) > 1 or references:
        _legend(axes)
    ends = [f"{curve.name or title}: {_ends(curve, digits, unit)}" for curve in curves]
    compared = [f"{name}: {value:.{digits}f}{unit}" for name, value in (references or {}).items()]
    tips = {f"curve-{number}": each for number, each in enumerate(told)}
    return Chart(title, note, f"Curve over epochs. {'; '.join([*ends, *compared])}.", _svg(figure, tips))


def histogram_chart(
    title: str,
    edges: np.ndarray,
    counts: Mapping[str, np.ndarray],
    *,
    note: str = "",
    x_label: str,
) -> Chart:
    """Draw how often values occur.

    Args:
        title: Stands above the chart.
        edges: `[bins + 1]`, ascending.
        counts: By its name, `[bins]` of each distribution, at most three; each is shown as shares of its own sum.
        note: How to read it.
        x_label: What the values are.
    """
    figure, axes = _figure()
    tips, told = {}, []
    centers = (edges[:-1] + edges[1:]) / 2
    for number, ((name, each), color) in enumerate(zip(counts.items(), _SERIES, strict=False)):
        shares = 100 * np.asarray(each) / max(np.sum(each), 1)
        axes.stairs(shares, edges, fill=True, color=_COLORS[color], alpha=0.25)
        axes.stairs(shares, edges, color=_COLORS[color], linewidth=1.6, label=name)
        (points,) = axes.plot(centers, shares, linestyle="", marker="o", markersize=5, alpha=0)
        points.set_gid(f"bins-{number}")
        tips[f"bins-{number}"] = [
            f"{name}: {share:.1f} % from {low:.2f} to {high:.2f}"
            for share, low, high in zip(shares, edges[:-1], edges[1:], strict=True)
        ]
        median = edges[1:][np.searchsorted(np.cumsum(shares), 50)] if shares.sum() else float("nan")
        told.append(f"{name}: half of them below {median:.2f}")
    axes.set_xlabel(x_label)
    axes.set_ylabel("percent")
    axes.set_ylim(0, 1.35 * axes.dataLim.ymax)  # room for the legend
    _legend(axes)
    return Chart(title, note, f"Histogram of {x_label}. {'; '.join(told)}.", _svg(figure, tips))


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE)
    axes = figure.add_axes((0.115, 0.175, 0.865, 0.8))
    axes.patch.set_visible(False)
    figure.patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_COLORS["line"])
    axes.tick_params(colors=_COLORS["muted"], labelsize=_FONT, length=0, pad=5)
    axes.xaxis.label.set(color=_COLORS["muted"], size=_FONT)
    axes.yaxis.label.set(color=_COLORS["muted"], size=_FONT)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="y", color=_COLORS["line"], linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.04, y=0.12)
    return figure, axes


def _legend(axes: Axes) -> None:
    legend = axes.legend(frameon=True, fontsize=_FONT - 0.5, labelcolor=_COLORS["ink"], loc="best", borderpad=0.3)
    legend.get_frame().set(facecolor=_COLORS["page"], edgecolor="none", alpha=0.8)


def _ends(curve: Curve, digits: int, unit: str) -> str:
    first, last = curve.values[0], curve.values[-1]
    begin = f"epoch {curve.epochs[0]}" if curve.epochs[0] else "before training"
    if len(curve.values) == 1:
        return f"{last:.{digits}f}{unit} ({begin})"
    return f"{first:.{digits}f}{unit} ({begin}) to {last:.{digits}f}{unit} (epoch {curve.epochs[-1]})"


def _svg(
    figure: Figure, tips: Mapping[str, Sequence[str]], *, places: Mapping[str, Sequence[int]] | None = None
) -> Markup:
    """Render a figure for a page: in its colours and fonts, as wide as its place.

    Args:
        figure: The figure.
        tips: By the gid of a curve, what each of its points says.
        places: Likewise, the number that each carries as `data-place`.
    """
    settings = {"svg.fonttype": "none", "svg.hashsalt": f"chart-{next(_numbers)}", "font.size": _FONT}
    buffer = io.BytesIO()
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name in list(element.attrib):
            if "}" in name:
                element.attrib[name.rpartition("}")[2]] = element.attrib.pop(name)
    for group in root.iter("g"):
        for place, point in enumerate(group.iter("use") if group.get("id") in tips else ()):
            ElementTree.SubElement(point, "title").text = tips[group.get("id")][place]
            if places:
                point.set("data-place", str(places[group.get("id")][place]))
        group.attrib.pop("id", None)  # they are the same in every chart
    for text in root.iter("text"):
        text.set("style", re.sub(r"font-family: [^;]*;", "", text.get("style", "")))
    for parent in [root, *root.iter("defs")]:
        for child in [*parent.findall("metadata"), *parent.findall("style")]:
            parent.remove(child)  # a style inside a drawing holds for the whole page
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": "chart", "aria-hidden": "true"}
    text = ElementTree.tostring(root, encoding="unicode")
    for name, stand_in in _COLORS.items():
        text = text.replace(stand_in, f"var(--{name})")
    return Markup(text)


@dataclass(frozen=True)
class MapDrawing:
    """Embeddings in two dimensions, drawn.

    Attributes:
        map: What is drawn.
        svg: The points, each with its place in the map as `data-place`.
        shown: Places whose pictures lie on the drawing, none over another: `(place, x, y)` in its units.
        width: Of the drawing.
        height: Of the drawing.
        number: Tells it from other maps in the page.
    """

    map: Map
    svg: Markup
    shown: list[tuple[int, float, float]]
    width: float
    height: float
    number: int


def map_drawing(found: Map) -> MapDrawing:
    """Draw a map: a point for each image, and the pictures of as many as have room."""
    figure = Figure(figsize=_MAP_SIZE)
    axes = figure.add_axes((0.03, 0.04, 0.94, 0.92))
    axes.set_axis_off()
    figure.patch.set_visible(False)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    points = np.array(found.points)
    right = np.ones(len(points), bool) if found.right is None else np.array(found.right)
    places = {}
    for gid, chosen, color in (("right", right, "first"), ("wrong", ~right, "second")):
        (line,) = axes.plot(
            *points[chosen].T, linestyle="", marker="o", markersize=3.6, color=_COLORS[color], alpha=0.85
        )
        line.set_gid(gid)
        places[gid] = np.flatnonzero(chosen).tolist()
    width, height = (72 * side for side in _MAP_SIZE)
    positions = axes.transAxes.transform(points) * 72 / figure.dpi
    positions[:, 1] = height - positions[:, 1]
    tips = {gid: [found.names[place] for place in each] for gid, each in places.items()}
    return MapDrawing(
        map=found,
        svg=_svg(figure, tips, places=places),
        shown=[(place, float(positions[place, 0]), float(positions[place, 1])) for place in _spread(positions)],
        width=width,
        height=height,
        number=next(_numbers),
    )


def _spread(positions: np.ndarray) -> list[int]:
    """Places of points that are far enough from each other for a picture on each."""
    chosen: list[int] = []
    for place, position in enumerate(positions):
        gaps = np.abs(positions[chosen] - position).max(axis=1) if chosen else np.array([np.inf])
        if gaps.min() > _PICTURE_ON_MAP * 1.25:
            chosen.append(place)
    return chosen
