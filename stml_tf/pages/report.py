"""The page of a run, or of several side by side, in the order in which one asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stml_tf.evaluation.health import Health
from stml_tf.evaluation.query_results import bootstrap_interval
from stml_tf.evaluation.result_rows import best_of, label_of
from stml_tf.pages.charts import Chart, Curve, MapDrawing, curves_chart, histogram_chart, map_drawing
from stml_tf.pages.comparison import names_of
from stml_tf.pages.outcome import Outcome, outcome_of
from stml_tf.pages.record import RunRecord, Setting
from stml_tf.pages.template import render

_MOST_POINTS = 300  # of a curve


@dataclass(frozen=True)
class Cell:
    """A number in a table: in percent, with the interval in which the mean of all such queries lies."""

    value: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True, eq=False)
class RunView:
    """A run as its page shows it.

    Attributes:
        name: What it is called beside others.
        run: The run.
        outcome: What came of it.
        figures: The numbers that matter most, each with its name and a remark.
        health_charts: Its course, told without labels.
        columns: What the results are measured in.
        rows: The results: a name, whether it is what the run made, and a cell for each column.
        differences: What the run made against the best that is free, in sentences.
        retrieval_charts: What retrieval was after each epoch.
        training_charts: Loss, learning rate and cost.
        epochs: A table of all epochs: its head, and its rows.
        map: Embeddings in two dimensions.
        similarities: How alike training images are.
        changed: Settings that differ from their defaults.
        unchanged: The others.
    """

    name: str
    run: RunRecord
    outcome: Outcome
    figures: list[tuple[str, str, str]]
    health_charts: list[Chart]
    columns: list[str]
    rows: list[tuple[str, bool, list[Cell]]]
    differences: list[str]
    retrieval_charts: list[Chart]
    training_charts: list[Chart]
    epochs: tuple[list[str], list[list[str]]]
    map: MapDrawing | None
    similarities: Chart | None
    changed: list[Setting]
    unchanged: list[Setting]


def report_page(runs: Sequence[RunRecord]) -> str:
    """Lay out the page of a run, or of several side by side.

    Args:
        runs: At least one.

    Returns:
        The page, HTML, with everything in it.
    """
    names = [runs[0].name] if len(runs) == 1 else names_of(runs)
    views = [_view(run, name) for run, name in zip(runs, names, strict=True)]
    about = runs[0].about if len(runs) == 1 else "Side by side, in the order given."
    return render("report.html", title=", ".join(names), about=about, views=views)


def _view(run: RunRecord, name: str) -> RunView:
    columns, rows = _results(run)
    return RunView(
        name=name,
        run=run,
        outcome=outcome_of(run),
        figures=[*_figures(run)],
        health_charts=[*_health_charts(run)],
        columns=columns,
        rows=rows,
        differences=[*_differences(run)],
        retrieval_charts=[*_retrieval_charts(run)],
        training_charts=[*_training_charts(run)],
        epochs=_epochs(run),
        map=map_drawing(run.evidence.map) if run.evidence and run.evidence.map else None,
        similarities=_similarities(run),
        changed=[setting for setting in run.settings if setting.differs],
        unchanged=[setting for setting in run.settings if not setting.differs],
    )


def _figures(run: RunRecord) -> Iterator[tuple[str, str, str]]:
    healths = run.healths
    if run.before is not None and len(healths) > 1:
        yield "Health, of 1", f"{healths[-1].score:.2f}", f"{healths[0].score:.2f} before training"
    if reached := run.results.get(run.reached):
        free = run.free[best_of(run.free)] if run.free else {}
        for metric, name in (("recall@1", "Recall@1"), ("map@r", "MAP@R")):
            if metric in reached:
                remark = f"{100 * free[metric]:.1f} % for free" if metric in free else ""
                yield name, f"{100 * reached[metric]:.1f} %", remark
    if seconds := sum(logs.get("speed/epoch_seconds") or 0 for logs in run.epochs):
        yield (
            "Training",
            _duration(seconds),
            f"{len(run.epochs)} epoch{'s' * (len(run.epochs) != 1)}, without measuring",
        )
    if images := run.facts.get("training images"):
        yield "Training images", images, ""


def _health_charts(run: RunRecord) -> Iterator[Chart]:
    healths, start = run.healths, 0 if run.before else 1
    if len(healths) < 2:
        return

    def curve(name: str, value: Callable[[Health], float | None], scale: float = 1) -> Curve:
        points = [(start + place, each) for place, health in enumerate(healths) if (each := value(health)) is not None]
        return Curve(name, [epoch for epoch, _ in points], [scale * each for _, each in points])

    yield curves_chart(
        "Health, 0 to 1",
        [curve("", lambda health: health.score)],
        note="Should rise and stay up. It follows retrieval; the loss does not.",
        from_zero=True,
        top=1,
    )
    yield curves_chart(
        "Effective rank",
        [curve("", lambda health: health.effective_rank)],
        note="In how many directions embeddings spread. A fall to a third is a collapse.",
        digits=1,
        from_zero=True,
    )
    yield curves_chart(
        "Views and neighbours, percent",
        [
            curve("two views find each other", lambda health: health.view_agreement, 100),
            curve("neighbours are the same in both", lambda health: health.shared_neighbors, 100),
        ],
        note="What health is made of, on two random views of the same training images.",
        unit=" %",
        digits=1,
        from_zero=True,
        top=100,
    )
    yield curves_chart(
        "Cosine of two different images",
        [curve("", lambda health: health.cosine_mean)],
        note="The mean over pairs. Near 1, all images look alike.",
    )
    kept = curve("from the epoch before", lambda health: health.kept_from_last, 100)
    first = curve("from before training", lambda health: health.kept_from_start, 100)
    if kept.values and first.values:
        yield curves_chart(
            "Neighbours kept, percent",
            [kept, first],
            note="How much the neighbourhoods still change.",
            unit=" %",
            digits=1,
            from_zero=True,
            top=100,
        )


def _results(run: RunRecord) -> tuple[list[str], list[tuple[str, bool, list[Cell]]]]:
    names = {name for metrics in run.results.values() for name in metrics}
    recalls = sorted((name for name in names if name.startswith("recall@")), key=lambda name: int(name[7:]))
    titles = {name: name.replace("recall", "R") for name in recalls}
    titles |= {"map@r": "MAP@R", "r_precision": "R-precision", "nmi": "NMI"}
    metrics = [name for name in titles if name in names]

    def cell(row: str, metric: str) -> Cell:
        values = run.results[row]
        if metric not in values:
            return Cell("–")
        best = values[metric] == max(each.get(metric, -1) for each in run.results.values())
        queries = run.queries.get(row, {}).get(metric)
        interval = "" if queries is None else "{:.1f} to {:.1f}".format(*(100 * np.array(bootstrap_interval(queries))))
        return Cell(f"{100 * values[metric]:.1f}", interval, best and len(run.results) > 1)

    rows = [
        (label_of(row, run.results[row]), row == run.reached, [cell(row, metric) for metric in metrics])
        for row in run.results
    ]
    return [titles[metric] for metric in metrics], rows


def _differences(run: RunRecord) -> Iterator[str]:
    if not run.free or run.reached not in run.results:
        return
    best = best_of(run.free)
    ours, theirs = run.queries.get(run.reached, {}), run.queries.get(best, {})
    for metric, name in (("recall@1", "R@1"), ("map@r", "MAP@R")):
        if metric in ours and metric in theirs and len(ours[metric]) == len(theirs[metric]):
            gaps = 100 * (ours[metric].astype(np.float64) - theirs[metric])
            low, high = bootstrap_interval(gaps)
            sure = "" if low > 0 or high < 0 else ", which may be chance"
            yield (
                f"{name}: {gaps.mean():+.1f} points against {label_of(best, run.free[best])} (95 % interval {low:+.1f} "
                f"to {high:+.1f}{sure})."
            )


def _retrieval_charts(run: RunRecord) -> Iterator[Chart]:
    for metric, name in (("recall@1", "Recall@1, percent"), ("map@r", "MAP@R, percent")):
        curve = _logged(run, metric, scale=100, before=run.results.get("before_training", {}).get(metric))
        if len(curve.values) < 2:
            continue
        free = {row: metrics for row, metrics in run.free.items() if row != "before_training" and metric in metrics}
        references = {label_of(row, metrics): 100 * metrics[metric] for row, metrics in free.items()}
        note = "On the test images, after each epoch. The last one counts; the best is chosen on the test classes."
        yield curves_chart(name, [curve], note=note, unit=" %", digits=1, references=references)


def _training_charts(run: RunRecord) -> Iterator[Chart]:
    def chart(title: str, names: Mapping[str, str], note: str = "", **options: Any) -> Chart | None:
        curves = [curve for name, label in names.items() if (curve := _logged(run, name, label=label)).values]
        return curves_chart(title, curves, note=note, **options) if curves else None

    charts = [
        chart("Loss", {"loss": ""}, "It may rise in a good run and fall in a ruined one: watch health.", digits=4),
        chart("Learning rate", {"learning_rate": ""}, "At the end of an epoch.", digits=6, from_zero=True),
        chart("Seconds an epoch", {"speed/epoch_seconds": ""}, "Neighbour search and steps.", digits=1, from_zero=True),
        chart("Images a second", {"speed/images_per_second": ""}, "In training steps.", digits=0, from_zero=True),
        chart("Peak memory, GB", {"speed/peak_memory_gb": ""}, "Of the process so far.", digits=2, from_zero=True),
    ]
    return (each for each in charts if each is not None)


def _logged(run: RunRecord, name: str, *, label: str = "", scale: float = 1, before: float | None = None) -> Curve:
    points = [(epoch, value) for epoch, logs in enumerate(run.epochs, start=1) if (value := logs.get(name)) is not None]
    points = [*([] if before is None else [(0, before)]), *points]
    points = points[:: -(-len(points) // _MOST_POINTS) or 1]
    return Curve(label, [epoch for epoch, _ in points], [scale * value for _, value in points])


_EPOCH_COLUMNS = {
    "health": ("health", 1, 3),
    "health/effective_rank": ("rank", 1, 1),
    "recall@1": ("R@1, %", 100, 1),
    "map@r": ("MAP@R, %", 100, 1),
    "loss": ("loss", 1, 4),
    "learning_rate": ("learning rate", 1, 6),
    "speed/epoch_seconds": ("seconds", 1, 1),
    "speed/images_per_second": ("images/s", 1, 0),
    "speed/peak_memory_gb": ("peak GB", 1, 2),
}


def _epochs(run: RunRecord) -> tuple[list[str], list[list[str]]]:
    shown = [name for name in _EPOCH_COLUMNS if any(logs.get(name) is not None for logs in run.epochs)]

    def text(logs: Mapping[str, float | None], name: str) -> str:
        _, scale, digits = _EPOCH_COLUMNS[name]
        value = logs.get(name)
        return "–" if value is None else f"{scale * value:.{digits}f}"

    rows = [[str(epoch), *(text(logs, name) for name in shown)] for epoch, logs in enumerate(run.epochs, start=1)]
    step = -(-len(rows) // _MOST_POINTS) or 1
    return ["epoch", *(_EPOCH_COLUMNS[name][0] for name in shown)], rows[::step]


def _similarities(run: RunRecord) -> Chart | None:
    if run.evidence is None or run.evidence.similarities is None:
        return None
    found = run.evidence.similarities
    return histogram_chart(
        "How alike training images are",
        np.array(found.edges),
        {"nearest neighbours": np.array(found.nearest), "pairs drawn by chance": np.array(found.random)},
        note="The further apart the two hills, the better images are told apart. A peak at 1 is copies.",
        x_label="cosine similarity",
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
