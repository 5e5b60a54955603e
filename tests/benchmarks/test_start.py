"""How long someone waits before anything happens."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from stml_tf.search import Gallery
from tests.benchmarks.photographs import save_photographs

pytestmark = pytest.mark.benchmark


def run(*arguments):
    subprocess.run(arguments, check=True, capture_output=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})


def used(*arguments):
    """Seconds of processor time of a command, which other programs beside it hardly change."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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


def test_search(benchmarks, toy_model, tmp_path):
    from stml_tf.cli.main import main

    folder, image, *_ = tmp_path / "gallery", *save_photographs(tmp_path / "files", 50)
    main(["index", str(toy_model), str(image.parent), "-o", str(folder)], standalone_mode=False)
    gallery = Gallery.load(folder)
    gallery.search([image])  # Loads the network.
    benchmarks.clock(
        "`Gallery.search` once loaded, a JPEG file of 500 px among 50",
        lambda: gallery.search([image]),
        reach="20 ms",
        rounds=9,
    )
    code = f"from stml_tf.cli.main import main; main(['search', {str(folder)!r}, {str(image)!r}])"
    seconds = used(sys.executable, "-c", code)
    benchmarks.tell("`stml-tf search` on a small gallery, time of the processor", f"{seconds:.1f} s")
    benchmarks.compare(
        "`stml-tf search` on a small gallery",
        lambda: run(sys.executable, "-c", code),
        "`import tensorflow` alone",
        lambda: run(sys.executable, "-c", "import tensorflow"),
        reach="3 s",
    )


def test_first_step_of_the_quickstart(benchmarks, tmp_path):
    code = f"""
import os, pathlib
from stml_tf.cli.quiet import import_tensorflow
import_tensorflow()
from stml_tf import load_recipe, train
from stml_tf.fitting import callbacks
def first(self, batch, logs=None):
    float(logs["loss"])
    os._exit(0)
callbacks.StopOnNonFinite.on_train_batch_end = first
folder = pathlib.Path({str(tmp_path)!r})
train(load_recipe("quickstart"), run_dir=folder / "run", saved_models=folder / "models", overwrite=True)
"""
    what = "from command to the first step of the quickstart"
    benchmarks.clock(what, lambda: run(sys.executable, "-c", code), reach="12 s", rounds=2)
    benchmarks.tell(f"{what}, time of the processor", f"{used(sys.executable, '-c', code):.1f} s")
