"""An epoch of the recipe `omniglot`, with mining and evaluation, beside the same in PyTorch.

The pictures are glyphs, as many and as large as Omniglot's: 136 characters to train on, 106 to test, 20 drawings each.
"""

import time

import pytest
from rich.console import Console

from stml_tf import load_recipe
from stml_tf.data.sources.glyphs import load_glyphs

pytestmark = pytest.mark.benchmark

SIZE, EPOCHS = 48, 3


class EnoughMeasured(Exception):
    pass


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_epoch(benchmarks, tmp_path, precision):
    from stml_tf.runs.train import train_recipe
    from tests.benchmarks.pytorch_training import Training

    glyphs = load_glyphs(num_classes=136 + 106, instances=20, image_size=SIZE, train_classes=136 / (136 + 106))
    theirs = Training(glyphs.train.images, glyphs.test.images, glyphs.test.labels, size=SIZE)
    theirs.epoch()
    pairs = []
    begun = time.perf_counter()

    def watch(epoch, logs):
        nonlocal begun
        if epoch > 1:  # The first one traces the graph.
            ours = time.perf_counter() - begun
            again = time.perf_counter()
            theirs.epoch()
            pairs.append((ours, time.perf_counter() - again))
        if epoch == EPOCHS:
            raise EnoughMeasured
        begun = time.perf_counter()

    with pytest.raises(EnoughMeasured):
        train_recipe(
            load_recipe("omniglot", [f"training.precision={precision}"]),
            catalog=glyphs,
            run_dir=tmp_path / "run",
            console=Console(quiet=True),
            export=False,
            watch=watch,
        )
    what = f"an epoch of `omniglot`'s size, all of it, {precision}"
    benchmarks.pairs(what, pairs, "the same in PyTorch, written by us", reach="0.4")
