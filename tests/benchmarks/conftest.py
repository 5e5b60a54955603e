"""Benchmarks run when they are asked for by `-m benchmark`, and write what they found into README.md beside them."""

import datetime
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- measured -->\n", "<!-- end -->\n"
PACKAGES = ("tensorflow", "keras", "numpy", "faiss-cpu", "torch", "torchvision")
ROUNDS = 3


class Figure(NamedTuple):
    """Medians in seconds, and the median of the ratios of the rounds; `theirs` is None for a time by itself."""

    what: str
    ours: float
    reference: str
    theirs: float | None
    ratio: float | None
    reach: str


def pytest_collection_modifyitems(config, items):
    if "benchmark" not in config.option.markexpr.replace("not benchmark", ""):
        here = Path(__file__).parent
        left_out = [item for item in items if here in item.path.parents]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


class Benchmarks:
    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def compare(
        self, what: str, ours: Callable, reference: str, theirs: Callable, *, reach: str, rounds: int = ROUNDS
    ) -> None:
        """Time both in turn, after one call of each that is not counted: what else runs meanwhile meets them alike."""
        ours(), theirs()
        pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(rounds)]
        our, their = (statistics.median(times) for times in zip(*pairs, strict=True))
        self.figures.append(Figure(what, our, reference, their, statistics.median(a / b for a, b in pairs), reach))

    def clock(self, what: str, ours: Callable, *, reach: str, rounds: int = ROUNDS) -> None:
        seconds = statistics.median(_seconds(ours) for _ in range(rounds))
        self.figures.append(Figure(what, seconds, "", None, None, reach))


def _seconds(call: Callable) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


@pytest.fixture(scope="session")
def benchmarks():
    """Collects figures; when all are taken, the table in README.md is written anew."""
    taken = Benchmarks()
    load = os.getloadavg()[0]
    yield taken
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    README.write_text(before + BEGIN + _table(taken.figures, load) + END + after, encoding="utf-8")


def _table(figures: list[Figure], load: float) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    lines = [
        f"{datetime.date.today()}; {_processor()}, {os.cpu_count()} cores, load {load:.1f} when it began; Python "
        f"{platform.python_version()}, {versions}.",
        "",
        "| what | ours | reference | its time | ratio | to reach |",
        "|---|---|---|---|---|---|",
    ]
    for figure in figures:
        theirs = "" if figure.theirs is None else _time(figure.theirs)
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        parts = (figure.what, _time(figure.ours), figure.reference, theirs, ratio, figure.reach)
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
