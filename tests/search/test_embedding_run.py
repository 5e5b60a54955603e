"""Restarting, with a stand-in for the network that remembers what it was given."""

import os

import numpy as np
import pytest

from stml_tf.data.inspection import Unreadable
from stml_tf.export.embedder import EmbeddedImages
from stml_tf.search import embedding_run as module
from stml_tf.search.embedding_run import embedding_run


class FakeEmbedder:
    """Embeds a file as its length and first byte; a file that starts with ! is bad, one with ? stops the program."""

    def __init__(self, fingerprint="one"):
        self.fingerprint = fingerprint
        self.seen = []

    def embed_images(self, images, *, on_progress):
        rows, indices, unreadable = [], [], []
        for index, image in enumerate(images):
            content = image.read_bytes()
            if content.startswith(b"?"):
                raise KeyboardInterrupt
            self.seen.append(image.name)
            if content.startswith(b"!"):
                unreadable.append(Unreadable(index, image, "it is bad"))
            else:
                rows.append([len(content), content[0]])
                indices.append(index)
            on_progress(index + 1)
        return EmbeddedImages(np.array(rows, np.float32).reshape(-1, 2), np.array(indices, np.int64), unreadable)


@pytest.fixture(autouse=True)
def pieces_of_three(monkeypatch):
    monkeypatch.setattr(module, "PIECE_SIZE", 3)


@pytest.fixture
def images(tmp_path):
    files = [tmp_path / f"{number:02d}" for number in range(10)]
    for number, file in enumerate(files):
        file.write_bytes(b"abc"[number % 3 :][:1] * (number + 1))
    return files


def run(embedder, images, folder, **options):
    with embedding_run(embedder, images, folder, **options) as pieces:
        return np.concatenate(list(pieces)), pieces


def test_pieces_come_in_order_and_the_folder_goes(images, tmp_path):
    progress = []
    embeddings, pieces = run(
        FakeEmbedder(), images, tmp_path / "work", on_progress=lambda done, total: progress.append((done, total))
    )
    np.testing.assert_array_equal(embeddings, [[n + 1, b"abc"[n % 3]] for n in range(10)])
    assert (pieces.paths, pieces.dim, pieces.unreadable) == (images, 2, [])
    assert progress == [(done, 10) for done in range(11)]
    assert not (tmp_path / "work").exists()


def test_bad_images_are_left_out_also_a_whole_piece(images, tmp_path):
    for bad in (1, 3, 4, 5):
        images[bad].write_bytes(b"!")
    embeddings, pieces = run(FakeEmbedder(), images, tmp_path / "work")
    kept = [0, 2, 6, 7, 8, 9]
    np.testing.assert_array_equal(embeddings[:, 0], np.array(kept) + 1)
    assert pieces.paths == [images[n] for n in kept]
    assert pieces.unreadable == [Unreadable(n, images[n], "it is bad") for n in (1, 3, 4, 5)]


def test_an_interrupted_run_goes_on_where_it_was(images, tmp_path):
    content = images[7].read_bytes()
    images[7].write_bytes(b"?")
    first = FakeEmbedder()
    with pytest.raises(KeyboardInterrupt):
        run(first, images, tmp_path / "work")
    images[7].write_bytes(content)
    second, progress = FakeEmbedder(), []
    embeddings, _ = run(second, images, tmp_path / "work", on_progress=lambda done, total: progress.append(done))
    assert second.seen == ["06", "07", "08", "09"]
    assert progress == [6, 7, 8, 9, 10]
    np.testing.assert_array_equal(embeddings[:, 0], np.arange(10) + 1)


def interrupt_after_embedding(images, folder):
    with pytest.raises(KeyboardInterrupt), embedding_run(FakeEmbedder(), images, folder):
        raise KeyboardInterrupt


def test_a_changed_image_is_embedded_anew(images, tmp_path):
    interrupt_after_embedding(images, tmp_path / "work")
    images[4].write_bytes(b"longer than before")
    os.utime(images[9], ns=(0, 0))
    embedder = FakeEmbedder()
    embeddings, _ = run(embedder, images, tmp_path / "work")
    assert embedder.seen == ["03", "04", "05", "09"]
    assert embeddings[4, 0] == 18


def test_another_model_starts_anew(images, tmp_path):
    interrupt_after_embedding(images, tmp_path / "work")
    embedder = FakeEmbedder("two")
    run(embedder, images, tmp_path / "work")
    assert len(embedder.seen) == 10


def test_a_damaged_piece_is_made_anew(images, tmp_path):
    interrupt_after_embedding(images, tmp_path / "work")
    files = sorted((tmp_path / "work").iterdir())
    files[0].write_bytes(b"")
    content = bytearray(files[2].read_bytes())
    content[content.index(b"NUMPY") + 127] ^= 1  # Behind the header: the first embedding.
    files[2].write_bytes(bytes(content))
    embedder = FakeEmbedder()
    embeddings, _ = run(embedder, images, tmp_path / "work")
    assert embedder.seen == ["00", "01", "02", "06", "07", "08"]
    np.testing.assert_array_equal(embeddings[:, 0], np.arange(10) + 1)


def test_nothing_readable_is_refused_and_leaves_nothing(images, tmp_path):
    for image in images:
        image.write_bytes(b"!")
    with pytest.raises(ValueError, match=r"only 0 of the 10 images can be read. The first that cannot: .*00: it is ba"):
        run(FakeEmbedder(), images, tmp_path / "work")
    assert not (tmp_path / "work").exists()
    with embedding_run(FakeEmbedder(), images, tmp_path / "work", least=0) as pieces:
        assert (list(pieces), pieces.paths, len(pieces.unreadable)) == ([], [], 10)
