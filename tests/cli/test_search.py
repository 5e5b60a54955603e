import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from stml_tf.cli.main import main
from stml_tf.cli.terminal import visible
from tests.toy_network import export_toy, save_photograph


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
    status, output, told = run(*arguments)
    return status, output + told


def run(*arguments):
    """Exit status, standard output, standard error."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


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
    assert f"{out} exists already" in refused("embed", model, images, "-o", out)
    listed = tmp_path / "list.txt"
    listed.write_text(f"{images}/3.png\n")
    assert call("embed", model, listed, "-o", out, "--overwrite") == (0, f"1 image embedded in {out}\n")


def test_index_and_search(gallery, images):
    assert len((gallery / "unreadable.txt").read_text().splitlines()) == 2
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
    assert call("add", gallery, new) == (0, f"1 added: 8 images in the gallery {gallery}\n")
    assert call("add", gallery, images)[1].startswith("2 added: 10 images in the gallery")


def test_a_pattern_of_the_shell_names_several_images(model, images, tmp_path):
    gallery, three = tmp_path / "g", [images / f"{number}.png" for number in range(3)]
    assert call("index", model, *three, "-o", gallery) == (0, f"3 images in the gallery {gallery}\n")
    assert call("add", gallery, images / "3.png", images / "4.png")[1].startswith("2 added: 5 images")
    assert call("update", gallery, images / "5.png", images / "6.png")[1].startswith("2 added: 7 images")
    out = tmp_path / "e.npz"
    assert call("embed", model, *three, "-o", out) == (0, f"3 images embedded in {out}\n")


def test_approximate_kinds_say_what_they_find(model, images, tmp_path):
    status, output = call("index", model, images, "-o", tmp_path / "g", "--kind", "hnsw")
    assert status == 0
    assert "hnsw finds 100.0 % of the true ten nearest of distinct images, measured on a sample\n" in output
    assert call("search", tmp_path / "g", images / "5.png", "-k", 1)[1].endswith("5.png\n")


def test_duplicates(gallery, images, tmp_path):
    pair = f"keep       {images}/1.png\nidentical  {images}/8.png\n\n"
    told = (
        "1 group of duplicates at the threshold 0.9999: 1 image could go, 1 of them identical to the one that stays\n"
    )
    assert run("duplicates", gallery, "--threshold", 0.9999) == (0, pair, told)
    out, page = tmp_path / "groups.csv", tmp_path / "groups.html"
    done = run("duplicates", gallery, "--threshold", 0.9999, "-o", out, "--html", page)
    assert done == (0, "", f"{told}Groups written to {out}\nPage written to {page}\n")
    size = (images / "1.png").stat().st_size
    assert list(csv.DictReader(out.open())) == [
        {
            "group": "0",
            "path": str(images / name),
            "keep": keep,
            "similarity": "1.0000",
            "identical": identical,
            "bytes": str(size),
        }
        for name, keep, identical in (("1.png", "yes", "no"), ("8.png", "no", "yes"))
    ]
    assert page.read_text().count("data:image/jpeg;base64,") == 2
    status, output, _ = run("duplicates", gallery, "--threshold", 0.9999, "--json")
    other = {"path": f"{images}/8.png", "similarity": 1.0, "identical": True}
    groups = [{"keep": f"{images}/1.png", "others": [other]}]
    assert (status, json.loads(output)) == (0, {"threshold": 0.9999, "proposed": False, "groups": groups})


def test_duplicates_proposes_a_threshold_and_shows_where_from(gallery):
    status, output, told = run("duplicates", gallery, "--json")
    assert (status, json.loads(output)["proposed"]) == (0, True)
    assert "Threshold 0.9990, proposed as the nearest different image is 0." in told


def test_duplicates_of_what_has_all_changed_or_gone_says_so_and_finds_none(model, tmp_path):
    photos = tmp_path / "photos"
    for name in ("a.png", "b.png"):
        save_photograph(photos / name, 1)
    call("index", model, photos, "-o", tmp_path / "g")
    for gone, text in (("a.png", "1 image gone"), ("b.png", "2 images gone")):
        (photos / gone).unlink()
        status, output, told = run("duplicates", tmp_path / "g")
        assert (status, output) == (0, "")
        assert f"{text}, and left out" in told
        assert "0 groups of duplicates" in told
        assert "proposed" not in told


def test_a_group_that_swallows_the_gallery_is_called_a_wrong_threshold(gallery):
    told = run("duplicates", gallery, "--threshold", 0.01)[2]
    assert "One group holds" in told
    assert "that is a wrong threshold, not a finding" in told


def test_what_is_kept_is_the_largest_then_the_oldest(model, tmp_path):
    photos = tmp_path / "photos"
    first = save_photograph(photos / "a.png", 1)
    for name in ("b.png", "c.png", "large.png"):
        shutil.copy(first, photos / name)
    with (photos / "large.png").open("ab") as file:
        file.write(b"more")
    for name, age in (("a.png", 30), ("b.png", 10), ("c.png", 20), ("large.png", 40)):
        os.utime(photos / name, (age, age))
    call("index", model, photos, "-o", tmp_path / "g")
    (group,) = json.loads(run("duplicates", tmp_path / "g", "--threshold", 0.999, "--json")[1])["groups"]
    assert group["keep"] == str(photos / "large.png")
    assert not any(other["identical"] for other in group["others"])
    call("remove", tmp_path / "g", photos / "large.png")
    (group,) = json.loads(run("duplicates", tmp_path / "g", "--threshold", 0.999, "--json")[1])["groups"]
    assert group["keep"] == str(photos / "b.png")
    assert all(other["identical"] for other in group["others"])


def test_what_changed_or_went_is_said_and_is_no_duplicate(model, tmp_path):
    photos = tmp_path / "photos"
    for name in ("a.png", "b.png", "c.png"):
        save_photograph(photos / name, 1)
    save_photograph(photos / "d.png", 2)
    gallery = tmp_path / "g"
    call("index", model, photos, "-o", gallery)
    save_photograph(photos / "a.png", 5)
    (photos / "b.png").unlink()
    said = "Since they were embedded: 1 image changed, 1 image gone"
    status, output, told = run("duplicates", gallery, "--threshold", 0.999)
    assert (status, output) == (0, "")
    assert f"{said}, and left out. Bring it up to date: stml-tf update {gallery}" in told
    assert said in run("search", gallery, photos / "c.png")[2]
    assert said in run("cluster", gallery)[2]
    assert said in run("check", gallery)[1] + run("check", gallery)[2]
    assert run("add", gallery, photos)[1] == f"0 added, 1 changed: 4 images in the gallery {gallery}\n"
    (photos / "d.png").rename(photos / "moved.png")
    save_photograph(photos / "new.png", 9)
    done = run("update", gallery)
    assert done == (0, f"1 added, 1 moved, 1 dropped: 4 images in the gallery {gallery}\n", "")
    assert run("search", gallery, photos / "moved.png", "-k", 1)[1].endswith("moved.png\n")
    assert run("update", gallery) == (0, f"0 added: 4 images in the gallery {gallery}\n", "")
    assert run("check", gallery) == (0, f"{gallery} is whole: 4 images, exact\n", "")


def test_links_are_no_duplicates(model, tmp_path):
    photos = tmp_path / "photos"
    for seed, name in enumerate(("a.png", "b.png")):
        save_photograph(photos / "originals" / name, seed)
    (photos / "best").mkdir()
    (photos / "best" / "a.png").symlink_to("../originals/a.png")
    os.link(photos / "originals" / "b.png", photos / "best" / "b.png")
    assert call("index", model, photos, "-o", tmp_path / "g")[1].startswith("2 images in the gallery")
    assert call("add", tmp_path / "g", photos / "best" / "a.png")[1].startswith("0 added")
    assert run("duplicates", tmp_path / "g", "--threshold", 0.999)[1] == ""


def test_cluster(gallery, images, tmp_path):
    out = tmp_path / "clusters.csv"
    status, output, told = run("cluster", gallery, "-o", out, "--clusters", 3)
    rows = list(csv.DictReader(out.open()))
    assert (status, output, told.startswith("9 images in 3 clusters of ")) == (0, "", True)
    assert {row["path"] for row in rows} == {str(images / f"{number}.png") for number in range(9)}
    order = [(int(row["cluster"]), float(row["distance"])) for row in rows]
    assert order == sorted(order)
    sizes = [sum(cluster == number for cluster, _ in order) for number in range(3)]
    assert sizes == sorted(sizes, reverse=True)
    page = tmp_path / "c.html"
    assert run("cluster", gallery, "-o", out, "--overwrite", "--html", page)[0] == 0
    assert len(list(csv.DictReader(out.open()))) == 9
    assert page.read_text().count("data:image/jpeg;base64,") == 9
    assert len(json.loads(run("cluster", gallery, "--json")[1])) == 9
    assert run("cluster", gallery, "--clusters", 1)[1].startswith("cluster 0: 9 images\n  0.")


def test_a_photograph_never_becomes_a_table(gallery, model, images, tmp_path):
    photo = save_photograph(tmp_path / "c.jpg", 1)
    named = {suffix: tmp_path / f"photo{suffix}" for suffix in (".csv", ".html", ".npz")}
    for file in named.values():
        shutil.copy(photo, file)
    before = everything_in(tmp_path)
    for options in ([], ["--overwrite"]):
        for arguments in (
            ["cluster", gallery, "-o", photo],
            ["cluster", gallery, "-o", named[".csv"]],
            ["duplicates", gallery, "--threshold", 0.9, "-o", named[".csv"]],
            ["search", gallery, images / "1.png", "--html", named[".html"]],
            ["embed", model, images, "-o", named[".npz"]],
        ):
            refused(*arguments, *options)
    assert everything_in(tmp_path) == before


def test_folders_named_partial_are_the_users(model, images, tmp_path):
    for name in ("dl.partial", "e.npz.partial"):
        shutil.copytree(images, tmp_path / name)
    before = everything_in(tmp_path)
    assert call("index", model, tmp_path / "dl.partial", "-o", tmp_path / "dl")[0] == 0
    assert call("embed", model, tmp_path / "e.npz.partial", "-o", tmp_path / "e.npz")[0] == 0
    assert before.items() <= everything_in(tmp_path).items()


def test_a_bad_query_is_reported_and_the_others_are_answered(gallery, images, tmp_path):
    status, output, told = run("search", gallery, images, tmp_path / "none.png", "-k", 1)
    assert (status, output.count("  1.0000  ")) == (1, 9)
    assert f"The query {images}/bad.jpg cannot be read: it is no JPEG" in told
    assert "none.png cannot be read" in told
    status, output, _ = run("search", gallery, images / "bad.jpg", images / "5.png", "--json")
    answered, bad = json.loads(output)
    assert (status, answered["query"], bad["query"]) == (1, str(images / "5.png"), str(images / "bad.jpg"))
    assert bad["error"].startswith("it is no JPEG")


def test_k_beyond_the_gallery_gives_all(gallery, images):
    assert len(run("search", gallery, images / "5.png", "-k", 99)[1].splitlines()) == 1 + 9


def test_names_do_not_act_upon_the_terminal(model, tmp_path):
    photos = tmp_path / "photos"
    names = ["esc\x1b[31mred.png", "new\nline.png", "\x9bred.png"]
    for name in names:
        save_photograph(photos / name, 1)
    (photos / "bad\x1b[0m.jpg").write_bytes(b"x")
    call("index", model, photos, "-o", tmp_path / "g")
    for arguments in (
        ["search", tmp_path / "g", photos],
        ["duplicates", tmp_path / "g", "--threshold", 0.9],
        ["cluster", tmp_path / "g"],
        ["remove", tmp_path / "g", "none\x1b[31m"],
    ):
        output = call(*arguments)[1]
        assert not set(output) & {"\x1b", "\x9b", "\r"}, arguments
    assert "esc\\x1b[31mred.png" in call("cluster", tmp_path / "g")[1]
    assert "new\\x0aline.png" in call("cluster", tmp_path / "g")[1]
    assert visible(os.fsdecode(b"raw\xff")) == "raw\\xff"


def test_a_closed_pipe_ends_quietly(gallery):
    code = "from stml_tf.cli.main import main; main()"
    command = f"{sys.executable} -c '{code}' cluster {gallery} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=600)
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_volume_may_be_a_gallery_and_a_full_one_is_one_message(model, images, tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", volume], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        assert call("index", model, images, "-o", volume)[0] == 0
        (volume / "clusters.csv").write_text("mine")
        assert call("index", model, images, "-o", volume, "--overwrite")[0] == 0
        assert len(json.loads(run("search", volume, images / "1.png", "--json")[1])[0]["matches"]) == 9
        before = everything_in(volume)
        (volume / "big").write_bytes(bytes(230_000))
        status, output = call("embed", model, images, "-o", volume / "sub" / "e.npz")
        assert status == 0, output
        with (volume / "big").open("ab") as file, contextlib.suppress(OSError):
            file.write(bytes(300_000))
        for arguments in (
            ["index", model, images, "-o", volume / "new"],
            ["index", model, images, "-o", volume, "--overwrite"],
            ["embed", model, images, "-o", volume / "new.npz"],
            ["remove", volume, images / "1.png"],
            ["cluster", volume, "-o", volume / "c.csv"],
        ):
            status, output = call(*arguments)
            assert (status, "The disk is full" in output, output.count("\n")) == (1, True, 1), (arguments, output)
        assert (volume / "clusters.csv").read_text() == "mine"
        assert before.items() <= everything_in(volume).items()
        assert {path.name for path in volume.iterdir()} - {path.relative_to(volume).parts[0] for path in before} == {
            "big",
            "sub",
        }
    finally:
        subprocess.run(["umount", "-l", volume], check=True)


def test_what_cannot_be_done_is_one_message_and_leaves_everything_as_it_was(model, images, gallery, tmp_path):
    other = export_toy(tmp_path / "other", seed=1)
    damaged = shutil.copytree(gallery, tmp_path / "damaged")
    (next(damaged.glob("generation-*")) / "paths.json").write_text("[]")
    query, new = images / "5.png", tmp_path / "new"
    before = everything_in(tmp_path)
    for arguments, message in [
        (["embed", images, images, "-o", new / "e.npz"], "is no SavedModel"),
        (["embed", model, tmp_path / "none", "-o", new / "e.npz"], "there is no"),
        (["embed", model, images, "-o", new / "e.csv"], "has to end in .npz or .parquet"),
        (["embed", model, images / "bad.jpg", "-o", new / "e.npz"], "only 0 of the 1 images can be read"),
        (["index", images, images, "-o", new], "is no SavedModel"),
        (["index", model, images, "-o", gallery], "holds a gallery already"),
        (["index", model, images, "-o", other.parent, "--overwrite"], "holds files that are no gallery"),
        (["search", images, query], "is no gallery: it lacks gallery.json"),
        (["search", damaged, query], "the gallery is damaged"),
        (["search", gallery, query, "-k", 0], "k is 0, but must be at least 1"),
        (["search", gallery, images / "bad.jpg", "--html", new / "p.html"], "bad.jpg cannot be read: it is no JPEG"),
        (["search", gallery, tmp_path / "none.png", "--json"], "none.png is no file"),
        (["search", gallery, query, "--html", new], "has to end in .html or .htm"),
        (["update", gallery, tmp_path / "none"], "there is no"),
        (["check", gallery, "--no-steps"], "--no-steps goes with a recipe or a folder of images, not with a gallery"),
        (["check", damaged], "the gallery is damaged"),
        (["search", gallery, query, "--model", other], "was made by another model"),
        (["add", gallery, query, "--model", images], "is no SavedModel"),
        (["add", damaged, query], "the gallery is damaged"),
        (["remove", gallery, tmp_path / "none.png"], "holds no image"),
        (["remove", gallery, images], "would be removed"),
        (["duplicates", gallery, "--threshold", 1.5], "the threshold is 1.5"),
        (["duplicates", damaged, "--threshold", 0.9, "-o", new / "d.csv"], "the gallery is damaged"),
        (
            ["cluster", gallery, "-o", new / "c.csv", "--clusters", 10],
            "10 clusters were asked for, but there can be 1 to 9",
        ),
    ]:
        assert message in refused(*arguments), arguments
        assert everything_in(tmp_path) == before, arguments


@pytest.mark.parametrize(
    "command", ["embed", "index", "add", "update", "remove", "check", "search", "duplicates", "cluster"]
)
def test_help_is_there_at_once(command):
    code = f"""
import sys
from stml_tf.cli.main import main
try:
    main(["{command}", "--help"])
finally:
    print("loaded:", [name for name in ("tensorflow", "numpy", "rich", "pydantic") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.endswith("loaded: []\n"), done.stderr
