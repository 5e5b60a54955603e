"""Measures start, mining, evaluation and training with some number of images, and prints JSON.

A program of its own, as memory is measured: `python -m tests.benchmarks.growth 10000`.
"""

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from rich.console import Console

from stml_tf import load_recipe
from stml_tf.data.catalog import Catalog
from stml_tf.data.sources.glyphs import load_glyphs
from stml_tf.evaluation import retrieval_metrics
from stml_tf.fitting.resumable_fit import fit_from
from stml_tf.runs.prepare import prepare

STEPS = 60


class Watch(keras.callbacks.Callback):
    """Notes when each step ends, and how much memory is in use then."""

    def __init__(self):
        super().__init__()
        self.times, self.memory = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter())
        self.memory.append(memory())


def memory():
    """MiB of the process that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def many_glyphs(count):
    """Glyphs, drawn 10,000 times and copied with noise, so that no image is another one's copy."""
    drawn = load_glyphs(num_classes=1000, instances=20, image_size=32, train_classes=0.5).train
    rows = np.arange(count) % len(drawn)
    grey = drawn.images[..., 0][rows]
    noise = np.random.default_rng(0).integers(0, 8, grey.shape, np.uint8)
    grey = np.where(grey > 127, grey - noise, grey + noise)
    pixels = np.broadcast_to(grey[..., None], (*grey.shape, 3))
    return replace(drawn, images=pixels, labels=drawn.labels[rows])


def timed(call):
    begun = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begun


def main(count):
    images = many_glyphs(count)
    recipe = load_recipe("quickstart", ["training.cache=null", "training.epochs=1"])
    catalog = Catalog("grown", images, None)
    folder = Path(tempfile.mkdtemp()) / "run"
    before = memory()
    run, start = timed(lambda: prepare(recipe, catalog=catalog, run_dir=folder, console=Console(quiet=True)))
    embeddings, embedding = timed(run.neighbors.embed)
    run.neighbors.embed = lambda: embeddings
    _, mining = timed(lambda: run.neighbors.on_epoch_begin(0))
    _, evaluation = timed(lambda: retrieval_metrics(embeddings[:, :128], images.labels, recall_at=(1, 10)))
    watch = Watch()
    fit_from(run.model, lambda: run.batches().take(STEPS), epochs=1, callbacks=[watch])
    found = {
        "start": start,
        "embedding": embedding,
        "mining": mining,
        "evaluation": evaluation,
        "step": float(np.median(np.diff(watch.times[5:]))),
        "memory_first": watch.memory[9] - before,
        "memory_last": watch.memory[-1] - before,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
