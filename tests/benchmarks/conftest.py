"""Benchmarks run when they are asked for by `-m benchmark`; each file writes its table into README.md beside it."""

import datetime
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

# torchvision imports Triton if it is there, whose LLVM and TensorFlow's in one process end in a segmentation fault.
sys.modules["triton"] = None

README = Path(__file__).with_name("README.md")
PACKAGES = ("tensorflow", "keras", "numpy", "faiss-cpu", "torch", "torchvision", "onnxruntime")
ROUNDS = 3


class Figure(NamedTuple):
    """A row: medians, and the median of the ratios of the rounds, ours to theirs, as they are to be read."""

    what: str
    ours: str
    reference: str = ""
    theirs: str = ""
    ratio: str = ""
    reach: str = ""


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
        self,
        what: str,
        ours: Callable,
        reference: str,
        theirs: Callable,
        *,
        reach: str = "",
        rounds: int = ROUNDS,
        items: int = 0,
        unit: str = "images/s",
    ) -> None:
        """Time both in turn, after a call of each that is not counted: what else runs meanwhile meets them alike.

        With `items`, the table shows how many of them are done a second. The ratio is one of times in any case.
        """
        ours(), theirs()
        pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(rounds)]
        self.pairs(what, pairs, reference, reach=reach, items=items, unit=unit)

    def pairs(self, what, pairs, reference, *, reach="", items=0, unit="images/s") -> None:
        """Take the medians of times in seconds, ours and theirs of each round."""
        shown = [_shown(statistics.median(times), items, unit) for times in zip(*pairs, strict=True)]
        ratio = statistics.median(a / b for a, b in pairs)
        self.figures.append(Figure(what, shown[0], reference, shown[1], f"{ratio:.2f}", reach))

    def clock(self, what: str, ours: Callable, *, reach: str = "", rounds: int = ROUNDS) -> None:
        seconds = statistics.median(_seconds(ours) for _ in range(rounds))
        self.figures.append(Figure(what, _shown(seconds), reach=reach))

    def tell(self, what: str, ours: str, *, reach: str = "") -> None:
        self.figures.append(Figure(what, ours, reach=reach))


def _seconds(call: Callable) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _shown(seconds: float, items: int = 0, unit: str = "") -> str:
    if items:
        rate = items / seconds
        return f"{rate:,.0f} {unit}" if rate >= 100 else f"{rate:.1f} {unit}"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


@pytest.fixture
def benchmarks(request):
    """Collects the figures of a test, which then replace their rows in the table of its file in README.md."""
    taken = Benchmarks()
    load = os.getloadavg()[0]
    yield taken
    begin, end = f"<!-- {request.path.stem} -->\n", f"<!-- end of {request.path.stem} -->\n"
    before, rest = README.read_text(encoding="utf-8").split(begin)
    table, after = rest.split(end)
    README.write_text(before + begin + _table(table, taken.figures, load) + end + after, encoding="utf-8")


def _table(before: str, figures: list[Figure], load: float) -> str:
    """Write the new rows into the table that is there; rows of tests that did not run stay, with their dates."""
    versions = ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    when = f"{datetime.date.today()}, load {load:.1f}"
    rows = {_key(line): line for line in before.splitlines()[4:]}
    rows |= {_key(line): line for line in (f"| {' | '.join(figure)} | {when} |" for figure in figures)}
    lines = [
        f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}.",
        "",
        "| what | ours | reference | its | ratio | to reach | when |",
        "|---|---|---|---|---|---|---|",
        *rows.values(),
    ]
    return "\n".join(lines) + "\n"


def _key(line: str) -> tuple[str, str]:
    cells = line.split(" | ")
    return cells[0], cells[2]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
