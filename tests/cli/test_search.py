import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from stml_tf.cli.main import main
from tests.toy_network import export_toy, save_photograph


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Undoes what a command sets, as commands here run in the process of the tests."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export_toy(tmp_path_factory.mktemp("toy")).parent


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Nine images; 8.png is a copy of 1.png, and bad.jpg is none."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(8):
        save_photograph(folder / f"{number}.png", number)
    shutil.copy(folder / "1.png", folder / "8.png")
    (folder / "bad.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def shared_gallery(model, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("galleries") / "gallery"
    assert call("index", model, images, "-o", folder)[0] == 0
    return folder


@pytest.fixture
def gallery(shared_gallery, tmp_path):
    return shutil.copytree(shared_gallery, tmp_path / "gallery")


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def refused(*arguments):
    status, output = call(*arguments)
    assert status == 2
    assert output.startswith("Error: ")
    assert output.count("\n") == 1, "one message"
    return output


def everything_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_embed(model, images, tmp_path):
    out = tmp_path / "embeddings.npz"
    assert call("embed", model, images, "-o", out) == (
        0,
        f"9 images embedded in {out}\n1 image could not be read and left out: listed in {out}.unreadable.txt\n",
    )
    assert np.load(out)["paths"].tolist() == [str(images / f"{number}.png") for number in range(9)]
    assert "embeddings.npz exists already" in refused("embed", model, images, "-o", out)
    listed = tmp_path / "list.txt"
    listed.write_text(f"{images}/3.png\n")
    assert call("embed", model, listed, "-o", out, "--overwrite") == (0, f"1 image embedded in {out}\n")


def test_index_and_search(gallery, images):
    assert len((gallery / "unreadable.txt").read_text().splitlines()) == 1
    status, output = call("search", gallery, images / "1.png", images / "5.png", "-k", 2)
    first, *found, second, itself, _ = output.splitlines()
    assert (status, first, second) == (0, str(images / "1.png"), str(images / "5.png"))
    assert found == [f"  1.0000  {images}/1.png", f"  1.0000  {images}/8.png"]
    assert itself == f"  1.0000  {images}/5.png"


def test_search_finds_ten_or_all(gallery, images):
    assert len(call("search", gallery, images / "1.png")[1].splitlines()) == 1 + 9


def test_search_as_json(gallery, images):
    status, output = call("search", gallery, images / "5.png", "-k", 2, "--json")
    ((result),) = json.loads(output)
    assert (status, result["query"]) == (0, str(images / "5.png"))
    first, second = result["matches"]
    assert first == {
        "path": str(images / "5.png"),
        "distance": pytest.approx(0, abs=1e-3),
        "similarity": pytest.approx(1),
    }
    assert second["similarity"] == pytest.approx(1 - second["distance"] ** 2 / 2)


def test_search_as_a_page(gallery, images, tmp_path):
    page = tmp_path / "pages" / "found.html"
    status, output = call("search", gallery, images / "5.png", "-k", 3, "--html", page)
    assert (status, output.splitlines()[-1]) == (0, f"Page written to {page}")
    assert page.read_text().count("data:image/jpeg;base64,") == 4
    assert f"9 images in the gallery {gallery}." in page.read_text()


def test_add_and_remove(gallery, images, tmp_path):
    status, output = call("remove", gallery, images / "5.png", images / "6.png")
    assert (status, output) == (0, f"2 images removed: 7 images in the gallery {gallery}\n")
    new = save_photograph(tmp_path / "new.png", 77)
    assert call("add", gallery, new) == (0, f"1 image added: 8 images in the gallery {gallery}\n")
    assert call("add", gallery, images)[1].startswith("2 images added: 10 images in the gallery")


def test_approximate_kinds_say_what_they_find(model, images, tmp_path):
    status, output = call("index", model, images, "-o", tmp_path / "g", "--kind", "hnsw")
    assert status == 0
    assert "hnsw finds 100.0 % of the true ten nearest, measured on a sample\n" in output
    assert call("search", tmp_path / "g", images / "5.png", "-k", 1)[1].endswith("5.png\n")


def test_duplicates(gallery, images, tmp_path):
    pair = f"{images}/1.png\n{images}/8.png\n"
    told = "1 group of duplicates: 1 image could go\n"
    assert call("duplicates", gallery, "--threshold", 0.9999) == (0, f"{pair}\n{told}")
    out = tmp_path / "groups.csv"
    assert call("duplicates", gallery, "--threshold", 0.9999, "-o", out) == (0, f"{told}Groups written to {out}\n")
    rows = [["group", "path"], ["0", f"{images}/1.png"], ["0", f"{images}/8.png"]]
    assert list(csv.reader(out.open())) == rows


def test_cluster(gallery, images, tmp_path):
    out = tmp_path / "clusters.csv"
    status, output = call("cluster", gallery, "-o", out, "--clusters", 3)
    rows = list(csv.DictReader(out.open()))
    assert (status, output.startswith("9 images in 3 clusters of ")) == (0, True)
    assert {row["path"] for row in rows} == {str(images / f"{number}.png") for number in range(9)}
    order = [(int(row["cluster"]), float(row["distance"])) for row in rows]
    assert order == sorted(order)
    sizes = [sum(cluster == number for cluster, _ in order) for number in range(3)]
    assert sizes == sorted(sizes, reverse=True)
    call("cluster", gallery, "-o", out)
    assert len(list(csv.DictReader(out.open()))) == 9


def test_what_cannot_be_done_is_one_message_and_leaves_everything_as_it_was(model, images, gallery, tmp_path):
    other = export_toy(tmp_path / "other", seed=1)
    damaged = shutil.copytree(gallery, tmp_path / "damaged")
    with (damaged / "embeddings-1.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    query, new = images / "5.png", tmp_path / "new"
    before = everything_in(tmp_path)
    for arguments, message in [
        (["embed", images, images, "-o", new / "e.npz"], "is no SavedModel"),
        (["embed", model, tmp_path / "none", "-o", new / "e.npz"], "there is no"),
        (["embed", model, images, "-o", new / "e.csv"], "ends in neither .npz nor .parquet"),
        (["embed", model, images / "bad.jpg", "-o", new / "e.npz"], "only 0 of the 1 images can be read"),
        (["index", images, images, "-o", new], "is no SavedModel"),
        (["index", model, images, "-o", gallery], "holds a gallery already"),
        (["index", model, images, "-o", other.parent, "--overwrite"], "holds files that are no gallery"),
        (["search", images, query], "is no gallery: it lacks gallery.json"),
        (["search", damaged, query], "the gallery is damaged"),
        (["search", gallery, query, "-k", 10], "k is 10, but must be from 1 to 9"),
        (["search", gallery, query, "-k", 0], "k is 0, but must be from 1 to 9"),
        (["search", gallery, images / "bad.jpg", "--html", new], "bad.jpg cannot be read: it is no JPEG"),
        (["search", gallery, query, tmp_path / "none.png", "--json"], "none.png cannot be read: No such file"),
        (["search", gallery, query, "--model", other], "was made by another model"),
        (["add", gallery, query, "--model", images], "is no SavedModel"),
        (["add", damaged, query], "the gallery is damaged"),
        (["remove", gallery, tmp_path / "none.png"], "holds no image"),
        (["remove", gallery, images], "would be removed"),
        (["duplicates", gallery, "--threshold", 1.5], "the threshold is 1.5"),
        (["duplicates", damaged, "--threshold", 0.9, "-o", new], "the gallery is damaged"),
        (["cluster", gallery, "-o", new, "--clusters", 10], "10 clusters were asked for, but there can be 1 to 9"),
    ]:
        assert message in refused(*arguments), arguments
        assert everything_in(tmp_path) == before, arguments


@pytest.mark.parametrize("command", ["embed", "index", "add", "remove", "search", "duplicates", "cluster"])
def test_help_is_there_at_once(command):
    code = f"""
import sys
from stml_tf.cli.main import main
try:
    main(["{command}", "--help"])
finally:
    print("loaded:", [name for name in ("tensorflow", "numpy", "rich", "pydantic") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("loaded: []\n")


@pytest.mark.parametrize("command", ["duplicates", "cluster"])
def test_grouping_needs_no_tensorflow(gallery, tmp_path, command):
    options = {"duplicates": ["--threshold", "0.9"], "cluster": ["-o", str(tmp_path / "c.csv"), "--clusters", "2"]}
    code = f"""
import sys
from stml_tf.cli.main import main
try:
    main(["{command}", {str(gallery)!r}, *{options[command]}])
finally:
    print("loaded:", [name for name in ("tensorflow", "keras") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("loaded: []\n"), done.stderr
