"""The memory that one image takes is bounded by a constant, whatever its sides: measured in a process of its own."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from tests.data.encodings import encoded, png
from tests.toy_network import DIM, build_toy

SIZE = 224

PEAKS = """
import json, sys
from pathlib import Path
import tensorflow as tf
from stml_tf.data.decoding import UnreadableImageError, read_image
from stml_tf.data.transforms import evaluation_view, random_view

folder, *files = sys.argv[1:]
signature = tf.saved_model.load(folder).signatures["serving_default"]
views = [lambda pixels: random_view(pixels, [1, 2], size=224), lambda pixels: evaluation_view(pixels, size=224)]

def served(content):
    try:
        return list(signature(image_bytes=tf.constant([content] * 10))["embedding"].shape)
    except tf.errors.InvalidArgumentError as error:
        return "more than the 67,108,864 allowed" in str(error) and "refused"

def trained(content):
    try:
        return [list(view(read_image(content)).shape) for view in views][0]
    except UnreadableImageError as error:
        return "more than the 67,108,864 allowed" in error.reason and "refused"

def mib(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(field))

found = []
for file in files:
    content = Path(file).read_bytes()
    for way in (served, trained):
        Path("/proc/self/clear_refs").write_text("5")  # The peak so far is forgotten.
        before = mib("VmRSS")
        outcome = way(content)
        found.append([way.__name__, outcome, mib("VmHWM") - before])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_thin_and_huge_images_take_bounded_memory_or_are_refused_by_their_header(tmp_path):
    from stml_tf.export.saved_model_writer import export_saved_model

    exported = export_saved_model(build_toy(), tmp_path / "model", size=SIZE, preprocess=lambda views: views / 255.0)
    files = {
        "ordinary": encoded(Image.new("RGB", (300, 200), (9, 90, 200)), "PNG"),  # The first one costs what stays.
        "1 x 1,000": encoded(Image.new("RGB", (1, 1_000), (9, 90, 200)), "PNG"),
        "1 x 60,000": encoded(Image.new("RGB", (1, 60_000), (9, 90, 200)), "PNG"),
        "60,000 x 1": encoded(Image.new("RGB", (60_000, 1), (9, 90, 200)), "PNG"),
        "4,000 x 4,000": encoded(Image.new("RGB", (4_000, 4_000), (9, 90, 200)), "PNG"),
        "20,000 x 20,000": png([bytes(2_500)] * 20_000, bits=1, color_type=0, size=(20_000, 20_000)),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, exported, *(tmp_path / name for name in files)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    in_order = [
        (name, *each)
        for name, pair in zip(files, zip(found[::2], found[1::2], strict=True), strict=True)
        for each in pair
    ]
    for name, way, outcome, grown in in_order[2:]:
        expected = "refused" if name == "20,000 x 20,000" else [10, DIM] if way == "served" else [SIZE, SIZE, 3]
        assert outcome == expected, (name, way)
        print(f"{name}, {way}: {grown} MiB")
        if name == "4,000 x 4,000":  # 46 MiB of pixels, ten times where ten are served: what takes memory is seen.
            assert 40 < grown < (700 if way == "served" else 150)
        else:
            assert grown < 64
