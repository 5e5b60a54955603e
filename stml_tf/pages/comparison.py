"""Runs side by side: the settings in which they differ, and the result of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stml_tf.evaluation.result_rows import best_of, label_of
from stml_tf.pages.outcome import outcome_of
from stml_tf.pages.record import RunRecord
from stml_tf.pages.template import render

MISSING = "–"


@dataclass(frozen=True)
class Line:
    """One thing that is compared.

    Attributes:
        name: What it is, with its unit.
        values: One a run.
        best: Which of them are the best, where one can say so.
    """

    name: str
    values: list[str]
    best: list[bool]


@dataclass(frozen=True)
class Comparison:
    """Runs beside each other.

    Attributes:
        names: What each run is called: its folder, as short as tells them apart.
        settings: What differs in their recipes.
        results: Verdict, health and metrics.
        note: What keeps the runs from being compared; empty if nothing does.
    """

    names: list[str]
    settings: list[Line]
    results: list[Line]
    note: str = ""


def compare_runs(runs: Sequence[RunRecord]) -> Comparison:
    """Compare two runs or more."""
    settings = _settings(runs)
    other_data = any(line.name.startswith("data.") for line in settings)
    note = "The runs have different data, so health, R@1 and MAP@R are not comparable." if other_data else ""
    return Comparison(names_of(runs), settings, _results(runs, comparable=not other_data), note)


def as_json(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Tell what `compare_runs` compares, in full, one object a run."""
    differing = {line.name for line in _settings(runs)}
    return [
        {
            "run": run.path,
            "status": run.status,
            "verdict": outcome_of(run).title,
            "health": run.healths[-1].score if run.before and len(run.healths) > 1 else None,
            "health_before": run.before.score if run.before else None,
            "results": {row: dict(metrics) for row, metrics in run.results.items()},
            "reached": run.reached if run.reached in run.results else None,
            "best_free": best_of(run.free) if run.free else None,
            "settings": {setting.key: setting.value for setting in run.settings if setting.key in differing},
        }
        for run in runs
    ]


def comparison_page(runs: Sequence[RunRecord]) -> str:
    """Lay the comparison out as a page, HTML."""
    compared = compare_runs(runs)
    about = f"{len(runs)} runs. {compared.note or 'Bold is the best of a line.'}"
    return render("compare.html", title="Runs compared", about=about, compared=compared)


def names_of(runs: Sequence[RunRecord]) -> list[str]:
    """Return the last parts of each run's folder, as many as tell the runs apart."""
    paths = [Path(run.path).absolute().parts for run in runs]
    for count in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-count:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return [run.path for run in runs]


def _settings(runs: Sequence[RunRecord]) -> list[Line]:
    by_run = [{setting.key: setting.value for setting in run.settings} for run in runs]
    keys = dict.fromkeys(key for settings in by_run for key in settings)
    values = {key: [settings.get(key, MISSING) for settings in by_run] for key in keys}
    return [Line(key, each, [False] * len(runs)) for key, each in values.items() if len(set(each)) > 1]


def _results(runs: Sequence[RunRecord], *, comparable: bool) -> list[Line]:
    def line(name: str, value: Callable[[RunRecord], float | None], digits: int, sign: int = 1) -> Line | None:
        values = [value(run) for run in runs]
        known = [sign * each for each in values if each is not None]
        if not known:
            return None
        told = [MISSING if each is None else f"{each:,.{digits}f}" for each in values]
        best = [each is not None and sign * each == max(known) > min(known) for each in values]
        return Line(name, told, best if comparable else [False] * len(runs))

    def reached(metric: str) -> Callable[[RunRecord], float | None]:
        return lambda run: _percent(run.results.get(run.reached, {}).get(metric))

    def free(metric: str) -> Callable[[RunRecord], float | None]:
        return lambda run: _percent(run.free[best_of(run.free)].get(metric)) if run.free else None

    def seconds(run: RunRecord) -> float | None:
        return sum(logs.get("speed/epoch_seconds") or 0 for logs in run.epochs) or None

    plain = [False] * len(runs)
    best_free = [label_of(best_of(run.free), run.free[best_of(run.free)]) if run.free else MISSING for run in runs]
    lines = [
        Line("verdict", [outcome_of(run).title for run in runs], plain),
        Line("epochs", [f"{len(run.epochs)} of {run.epochs_planned}" for run in runs], plain),
        line("health, 0 to 1", lambda run: run.healths[-1].score if run.before and len(run.healths) > 1 else None, 3),
        line("health before training", lambda run: run.before.score if run.before else None, 3),
        line("effective rank", lambda run: run.healths[-1].effective_rank if run.healths else None, 1),
        line("R@1, percent", reached("recall@1"), 1),
        line("MAP@R, percent", reached("map@r"), 1),
        Line("best free row", best_free, plain) if any(run.free for run in runs) else None,
        line("R@1 of it, percent", free("recall@1"), 1),
        line("MAP@R of it, percent", free("map@r"), 1),
        line("training, seconds", seconds, 0, -1),
    ]
    return [each for each in lines if each is not None]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
