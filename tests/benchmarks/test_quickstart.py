"""The first command that people run, to its end."""

import os
import re
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.benchmark

# UMAP, where it is installed, compiles itself for a quarter of a minute. It is an extra, which few have at first.
CODE = """
import sys
sys.modules["umap"] = None
from stml_tf.cli.main import main
main(["train", "quickstart"])
"""


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_quickstart(benchmarks, tmp_path, precision):
    code = CODE.replace('"quickstart"', f'"quickstart", "--set", "training.precision={precision}"')
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "NO_COLOR": "1"}
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    seconds = time.perf_counter() - begun
    told = done.stdout + done.stderr
    recall = re.search(r"after training\W+([\d.]+)", told)[1]
    benchmarks.tell(
        f"`stml-tf train quickstart`, {precision}, to its end", f"{seconds:.0f} s, R@1 {recall}", reach="120 s"
    )
