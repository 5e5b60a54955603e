import json
import multiprocessing
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.evaluation.neighbors import nearest_neighbors
from stml_tf.export import Embedder
from stml_tf.search import Gallery, Match, store
from stml_tf.search.gallery import Changes
from tests.disk import at_most, flipped_bits
from tests.toy_network import DIM, export_toy, save_photograph

KINDS = ["exact", "hnsw", "ivfpq"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def gallery(toy_model, photographs, tmp_path):
    return Gallery.build(toy_model, photographs, tmp_path / "gallery")


def random_embeddings(count, dim=8, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def generations(folder):
    return len(list(folder.glob("generation-*")))


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_search_finds_what_the_embeddings_say(toy_model, photographs, tmp_path, kind):
    built = Gallery.build(toy_model, photographs, tmp_path / "gallery", kind=kind)
    queries = [save_photograph(tmp_path / f"{seed}.png", seed) for seed in (100, 101)]
    images = sorted(photographs.rglob("*.png"))
    embedder = Embedder(toy_model)
    embeddings, asked = (embedder.embed_images(files).embeddings for files in (images, queries))
    distances, indices = nearest_neighbors(asked, embeddings, k=5)
    for gallery in (built, Gallery.load(tmp_path / "gallery")):
        assert len(gallery) == 12
        assert gallery.manifest.normalized
        for matches, row_distances, row in zip(gallery.search(queries, k=5), distances, indices, strict=True):
            assert [match.path for match in matches] == [images[index] for index in row]
            np.testing.assert_allclose([match.distance for match in matches], row_distances, atol=1e-5)
            np.testing.assert_allclose([match.similarity for match in matches], 1 - row_distances**2 / 2, atol=1e-5)
    assert {path.name for path in tmp_path.iterdir()} >= {"gallery"}
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_an_image_finds_itself_also_as_bytes(gallery, photographs):
    image = photographs / "a" / "04.png"
    ((first,),) = gallery.search([image.read_bytes()], k=1)
    assert first == Match(image, pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-5))


def test_raw_embeddings_have_no_cosine(photographs, tmp_path):
    model = export_toy(tmp_path / "raw", normalize=False)
    gallery = Gallery.build(model, photographs, tmp_path / "gallery")
    assert not gallery.manifest.normalized
    assert gallery.search([photographs / "a" / "04.png"], k=2)[0][1].similarity is None


def test_bad_images_are_left_out_and_listed(toy_model, photographs, tmp_path):
    bad = photographs / "b" / "03.png"
    bad.write_bytes(b"no image")
    gallery = Gallery.build(toy_model, photographs, tmp_path / "gallery")
    assert len(gallery) == 11
    assert [image.path for image in gallery.unreadable] == [bad]
    reason = "it is no JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, HEIC or JPEG 2000 image"
    told = f"# Images that stml-tf left out: path, reason\n{bad}\t{reason}\n"
    assert (tmp_path / "gallery" / "unreadable.txt").read_text() == told
    assert gallery.add(photographs) == Changes(), "still bad, which is no reason to fail"
    save_photograph(bad, 3)
    assert gallery.add(photographs) == Changes(added=1)
    assert not (tmp_path / "gallery" / "unreadable.txt").exists()


def test_added_and_removed_is_as_if_built_so(toy_model, photographs, tmp_path, kind):
    gallery = Gallery.build(toy_model, photographs / "a", tmp_path / "gallery", kind=kind)
    assert gallery.add(photographs) == Changes(added=6)
    assert gallery.add([photographs / "b", photographs / "a" / "00.png"]) == Changes()
    (photographs / "a" / "02.png").unlink()
    assert gallery.remove(photographs / "a" / "02.png") == 1
    images = [*sorted((photographs / "a").iterdir()), *sorted((photographs / "b").iterdir())]
    expected = Embedder(toy_model).embed_images(images).embeddings
    for opened in (gallery, Gallery.load(tmp_path / "gallery")):
        assert opened.paths == [str(path) for path in images]
        np.testing.assert_allclose(opened.embeddings, expected, atol=1e-6)
        found = opened.search_embeddings(expected, k=3)
        np.testing.assert_allclose(found[0], nearest_neighbors(expected, k=3)[0], atol=1e-5)
    assert opened.remove([photographs / "b", photographs / "a" / "00.png"]) == 7
    assert len(Gallery.load(tmp_path / "gallery")) == 4
    assert len(gallery) == 11, "which has the generation open that it had"
    gallery.reload()
    opened.remove(photographs / "a" / "04.png")
    assert generations(tmp_path / "gallery") == 2, "one that is in force, and one that is open"
    gallery.reload()
    opened.remove(photographs / "a" / "06.png")
    assert generations(tmp_path / "gallery") == 2, "the others are gone"


def test_a_folder_does_not_stand_for_its_namesakes(tmp_path):
    names = ["/x/cat/1.jpg", "/x/cats/1.jpg", "/x/cat.jpg"]
    gallery = Gallery.from_embeddings(random_embeddings(3), names, tmp_path / "g")
    assert gallery.remove("/x/cat/") == 1
    assert gallery.paths == names[1:]


def test_from_embeddings(tmp_path, kind, toy_model):
    embeddings = random_embeddings(300)
    names = [f"/images/{n}.jpg" for n in range(300)]
    gallery = Gallery.from_embeddings(embeddings, names, tmp_path / "g", kind=kind, model=toy_model)
    np.testing.assert_array_equal(gallery.embeddings, embeddings)
    assert gallery.paths == names
    assert gallery.manifest.model.fingerprint == Embedder(toy_model).fingerprint
    assert (gallery.manifest.approximation is None) == (kind == "exact")
    distances, indices = gallery.search_embeddings(embeddings[:5], k=4)
    np.testing.assert_array_equal(indices[:, 0], np.arange(5))
    true, _ = nearest_neighbors(embeddings[:5], embeddings, k=4)
    assert (distances <= true + 1e-6).mean() >= (1 if kind == "exact" else 0.8)


def test_names_that_are_not_unicode_come_back(tmp_path):
    names = ["/x/\udcff.jpg", "/x/é\n.jpg"]
    Gallery.from_embeddings(random_embeddings(2), names, tmp_path / "g")
    assert Gallery.load(tmp_path / "g").paths == names


def test_the_model_may_move_but_not_change(gallery, toy_model, other_model, photographs, tmp_path):
    query = photographs / "a" / "04.png"
    with pytest.raises(UserError, match=r"gallery was made by another model \(fingerprint .*\) than "):
        Gallery.load(gallery.folder, model=other_model)
    shutil.copytree(toy_model, tmp_path / "moved" / "1")
    moved = Gallery.build(tmp_path / "moved", photographs, tmp_path / "second")
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    assert moved.search([query], k=1)[0][0].path == query, "a model once loaded is not looked for"
    loaded = Gallery.load(tmp_path / "second")
    with pytest.raises(UserError, match=r"the model that made .*second is no longer in .*moved/1: say where it is"):
        loaded.search([query], k=1)
    # The gallery's model is found among versions, and remembered.
    shutil.copytree(other_model, tmp_path / "elsewhere" / "2")
    assert Gallery.load(tmp_path / "second", model=tmp_path / "elsewhere").search([query], k=1)[0][0].path == query
    assert Gallery.load(tmp_path / "second").manifest.model.path == str(tmp_path / "elsewhere" / "1")
    assert Gallery.load(tmp_path / "second").search([query], k=1)[0][0].path == query
    # Another model in its place.
    shutil.rmtree(tmp_path / "elsewhere" / "1")
    shutil.copytree(other_model, tmp_path / "elsewhere" / "1")
    with pytest.raises(UserError, match="was made by another model"):
        Gallery.load(tmp_path / "second").add(save_photograph(tmp_path / "new.png", 50))
    with pytest.raises(UserError, match=r"than .*elsewhere/2 \(.*\) and the 1 other versions beside it"):
        Gallery.load(tmp_path / "second", model=tmp_path / "elsewhere")


def part_of(folder, name):
    return folder / "gallery.json" if name == "gallery.json" else next(folder.glob(f"generation-*/{name}"))


PARTS = ["embeddings.npy", "paths.json", "facts.npy", "equal.npy", "index.faiss", "gallery.json"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_gallery_is_refused(tmp_path, part, damage):
    names = [f"/{n}.jpg" for n in range(50)]
    Gallery.from_embeddings(random_embeddings(50), names, tmp_path / "g", kind="hnsw")
    file = part_of(tmp_path / "g", part)
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(whole[:-10])
    else:
        file.write_bytes(whole[:140] + bytes([whole[140] ^ 4]) + whole[141:])
    message = (
        "is no gallery yet, or no longer: it lacks gallery.json"
        if (part, damage) == ("gallery.json", "gone")
        else f"the gallery is damaged: .*{file.name}"
    )
    with pytest.raises(UserError, match=message):
        Gallery.load(tmp_path / "g").check()
    if damage == "flip" and part in ("embeddings.npy", "index.faiss"):
        opened = Gallery.load(tmp_path / "g")  # These are too large to be read whenever the gallery is opened.
        with pytest.raises(UserError, match=message):
            opened.search_embeddings(np.ones((1, 8))) if part == "index.faiss" else opened.remove("/3.jpg")
    else:
        with pytest.raises(UserError, match=message):
            Gallery.load(tmp_path / "g")
    Gallery.from_embeddings(random_embeddings(50), names, tmp_path / "g", kind="hnsw", overwrite=True).check()


@pytest.mark.parametrize("part", PARTS)
def test_no_flipped_bit_passes(tmp_path, part):
    names = ["/a", "/b", "/c", "/d"]
    gallery = Gallery.from_embeddings(random_embeddings(4, dim=2), names, tmp_path / "g", kind="hnsw")
    manifest, file = gallery.manifest, part_of(tmp_path / "g", part)
    for _ in flipped_bits(file):
        try:
            opened = Gallery.load(tmp_path / "g")
            opened.check()
        except UserError:
            continue
        assert (opened.manifest, opened.paths) == (manifest, names), "a change of blanks alone"


def test_another_format_is_refused(tmp_path):
    Gallery.from_embeddings(random_embeddings(2), ["/a", "/b"], tmp_path / "g")
    file = tmp_path / "g" / "gallery.json"
    files.write_json(file, files.read_json(file) | {"format": 3, "new": 1})
    with pytest.raises(UserError, match="is a gallery of format 3, and this version reads 2: install a newer stml-tf"):
        Gallery.load(tmp_path / "g")


def test_a_gallery_of_the_first_format_is_named_and_replaced_if_told(tmp_path):
    folder = tmp_path / "g"
    folder.mkdir()
    old = {"format": 1, "embeddings": {"name": "embeddings-7.npy"}, "paths": {"name": "paths-7.json"}, "index": None}
    (folder / "gallery.json").write_text(json.dumps(old))
    for name in ("embeddings-7.npy", "paths-7.json", "embeddings-mine.npy"):
        (folder / name).touch()
    with pytest.raises(UserError, match="is a gallery of format 1, which an earlier version wrote: make it anew with"):
        Gallery.load(folder)
    Gallery.from_embeddings(random_embeddings(2), ["/a", "/b"], folder, overwrite=True)
    assert {path.name for path in folder.glob("*.*")} - {"gallery.lock"} == {"gallery.json", "embeddings-mine.npy"}


@pytest.mark.parametrize("change", ["add", "remove"])
def test_a_change_that_fails_leaves_the_gallery_as_it_was(gallery, photographs, tmp_path, monkeypatch, change):
    before = content(gallery.folder)
    monkeypatch.setattr(store, "write_manifest", lambda *_: (_ for _ in ()).throw(OSError("no way")))
    with pytest.raises(OSError, match="no way"):
        gallery.add(save_photograph(tmp_path / "new.png", 50)) if change == "add" else gallery.remove(photographs / "a")
    assert content(gallery.folder).items() >= before.items()
    assert len(gallery.search([photographs / "a" / "00.png"], k=12)[0]) == 12
    monkeypatch.undo()
    gallery.remove(gallery.paths[0])
    assert generations(gallery.folder) == 1, "what was left of it is gone"


def test_an_interrupt_once_the_change_is_in_force_does_not_undo_it(gallery, monkeypatch):
    def put_in_force_and_stop(*arguments):
        whole(*arguments)
        raise KeyboardInterrupt

    whole = store.write_manifest
    monkeypatch.setattr(store, "write_manifest", put_in_force_and_stop)
    with pytest.raises(KeyboardInterrupt):
        gallery.remove(gallery.paths[0])
    assert len(Gallery.load(gallery.folder)) == 11


def test_two_handles_see_each_others_changes_when_they_change_and_answer_from_their_own_until_then(tmp_path, kind):
    names, embeddings = [f"/{n}" for n in range(300)], random_embeddings(300)
    a = Gallery.from_embeddings(embeddings, names, tmp_path / "g", kind=kind)
    b = Gallery.load(tmp_path / "g")
    assert a.remove("/0") == 1
    assert (len(a), len(b)) == (299, 300)
    assert b.match_embeddings(embeddings[:1], k=1)[0][0].path == Path("/0"), "not reloaded yet"
    assert b.remove("/5") == 1
    assert b.paths == [name for name in names if name not in ("/0", "/5")]
    assert a.match_embeddings(embeddings[5:6], k=1)[0][0].path == Path("/5")
    a.reload()
    assert a.paths == b.paths
    with pytest.raises(UserError, match="holds no image /0"):
        b.remove("/0")


def test_a_handle_answers_right_from_a_gallery_that_was_made_anew(tmp_path, kind):
    old, new = random_embeddings(300), random_embeddings(500, seed=1)
    Gallery.from_embeddings(old, [f"/old/{n}" for n in range(300)], tmp_path / "g", kind=kind)
    server = Gallery.load(tmp_path / "g")
    Gallery.from_embeddings(new, [f"/new/{n}" for n in range(500)], tmp_path / "g", kind=kind, overwrite=True)
    Gallery.load(tmp_path / "g").remove("/new/3")
    found = [matches[0].path for matches in server.match_embeddings(old[:100], k=1)]
    assert np.mean([path == Path(f"/old/{n}") for n, path in enumerate(found)]) > 0.95
    server.reload()
    assert server.match_embeddings(new[7:8], k=1)[0][0].path == Path("/new/7")


def test_no_answer_bears_a_wrong_name_while_another_thread_removes(tmp_path):
    names, embeddings = [f"/{n}" for n in range(400)], random_embeddings(400)
    gallery = Gallery.from_embeddings(embeddings, names, tmp_path / "g")
    stop, wrong = threading.Event(), []

    def search():
        while not stop.is_set():
            for row, matches in zip((399, 200), gallery.match_embeddings(embeddings[[399, 200]], k=1), strict=True):
                if matches[0].path != Path(f"/{row}"):
                    wrong.append(matches[0])

    thread = threading.Thread(target=search)
    thread.start()
    for number in range(40):
        gallery.remove(f"/{number}")
    stop.set()
    thread.join()
    assert not wrong


def remove_one_after_another(folder, numbers):
    gallery = Gallery.load(folder)
    for number in numbers:
        gallery.remove(f"/{number}")


def test_it_opens_at_every_moment_while_others_change_it_and_no_change_is_lost(tmp_path):
    Gallery.from_embeddings(random_embeddings(200), [f"/{n}" for n in range(200)], tmp_path / "g")
    fork = multiprocessing.get_context("fork")
    writers = [
        fork.Process(target=remove_one_after_another, args=(tmp_path / "g", range(start, 120, 2))) for start in (0, 1)
    ]
    for writer in writers:
        writer.start()
    opened = 0
    while any(writer.is_alive() for writer in writers):
        gallery = Gallery.load(tmp_path / "g")
        assert gallery.search_embeddings(random_embeddings(1), k=3)[1].shape == (1, 3)
        opened += 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert opened > 10
    assert Gallery.load(tmp_path / "g").paths == [f"/{n}" for n in range(120, 200)]


def test_foreign_files_in_the_folder_stay_and_an_empty_folder_is_kept(tmp_path, monkeypatch):
    folder = tmp_path / "volume"
    (folder / "lost+found").mkdir(parents=True)
    inode = folder.stat().st_ino
    # As the root of a volume, it cannot be renamed, deleted or replaced.
    monkeypatch.chdir(folder)
    Gallery.from_embeddings(random_embeddings(2), ["/a", "/b"], folder)
    theirs = {"clusters.csv": "path", "photo.jpg": "photo", "generation-mine/embeddings.npy": "mine"}
    own = next(folder.glob("generation-*"))
    for name, text in {**theirs, f"{own.name}/notes.txt": "notes"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    Gallery.from_embeddings(random_embeddings(3), ["/a", "/b", "/c"], folder, overwrite=True)
    Gallery.load(folder).remove("/a")
    assert folder.stat().st_ino == inode
    assert {name: (folder / name).read_text() for name in theirs} == theirs
    assert [path.name for path in own.iterdir()] == ["notes.txt"]


def test_a_full_disk_leaves_the_old_gallery_or_nothing(toy_model, photographs, tmp_path):
    for folder in (tmp_path / "new", tmp_path / "old"):
        if folder.name == "old":
            Gallery.from_embeddings(random_embeddings(3), ["/a", "/b", "/c"], folder)
        before = sorted(tmp_path.rglob("*"))
        for images in (photographs, [photographs / "a"]):
            with at_most(1000), pytest.raises(OSError, match="File too large"):
                Gallery.build(toy_model, images, folder, overwrite=True)
            assert sorted(tmp_path.rglob("*")) == before
        with at_most(2000), pytest.raises(OSError, match="File too large"):
            Gallery.from_embeddings(random_embeddings(100), [f"/{n}" for n in range(100)], folder, overwrite=True)
        assert sorted(tmp_path.rglob("*")) == before
    assert len(Gallery.load(tmp_path / "old")) == 3


def test_an_empty_or_interrupted_build_may_go_on(toy_model, photographs, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Gallery.build(toy_model, photographs, tmp_path / "g")
    monkeypatch.undo()
    with pytest.raises(UserError, match="is no gallery"):
        Gallery.load(tmp_path / "g")
    assert len(Gallery.build(toy_model, photographs, tmp_path / "g", overwrite=True)) == 12
    assert generations(tmp_path / "g") == 1
    assert not (tmp_path / "g" / store.PIECES).exists()


def test_a_build_that_fails_leaves_nothing_or_the_old_gallery(tmp_path):
    embeddings = random_embeddings(4)
    bad = embeddings.copy()
    bad[2, 1] = np.nan
    names = ["/a", "/b", "/c", "/d"]
    with pytest.raises(UserError, match="embeddings hold NaN or infinity, the first in row 2"):
        Gallery.from_embeddings(bad, names, tmp_path / "g")
    assert list(tmp_path.iterdir()) == []
    Gallery.from_embeddings(embeddings, names, tmp_path / "g")
    before = content(tmp_path / "g")
    with pytest.raises(UserError, match="row 2"):
        Gallery.from_embeddings(bad, names, tmp_path / "g", overwrite=True)
    with pytest.raises(UserError, match="holds a gallery already: bring it up to date with `stml-tf update`, give an"):
        Gallery.from_embeddings(embeddings, names, tmp_path / "g")
    assert content(tmp_path / "g") == before
    Gallery.from_embeddings(embeddings[:3], names[:3], tmp_path / "g", overwrite=True)
    assert len(Gallery.load(tmp_path / "g")) == 3


def test_what_is_no_gallery_is_never_overwritten(toy_model, photographs, tmp_path):
    before = content(photographs)
    with pytest.raises(UserError, match="photographs holds files that are no gallery: give the gallery another folder"):
        Gallery.build(toy_model, photographs, photographs, overwrite=True)
    assert content(photographs) == before
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file: give the gallery another folder"):
        Gallery.build(toy_model, photographs, tmp_path / "file")


def test_refuses_wrong_queries(gallery, photographs, tmp_path):
    query = photographs / "a" / "00.png"
    with pytest.raises(UserError, match="k is 0, but must be at least 1"):
        gallery.search([query], k=0)
    with pytest.raises(UserError, match="k is 0, but must be at least 1"):
        gallery.search_embeddings(np.ones((1, DIM)), k=0)
    assert len(gallery.search([query], k=13)[0]) == 12
    assert gallery.search_embeddings(np.ones((1, DIM)), k=13)[1].shape == (1, 12)
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"the query .*text.jpg cannot be read: it is no JPEG, PNG"):
        gallery.search([query, tmp_path / "text.jpg"], k=1)
    with pytest.raises(UserError, match="the query number 1 cannot be read: it is empty"):
        gallery.search([b""], k=1)
    with pytest.raises(UserError, match="there is no query: give at least one image"):
        gallery.search([], k=1)
    for wrong in (np.ones((1, 3)), np.ones(DIM), np.full((1, DIM), np.nan)):
        with pytest.raises(
            UserError, match=rf"queries have the shape .*, but must be finite numbers \[num_queries, {DIM}\]"
        ):
            gallery.search_embeddings(wrong, k=1)


def test_refuses_wrong_changes(gallery, photographs):
    with pytest.raises(UserError, match=r"holds no image /nowhere\.jpg, and none below it"):
        gallery.remove("/nowhere.jpg")
    with pytest.raises(UserError, match=r"all 12 images of .* would be removed: delete the folder instead"):
        gallery.remove(photographs)
    with pytest.raises(UserError, match="there is no /nowhere"):
        gallery.add("/nowhere")
    assert len(Gallery.load(gallery.folder)) == 12


def test_refuses_wrong_embeddings(tmp_path):
    with pytest.raises(UserError, match=r"embeddings have the shape \(3, 8\) for 2 paths"):
        Gallery.from_embeddings(random_embeddings(3), ["/a", "/b"], tmp_path / "g")
    with pytest.raises(UserError, match="1 of the 3 paths are there twice: give each once"):
        Gallery.from_embeddings(random_embeddings(3), ["/a", "/b", "/x/../a"], tmp_path / "g")
    with pytest.raises(UserError, match="kind is 'fast', but must be one of exact, hnsw, ivfpq"):
        Gallery.from_embeddings(random_embeddings(2), ["/a", "/b"], tmp_path / "g", kind="fast")
    gallery = Gallery.from_embeddings(random_embeddings(2), ["/a", "/b"], tmp_path / "g")
    with pytest.raises(UserError, match="was made from embeddings, without a model: search it with embeddings"):
        gallery.search([b"x"], k=1)


def test_needs_no_tensorflow_until_an_image_comes(tmp_path):
    Gallery.from_embeddings(random_embeddings(9), [f"/{n}.jpg" for n in range(9)], tmp_path / "g")
    code = f"""
import sys
from stml_tf.search import Gallery
gallery = Gallery.load({str(tmp_path / "g")!r})
gallery.search_embeddings(gallery.embeddings[:2], k=3)
gallery.remove("/3.jpg")
print([name for name in ("tensorflow", "keras", "sklearn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout == "[]\n", done.stderr
