import sys

import numpy as np
import pytest

from stml_tf.export.embedder import Embedder
from stml_tf.search import embedding_run
from stml_tf.search.embedding_files import check_output, embed_to_file


@pytest.fixture(scope="module")
def embedder(toy_model):
    return Embedder(toy_model)


@pytest.fixture(autouse=True)
def pieces_of_five(monkeypatch):
    monkeypatch.setattr(embedding_run, "PIECE_SIZE", 5)


def read(file):
    if file.suffix == ".npz":
        content = np.load(file)
        return content["paths"].tolist(), content["embeddings"], str(content["model"])
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(file)
    return (
        table["path"].to_pylist(),
        np.array(table["embedding"].to_pylist(), np.float32),
        table.schema.metadata[b"model"].decode(),
    )


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_holds_every_image_that_can_be_read(embedder, photographs, tmp_path, suffix):
    bad = photographs / "a" / "04.png"
    bad.write_bytes(b"no image")
    out = tmp_path / "new" / f"embeddings{suffix}"
    count, unreadable = embed_to_file(embedder, photographs, out)
    paths, embeddings, model = read(out)
    good = sorted(path for path in photographs.rglob("*.png") if path != bad)
    assert (count, paths, model) == (11, [str(path) for path in good], embedder.fingerprint)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, embedder.embed_images(good).embeddings, atol=1e-6)
    assert [image.path for image in unreadable] == [bad]
    told = out.with_name(f"{out.name}.unreadable.txt")
    heading, line = told.read_text().splitlines()
    assert heading == "# Images that stml-tf left out: path, reason"
    assert line == f"{bad}\tit is no JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, HEIC or JPEG 2000 image"
    assert set(out.parent.iterdir()) == {out, told}


def test_replacing_takes_the_old_list_of_bad_images_away(embedder, photographs, tmp_path):
    bad = photographs / "a" / "04.png"
    content = bad.read_bytes()
    bad.write_bytes(b"")
    embed_to_file(embedder, photographs, tmp_path / "e.npz")
    with pytest.raises(ValueError, match=r"e\.npz exists already: give another file, or replace it with --overwrite"):
        embed_to_file(embedder, photographs, tmp_path / "e.npz")
    bad.write_bytes(content)
    assert embed_to_file(embedder, photographs, tmp_path / "e.npz", overwrite=True) == (12, [])
    assert {path.name for path in tmp_path.iterdir()} == {"e.npz", "photographs"}


def test_refuses_other_suffixes_and_folders(tmp_path):
    with pytest.raises(ValueError, match=r"e\.csv has to end in \.npz or \.parquet"):
        check_output(tmp_path / "e.csv")
    (tmp_path / "e.npz").mkdir()
    with pytest.raises(ValueError, match=r"e\.npz is no regular file"):
        check_output(tmp_path / "e.npz", overwrite=True)


def test_names_the_extra_that_parquet_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"needs pyarrow: pip install 'stml-tf\[parquet\]', or write a .npz file"):
        check_output(tmp_path / "e.parquet")
