import re
import shutil
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stml_tf.data.decoding import read_image
from stml_tf.data.formats.rule import DEFAULT_DECODING
from stml_tf.data.formats.signatures import PILLOW_FORMATS, format_of
from stml_tf.data.transforms import evaluation_view
from stml_tf.errors import UserError
from stml_tf.export import embedder as module
from stml_tf.export.embedder import Embedder
from stml_tf.export.saved_model import read_metadata, require_intact
from stml_tf.export.saved_model_writer import export_saved_model
from stml_tf.search import Gallery
from tests.data.encodings import ENCODINGS
from tests.toy_network import DIM, build_toy, export_toy, save_photograph


def one_by_one(images):
    student = build_toy()
    views = [evaluation_view(read_image(image), size=8) / 127.5 - 1 for image in images]
    embeddings = np.stack([student(view[None])[0][0] for view in views])
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def some_images(folder, count=30):
    sizes = [(20, 14), (9, 30), (16, 16), (40, 8)]
    return [save_photograph(folder / f"{n:02d}.png", n, sizes[n * n % 7 % 4]) for n in range(count)]


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("memory", [1, 2000, 1 << 30])
def test_order_and_values_do_not_depend_on_batches(toy_model, tmp_path, monkeypatch, batch_size, memory):
    monkeypatch.setattr(module, "_BATCH_BYTES", memory)
    monkeypatch.setattr(module, "_WAITING_BYTES", memory)
    images = some_images(tmp_path)
    seen = []
    embedded = Embedder(toy_model, batch_size=batch_size).embed_images(images, on_progress=seen.append)
    np.testing.assert_allclose(embedded.embeddings, one_by_one(images), atol=1e-5)
    np.testing.assert_array_equal(embedded.indices, np.arange(30))
    assert embedded.unreadable == []
    assert seen == sorted(seen)
    assert seen[-1] == 30


def test_bad_images_are_left_out_and_told_of(toy_model, tmp_path):
    images = some_images(tmp_path, 6)
    images[1].write_bytes(b"no image")
    images[4].unlink()
    embedded = Embedder(toy_model).embed_images([*images, images[0].read_bytes(), b""])
    np.testing.assert_array_equal(embedded.indices, [0, 2, 3, 5, 6])
    np.testing.assert_array_equal(embedded.embeddings[4], embedded.embeddings[0])
    told = [(bad.index, bad.reason) for bad in embedded.unreadable]
    assert told == [
        (1, "it is no JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, HEIC or JPEG 2000 image"),
        (4, "No such file or directory"),
        (7, "it is empty"),
    ]
    assert embedded.unreadable[0].path == images[1]


def test_formats_that_the_graph_refuses_come_through_the_pixels_with_the_same_embeddings(toy_model, tmp_path):
    """Searching, too, for a gallery embeds with this."""
    kinds = [kind for kind in ENCODINGS if format_of(ENCODINGS[kind]) in PILLOW_FORMATS]
    assert {format_of(ENCODINGS[kind]) for kind in kinds} == {"TIFF", "AVIF", "JPEG 2000"}
    files, twins = tmp_path / "files", tmp_path / "twins"
    for folder in (files, twins):
        folder.mkdir()
    for number, kind in enumerate(kinds):
        (files / f"{number}.jpg").write_bytes(ENCODINGS[kind])  # Whatever the name says.
        Image.fromarray(read_image(ENCODINGS[kind])).save(twins / f"{number}.png")
    embedder = Embedder(toy_model)
    embedded, expected = (embedder.embed_images(sorted(folder.iterdir())) for folder in (files, twins))
    assert embedded.unreadable == [] and len(expected.indices) == len(kinds)
    np.testing.assert_array_equal(embedded.embeddings, expected.embeddings)
    gallery = Gallery.build(toy_model, twins, tmp_path / "gallery")
    found = gallery.search(sorted(files.iterdir()), k=1)
    assert [match.distance for (match,) in found] == pytest.approx([0] * len(kinds), abs=1e-3)


def test_nothing_readable_gives_no_rows(toy_model):
    embedded = Embedder(toy_model).embed_images([b"", b"x"])
    assert len(embedded.embeddings) == len(embedded.indices) == 0
    assert len(embedded.unreadable) == 2


def test_the_size_of_images_bounds_how_many_are_held(toy_model, tmp_path, monkeypatch):
    # 100 images of 3 MB each: 300 MB, if they were all held.
    Image.new("RGB", (1000, 1000)).save(tmp_path / "large.bmp")
    monkeypatch.setattr(module, "_BATCH_BYTES", 8 << 20)
    monkeypatch.setattr(module, "_WAITING_BYTES", 16 << 20)
    embedder = Embedder(toy_model)
    tracemalloc.start()
    embedder.embed_images([tmp_path / "large.bmp"] * 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 3e6 < peak < 80e6


def test_half_precision_comes_as_float32(tmp_path):
    image = save_photograph(tmp_path / "image.png", 3)
    embeddings = Embedder(export_toy(tmp_path / "half", dtype="float16")).embed_images([image]).embeddings
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, one_by_one([image]), atol=1e-3)


def test_the_newest_version_is_taken(tmp_path):
    export_toy(tmp_path, seed=0)
    second = export_toy(tmp_path, seed=1)
    embedder = Embedder(tmp_path)
    assert embedder.path == second
    assert embedder.embed(np.zeros((2, 5, 9, 3), np.uint8)).shape == (2, DIM)


def test_refuses_a_model_without_the_signature(tmp_path):
    model = tf.Module()
    model.double = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec([None])])
    tf.saved_model.save(model, str(tmp_path / "doubles"), signatures={"twice": model.double})
    with pytest.raises(
        ValueError, match=r"doubles lacks the signature 'pixels', it has \['twice'\]: give a SavedModel"
    ):
        Embedder(tmp_path / "doubles")


PARTS = ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]


@pytest.mark.parametrize("part", [*PARTS, "assets.extra/metadata.json"])
def test_no_flipped_bit_of_a_model_passes(toy_model, tmp_path, part):
    file = shutil.copytree(toy_model, tmp_path / "toy") / part
    whole = file.read_bytes()
    for place in np.random.default_rng(0).integers(len(whole), size=20):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            require_intact(tmp_path / "toy")
        except UserError as error:
            assert re.search(
                r"toy is damaged: its graph or its variables|metadata\.json (does|cannot|holds)", str(error)
            )
            continue
        assert part.endswith("metadata.json")
        read, written = read_metadata(tmp_path / "toy"), read_metadata(toy_model)
        assert written.items() <= read.items(), "in the name of the checksum: what it says is right"
    with pytest.raises(UserError, match="toy is damaged: its graph or its variables are not what was exported"):
        file.write_bytes(whole)
        (tmp_path / "toy" / PARTS[2]).write_bytes(b"damage")
        Embedder(tmp_path / "toy")


@pytest.mark.parametrize("part", ["fingerprint.pb", "assets.extra/model_card.md"])
def test_what_is_not_read_may_change(toy_model, tmp_path, part):
    shutil.copytree(toy_model, tmp_path / "toy")
    (tmp_path / "toy" / part).write_bytes(b"mine")
    assert Embedder(tmp_path / "toy").fingerprint == Embedder(toy_model).fingerprint


@pytest.mark.parametrize("part", PARTS[:2])
def test_refuses_a_damaged_model_that_has_no_checksum(toy_model, tmp_path, part):
    shutil.copytree(toy_model, tmp_path / "damaged")
    (tmp_path / "damaged" / "assets.extra" / "metadata.json").write_text(
        '{"embedding_dim": 6}'
    )  # of an earlier version
    assert Embedder(tmp_path / "damaged").decoding == DEFAULT_DECODING
    (tmp_path / "damaged" / part).write_bytes(b"damage")
    with pytest.raises(UserError, match="damaged cannot be loaded as a SavedModel, export it again: "):
        Embedder(tmp_path / "damaged")


def test_refuses_a_network_that_has_diverged(tmp_path):
    images = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    nan = keras.layers.Dense(4, bias_initializer=keras.initializers.Constant(np.nan))(pooled)
    folder = export_saved_model(keras.Model(images, [nan, pooled]), tmp_path, size=8, preprocess=lambda views: views)
    with pytest.raises(ValueError, match="gives embeddings that hold NaN or infinity: the network cannot be used"):
        Embedder(folder).embed(np.zeros((1, 8, 8, 3), np.uint8))


def test_refuses_an_empty_batch(toy_model):
    with pytest.raises(ValueError, match="batch_size is 0, but must be at least 1"):
        Embedder(toy_model, batch_size=0)
