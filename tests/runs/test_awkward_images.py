"""Awkward but ordinary images, from the folder to the figure: the figure is right, or what is wrong is said before."""

import io
import json
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageDraw
from rich.console import Console

from stml_tf import train
from stml_tf.data.cache import cache_in_memory, sufficient_side
from stml_tf.data.inspection import readable_catalog, readable_test_set
from stml_tf.data.loader import evaluation_batches
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.data.transforms import evaluation_view
from stml_tf.evaluation import query_gallery_metrics, raw_pixels
from stml_tf.runs.prepare import _warn_of_unused_bits

CLASSES = 8
TINY = {
    "name": "tiny",
    "views": {"size": 16},
    "model": {"backbone": "conv4", "embedding_dim": 8, "teacher_dim": 8},
    "batch": {"size": 8},
    "sampling": {"num_neighbors": 2},
    "training": {"epochs": 1},
}


def write(folder, draw, *, suffix="png", count=6, **options):
    """Images of a training and of a test folder; `draw` gets part, class and number."""
    for part in range(2):
        for kind in range(CLASSES):
            target = folder / ("train", "test")[part] / f"class{kind}"
            target.mkdir(parents=True)
            for number in range(count):
                image, more = draw(part, kind, number)
                image.save(target / f"{number}.{suffix}", **options, **more)


def measured(folder, **options):
    """Count a folder's test images, and measure how well their raw pixels retrieve each other."""
    images, num_queries, _ = readable_test_set(open_catalog("folder", data_dir=folder, **options))
    view = partial(evaluation_view, size=32)
    pixels = raw_pixels(
        evaluation_batches(images, batch_size=32, view=view, preprocess=lambda it: it), count=len(images)
    )
    metrics = query_gallery_metrics(pixels, images.labels, num_queries=num_queries, recall_at=(1,))
    return len(images), metrics["recall@1"], metrics["map@r"]


def pattern(part, kind, number, *, spread, low=0, high=256):
    """A class's own pattern of 5 x 5, and an image's own deviation from it."""
    base = np.random.default_rng(100 * part + kind).integers(low, high, (5, 5, 3))
    return base + np.random.default_rng([part, kind, number]).integers(-spread, spread, base.shape)


def as_image(values):
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("hidden", ["black", "noise"])
def test_black_ink_on_transparency_is_seen_on_white(tmp_path, hidden):
    def logo(part, kind, number):
        random = np.random.default_rng([part, kind, number])
        ink = Image.new("L", (40, 40))
        strokes = np.random.default_rng(100 * part + kind).integers(4, 36, (5, 4)) + random.integers(-2, 3, (5, 4))
        for stroke in strokes.tolist():
            ImageDraw.Draw(ink).line(stroke, fill=255, width=3)
        under = random.integers(0, 255, (40, 40, 3)) if hidden == "noise" else 0
        colors = np.where(np.asarray(ink)[..., None] > 0, 0, np.broadcast_to(under, (40, 40, 3)))
        return Image.fromarray(np.dstack([colors, np.asarray(ink)]).astype(np.uint8)), {}

    write(tmp_path, logo)
    assert measured(tmp_path)[:2] == (48, 1.0)
    # Black on black all look alike: what is trained on and measured on is the same image then.
    assert measured(tmp_path, background=(0, 0, 0))[1] < 0.3


def test_images_that_a_phone_has_turned_are_retrieved_as_upright_ones(tmp_path):
    def photograph(part, kind, number, *, turned=False):
        image = as_image(pattern(part, kind, number, spread=70)).resize((48, 48))
        exif = Image.Exif()
        if turned and number % 2:
            image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
        return image, {"exif": exif}

    for name, turned in (("upright", False), ("turned", True)):
        write(tmp_path / name, partial(photograph, turned=turned), suffix="jpg", quality=95, subsampling=0)
    upright, turned = measured(tmp_path / "upright"), measured(tmp_path / "turned")
    assert upright[:2] == turned[:2] == (48, 1.0)
    assert upright[2] > 0.7 and turned[2] == pytest.approx(upright[2], abs=0.01)


def frame_of_10_bits(part, kind, number):
    values = pattern(part, kind, number, spread=25, low=540, high=740)[..., 0]
    return Image.fromarray(np.kron(values, np.ones((8, 8))).astype(np.uint16)), {}


def test_a_camera_of_10_bits_is_measured_right_once_they_are_named(tmp_path):
    write(tmp_path, frame_of_10_bits)
    assert measured(tmp_path)[1] < 0.4
    assert measured(tmp_path, bit_depth=10)[1] == 1.0


@pytest.mark.parametrize(("settings", "told"), [({}, True), ({"bit_depth": 10}, False)])
def test_bits_that_a_camera_does_not_use_are_told_of(tmp_path, settings, told):
    """`prepare` does so, before the first step."""
    write(tmp_path, frame_of_10_bits, count=2)
    printed = io.StringIO()
    images = open_catalog("folder", data_dir=tmp_path, **settings).train
    _warn_of_unused_bits(images, Console(file=printed, width=200))
    assert ("use only 10 bits, but are read as 16" in printed.getvalue()) == told
    assert ("set data.bit_depth to 10" in printed.getvalue()) == told


def test_thumbnails_that_a_storage_server_keeps_do_not_make_noise_retrievable(tmp_path):
    def noise(part, kind, number):
        random = np.random.default_rng([part, kind, number])
        return Image.fromarray(random.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((64, 64)), {}

    write(tmp_path, noise, suffix="jpg")
    alone = measured(tmp_path)
    for path in sorted(tmp_path.rglob("*.jpg")):
        for size in (48, 24):
            copy = path.parent / "@eaDir" / path.name / f"SYNOPHOTO_THUMB_{size}.jpg"
            copy.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).resize((size, size)).save(copy)
    assert measured(tmp_path) == alone
    assert alone[0] == 48 and alone[1] < 0.3
    for folder in list(tmp_path.rglob("@eaDir")):
        folder.rename(folder.with_name("copies"))
    assert measured(tmp_path)[:2] == (144, 1.0)  # What it would be with them.


def test_a_strip_among_ordinary_images_is_one_more_image(tmp_path):
    def square(part, kind, number):
        return as_image(pattern(part, kind, number, spread=60)).resize((40, 40)), {}

    write(tmp_path, square)
    stripes = np.random.default_rng(0).integers(0, 255, (1, 50, 3), dtype=np.uint8)
    Image.fromarray(np.tile(stripes, (1, 1200, 1))).save(tmp_path / "test" / "class1" / "strip.png")
    count, recall, _ = measured(tmp_path)
    assert (count, recall) == (49, 48 / 49)  # The strip finds nothing like itself.


def test_large_photographs_are_kept_at_the_size_that_views_need(tmp_path):
    def photograph(part, kind, number):
        return Image.new("RGB", (1200, 900), (20 * kind, 30 * number, 90 * part)), {}

    write(tmp_path, photograph, count=2)
    side = sufficient_side(32, 0.16)
    cache = partial(cache_in_memory, shorter_side=side)
    catalog, unreadable = readable_catalog(open_catalog("folder", data_dir=tmp_path), cache=cache)
    assert unreadable == []
    assert {image.shape for image in catalog.train.images} == {(side, round(side * 4 / 3), 3)}
    assert [image[0, 0].tolist() for image in catalog.train.images[:3]] == [[0, 0, 0], [0, 30, 0], [20, 0, 0]]


@pytest.mark.slow
def test_the_second_run_in_a_folder_sees_the_images_that_the_first_saw(tmp_path, monkeypatch):
    def square(part, kind, number):
        return as_image(pattern(part, kind, number, spread=60)).resize((16, 16)), {}

    write(tmp_path / "made", square, count=3)
    for kind in (tmp_path / "made" / "train").iterdir():
        kind.rename(tmp_path / kind.name)
    for path in sorted((tmp_path / "made").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (tmp_path / "made").rmdir()
    monkeypatch.chdir(tmp_path)
    recipe = {**TINY, "data": {"name": "folder", "train": ".", "train_classes": 0.5}}
    seen = []
    for number in range(2):
        printed = io.StringIO()
        result = train(recipe, data_dir=".", run_dir=f"runs/{number}", console=Console(file=printed, width=200))
        seen.append(json.loads((result.folder / "images.json").read_text())["sets"])
        assert "12 training images without labels, 12 test images of 4 other classes" in printed.getvalue()
    assert seen[0] == seen[1]
    assert {path.name for path in tmp_path.iterdir()} >= {"runs", "saved_models"}
    # The first run, the second, which has begun, and the SavedModel.
    assert "written by stml-tf: 3 (listed in the run folder's left_out.txt)" in printed.getvalue()
