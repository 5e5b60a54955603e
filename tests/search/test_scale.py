"""Searches of realistic size, each in a process that gets no more memory than it is said to need."""

import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux", reason="RLIMIT_DATA counts all of a process's own memory on Linux alone"
    ),
]

LIMIT = """
import resource
import numpy as np
from stml_tf.evaluation import retrieval_metrics
from stml_tf.evaluation.neighbors import nearest_neighbors
from stml_tf.search import Gallery
from stml_tf.search.duplicates import find_duplicates

def allow(size):
    resource.setrlimit(resource.RLIMIT_DATA, (held() + size, held() + size))

def held():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024

def rows(count, dim):
    return np.random.default_rng(0).standard_normal((count, dim), dtype=np.float32)
"""


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", LIMIT + code, *map(str, arguments)], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_limit_is_one():
    code = "allow(1 << 30); np.ones((12_000, 12_000)).sum()"
    done = subprocess.run([sys.executable, "-c", LIMIT + code], capture_output=True, text=True)
    assert "MemoryError" in done.stderr


def test_recall_over_sop_needs_less_than_a_gibibyte_beyond_the_embeddings():
    code = """
embeddings = rows(60_502, 512)
# The first half's images stand beside their copies in the second.
embeddings[30_251:] = embeddings[:30_251] + 0.1 * embeddings[30_251:]
labels = np.arange(60_502) % 30_251
allow(1 << 30)
metrics = retrieval_metrics(embeddings, labels)
print(metrics["recall@1"], metrics["queries"])
"""
    assert run(code) == ["1.0", "60502"]


def test_a_million_images_are_built_saved_loaded_and_searched(tmp_path):
    code = """
import sys
folder = sys.argv[1]
source = np.lib.format.open_memmap(folder + "/source.npy", "w+", np.float32, (1_000_000, 128))
for start in range(0, 1_000_000, 50_000):
    source[start : start + 50_000] = np.random.default_rng(start).standard_normal((50_000, 128))
allow(1 << 30)
paths = [f"/images/{number:07d}.jpg" for number in range(1_000_000)]
Gallery.from_embeddings(source, paths, folder + "/gallery")
gallery = Gallery.load(folder + "/gallery")
wanted = [3, 499_999, 999_999]
distances, indices = gallery.search_embeddings(source[wanted] + np.float32(0.01), k=10)
assert (indices[:, 0] == wanted).all() and np.allclose(distances[:, 0], 0.01 * 128**0.5, rtol=1e-3)
assert gallery.remove(paths[3]) == 1
_, indices = gallery.search_embeddings(source[wanted[1:]], k=1)
print(len(gallery), *indices[:, 0])
"""
    assert run(code, tmp_path) == ["999999", "499998", "999998"]


def test_duplicates_need_no_more_memory_than_a_quarter_gibibyte():
    code = """
embeddings = rows(30_502, 512)
embeddings[30_000:] = embeddings[:502] * 2
allow(1 << 28)
groups = find_duplicates(embeddings, threshold=0.95)
print(len(groups), *sorted((groups[7].kept, *groups[7].others)))
"""
    assert run(code) == ["502", "7", "30007"]
