"""Exact neighbours, the queries being the gallery, beside faiss's flat search."""

import json
import subprocess
import sys

import faiss
import numpy as np
import pytest

from stml_tf.evaluation import nearest_neighbors

pytestmark = pytest.mark.benchmark


@pytest.mark.parametrize(("dim", "k"), [(512, 5), (512, 1000), (1024, 5)])
def test_neighbors(benchmarks, dim, k):
    embeddings = np.random.default_rng(0).standard_normal((20_000, dim)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    benchmarks.compare(
        f"neighbours, 20,000 x {dim}, k {k}",
        lambda: nearest_neighbors(embeddings, k=k),
        "`faiss.knn`",
        lambda: faiss.knn(embeddings, embeddings, k),
        reach="0.65",
        rounds=3,
    )


@pytest.mark.parametrize(("rows", "dim", "k", "reach"), [(60_502, 512, 1000, "1,024 MiB"), (1_000_000, 128, 5, "")])
def test_memory(benchmarks, rows, dim, k, reach):
    """A million rows would take too long here: after a minute, what is left is worked out."""
    numbers = [str(number) for number in (rows, dim, k, 60)]
    command = [sys.executable, "-m", "tests.benchmarks.neighbor_memory", *numbers]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    done, seconds, peak = json.loads(told.splitlines()[-1])
    what = f"neighbours, {rows:,} x {dim}, k {k}"
    benchmarks.tell(f"{what}: peak memory beyond the embeddings, results included", f"{peak:,.0f} MiB", reach=reach)
    if done < rows:
        time = f"{seconds * rows / done / 60:.0f} min, worked out from the first {done:,}"
    else:
        time = f"{seconds:.0f} s"
    benchmarks.tell(f"{what}: time", time)
