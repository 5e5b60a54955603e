"""Eight clients at once, some of whose images are corrupt.

`LOAD_SECONDS=60 pytest -m slow -s tests/serving/test_load.py` prints how fast the server is.
"""

import io
import itertools
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from PIL import Image

from stml_tf.export.saved_model_writer import export_saved_model
from stml_tf.models import build_student, preprocessing
from tests.export.kserve_process import NAME, install_kserve, kserve_server

pytestmark = pytest.mark.slow

CLIENTS = 8
SECONDS = float(os.environ.get("LOAD_SECONDS", "10"))
ONE_CORRUPT_IN = 100
SIZE, DIM = 64, 128


def photographs(count):
    """JPEG files of 320 x 240 pixels, about 20 kB each."""
    random = np.random.default_rng(0)
    for _ in range(count):
        colors = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(colors).resize((320, 240), Image.Resampling.BICUBIC).save(file, format="JPEG", quality=90)
        yield file.getvalue()


@pytest.fixture(scope="module")
def server(pytestconfig, tmp_path_factory):
    keras.utils.set_random_seed(0)
    student = build_student("conv4", embedding_dim=DIM, teacher_dim=8)
    folder = tmp_path_factory.mktemp("kserve")
    exported = export_saved_model(student, folder / NAME, size=SIZE, preprocess=preprocessing("conv4"))
    with kserve_server(install_kserve(pytestconfig.cache.mkdir("kserve")), exported, folder / "log") as server:
        yield server


def test_corrupt_images_are_refused_and_nothing_else_fails(server):
    images = list(photographs(50))
    numbers = itertools.count()
    end = time.monotonic() + SECONDS

    def client(_):
        outcomes, latencies = Counter(), []
        while time.monotonic() < end:
            number = next(numbers)
            image, corrupt = images[number % len(images)], number % ONE_CORRUPT_IN == 0
            began = time.monotonic()
            status, answer = server.predict([image[: len(image) // 2] if corrupt else image])
            latencies.append(time.monotonic() - began)
            if corrupt:
                right = status == 400 and "an image cannot be decoded" in answer["error"]
            else:
                right = status == 200 and np.shape(answer["predictions"]) == (1, DIM)
            outcomes["corrupt" if corrupt else "sound", right] += 1
        return outcomes, latencies

    server.predict(images)  # The first request compiles, and takes the memory for a whole batch.
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        memory = pool.submit(lambda: [(time.sleep(SECONDS / 10), server.resident_bytes())[1] for _ in range(10)])
        results = list(pool.map(client, range(CLIENTS)))
    outcomes = sum((outcomes for outcomes, _ in results), Counter())
    latencies = 1000 * np.concatenate([latencies for _, latencies in results])
    mebibytes = np.array(memory.result()) / 2**20
    median, p95, p99 = np.percentile(latencies, [50, 95, 99])
    print(
        f"\n{len(latencies) / SECONDS:.0f} requests/s of {CLIENTS} clients for {SECONDS:.0f} s; "
        f"latency {median:.0f} ms (median), {p95:.0f} ms (95 %), {p99:.0f} ms (99 %); "
        f"{outcomes['corrupt', True]} corrupt images refused; memory {mebibytes.round().astype(int).tolist()} MiB"
    )
    assert set(outcomes) == {("sound", True), ("corrupt", True)}, outcomes
    # From the third tenth on, when every thread has its buffers.
    assert mebibytes[2:].max() < 1.1 * mebibytes[2], mebibytes
