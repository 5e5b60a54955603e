"""How start, mining, evaluation and memory grow with the number of images, and what a million would take."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

COUNTS = (10_000, 30_000, 100_000)
PLOT = Path(__file__).with_name("growth.png")


def measured(count):
    done = subprocess.run([sys.executable, "-m", "tests.benchmarks.growth", str(count)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def test_growth(benchmarks):
    found = {count: measured(count) for count in COUNTS}
    for name, what in (
        ("start", "start: checks of the images, model, run folder"),
        ("embedding", "embedding all images for mining"),
        ("mining", "mining: neighbours of all, 512 dimensions, and the epoch's batches"),
        ("evaluation", "evaluation: retrieval among all, 128 dimensions"),
        ("step", "a training step, 240 views of 32 px"),
    ):
        for count, figures in found.items():
            benchmarks.tell(f"{what}, {count:,} images", f"{figures[name]:.2f} s")
    for count, figures in found.items():
        grown = figures["memory_last"] - figures["memory_first"]
        benchmarks.tell(
            f"memory of training beyond the images, {count:,} images; its growth from step 10 to 60",
            f"{figures['memory_last']:,.0f} MiB; {grown:,.0f} MiB",
            reach="flat",
        )
    largest = found[COUNTS[-1]]
    times = 1_000_000 / COUNTS[-1]
    hours = {
        "steps": largest["step"] * 1_000_000 / 120 / 3600,
        "embedding": largest["embedding"] * times / 3600,
        "mining": largest["mining"] * times**2 / 3600,
    }
    parts = ", ".join(f"{name} {value:.1f} h" for name, value in hours.items())
    benchmarks.tell(
        "an epoch of a million images of 32 px on these cores, worked out from 100,000 (mining grows with the square)",
        f"{sum(hours.values()):.1f} h: {parts}",
    )
    _plot(found)


def _plot(found):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name in ("start", "embedding", "mining", "evaluation", "step"):
        axes.loglog(list(found), [figures[name] for figures in found.values()], "o-", label=name)
    axes.set(xlabel="images", ylabel="seconds", title="Growth with the number of images")
    axes.legend()
    axes.grid(which="both", alpha=0.3)
    figure.savefig(PLOT, dpi=100)
