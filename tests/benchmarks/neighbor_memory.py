"""Measures the memory of a search among rows: `python -m tests.benchmarks.neighbor_memory ROWS DIM K SECONDS`.

Prints how many queries were answered within about so many seconds, how long they took, and the peak of memory in MiB
beyond what the embeddings and the libraries take.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from stml_tf.evaluation.neighbors import neighbor_chunks


def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def main(rows, dim, k, most):
    random = np.random.default_rng(0)
    embeddings = np.empty((rows, dim), np.float32)
    for part in np.array_split(embeddings, 20):
        part[:] = random.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    list(neighbor_chunks(embeddings[:20_000], k=5))  # Libraries and threads are no part of the search.
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # The peak is counted from here.
    begun, done, results = time.perf_counter(), 0, []
    for found in neighbor_chunks(embeddings, k=k):
        results.append(found)
        done += len(found[1])
        if time.perf_counter() - begun > most:
            break
    print(json.dumps([done, time.perf_counter() - begun, status("VmHWM") - before]))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
