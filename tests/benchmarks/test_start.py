"""How long someone waits before anything happens."""

import os
import subprocess
import sys

import numpy as np
import pytest

from stml_tf.search import Gallery

pytestmark = pytest.mark.benchmark


def run(*arguments):
    subprocess.run(arguments, check=True, capture_output=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})


def test_help(benchmarks):
    code = "import sys; sys.argv = ['stml-tf', '--help']; from stml_tf.cli.main import main; main()"
    benchmarks.clock("`stml-tf --help`", lambda: run(sys.executable, "-c", code), reach="0.3 s")


def test_a_loaded_gallery(benchmarks, tmp_path):
    embeddings = np.random.default_rng(0).standard_normal((5000, 128)).astype(np.float32)
    gallery = Gallery.from_embeddings(embeddings, [f"/{n}.jpg" for n in range(5000)], tmp_path / "gallery")
    benchmarks.clock(
        "`Gallery.search_embeddings`, one query, 5,000 x 128",
        lambda: gallery.search_embeddings(embeddings[:1], k=10),
        reach="20 ms",
        rounds=9,
    )


def test_search(benchmarks, toy_model, photographs, tmp_path):
    from stml_tf.cli.main import main

    main(["index", str(toy_model), str(photographs), "-o", str(tmp_path / "g")], standalone_mode=False)
    image = min(photographs.rglob("*.png"))
    code = f"from stml_tf.cli.main import main; main(['search', {str(tmp_path / 'g')!r}, {str(image)!r}])"
    benchmarks.clock("`stml-tf search` on a small gallery", lambda: run(sys.executable, "-c", code), reach="3 s")


def test_first_step_of_the_quickstart(benchmarks, tmp_path):
    code = f"""
import os, pathlib
from stml_tf import load_recipe, train
from stml_tf.fitting import callbacks
def first(self, batch, logs=None):
    float(logs["loss"])
    os._exit(0)
callbacks.StopOnNonFinite.on_train_batch_end = first
folder = pathlib.Path({str(tmp_path)!r})
train(load_recipe("quickstart"), run_dir=folder / "run", saved_models=folder / "models", overwrite=True)
"""
    benchmarks.clock(
        "from command to the first step of the quickstart", lambda: run(sys.executable, "-c", code), reach="12 s"
    )
