import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from stml_tf.evaluation.neighbors import nearest_neighbors
from stml_tf.export import Embedder
from stml_tf.search import Gallery, Match, gallery_writer
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
    told = f"{bad}\tit is no JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, HEIC or JPEG 2000 image\n"
    assert (tmp_path / "gallery" / "unreadable.txt").read_text() == told
    assert gallery.add(photographs) == 0, "still bad, which is no reason to fail"
    save_photograph(bad, 3)
    assert gallery.add(photographs) == 1
    assert not (tmp_path / "gallery" / "unreadable.txt").exists()


def test_added_and_removed_is_as_if_built_so(toy_model, photographs, tmp_path, kind):
    gallery = Gallery.build(toy_model, photographs / "a", tmp_path / "gallery", kind=kind)
    assert gallery.add(photographs) == 6
    assert gallery.add([photographs / "b", photographs / "a" / "00.png"]) == 0
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
    held = {opened.manifest.embeddings.name, opened.manifest.paths.name, "gallery.json"}
    assert {path.name for path in (tmp_path / "gallery").iterdir()} - {
        getattr(opened.manifest.index, "name", "")
    } == held


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
    with pytest.raises(ValueError, match=r"gallery was made by another model \(fingerprint .*\) than "):
        Gallery.load(gallery.folder, model=other_model)
    shutil.copytree(toy_model, tmp_path / "moved" / "1")
    moved = Gallery.build(tmp_path / "moved", photographs, tmp_path / "second")
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    assert moved.search([query], k=1)[0][0].path == query, "a model once loaded is not looked for"
    loaded = Gallery.load(tmp_path / "second")
    with pytest.raises(ValueError, match=r"the model that made .*second is no longer in .*moved/1: say where it is"):
        loaded.search([query], k=1)
    assert Gallery.load(tmp_path / "second", model=tmp_path / "elsewhere").search([query], k=1)[0][0].path == query
    # Another model in the old place.
    shutil.copytree(other_model, tmp_path / "moved" / "1")
    with pytest.raises(ValueError, match="was made by another model"):
        Gallery.load(tmp_path / "second").add(save_photograph(tmp_path / "new.png", 50))


@pytest.mark.parametrize("part", ["embeddings", "paths", "index", "gallery.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_gallery_is_refused(tmp_path, part, damage):
    names = [f"/{n}.jpg" for n in range(50)]
    gallery = Gallery.from_embeddings(random_embeddings(50), names, tmp_path / "g", kind="hnsw")
    file = tmp_path / "g" / (part if part == "gallery.json" else getattr(gallery.manifest, part).name)
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(whole[:-10])
    else:
        file.write_bytes(whole[:40] + bytes([whole[40] ^ 4]) + whole[41:])
    message = (
        "is no gallery" if (part, damage) == ("gallery.json", "gone") else f"the gallery is damaged: .*{file.name}"
    )
    with pytest.raises(ValueError, match=message):
        Gallery.load(tmp_path / "g")


def test_a_later_format_is_refused(tmp_path):
    Gallery.from_embeddings(random_embeddings(2), ["/a", "/b"], tmp_path / "g")
    file = tmp_path / "g" / "gallery.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2, "new": 1}))
    with pytest.raises(ValueError, match="is a gallery of format 2, and this version reads 1: install a newer stml-tf"):
        Gallery.load(tmp_path / "g")


@pytest.mark.parametrize("change", ["add", "remove"])
def test_a_change_that_fails_leaves_the_gallery_as_it_was(gallery, photographs, tmp_path, monkeypatch, change):
    before = content(gallery.folder)
    monkeypatch.setattr(gallery_writer.files, "write_manifest", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        gallery.add(save_photograph(tmp_path / "new.png", 50)) if change == "add" else gallery.remove(photographs / "a")
    assert content(gallery.folder) == before
    assert len(gallery.search([photographs / "a" / "00.png"], k=12)[0]) == 12


def test_an_interrupt_once_the_change_is_in_force_does_not_undo_it(gallery, monkeypatch):
    def put_in_force_and_stop(*arguments):
        whole(*arguments)
        raise KeyboardInterrupt

    whole = gallery_writer.files.write_manifest
    monkeypatch.setattr(gallery_writer.files, "write_manifest", put_in_force_and_stop)
    with pytest.raises(KeyboardInterrupt):
        gallery.remove(gallery.paths[0])
    assert len(Gallery.load(gallery.folder)) == 11


def test_a_build_that_fails_leaves_nothing_or_the_old_gallery(tmp_path):
    embeddings = random_embeddings(4)
    bad = embeddings.copy()
    bad[2, 1] = np.nan
    names = ["/a", "/b", "/c", "/d"]
    with pytest.raises(ValueError, match="embeddings hold NaN or infinity, the first in row 2"):
        Gallery.from_embeddings(bad, names, tmp_path / "g")
    assert list(tmp_path.iterdir()) == []
    Gallery.from_embeddings(embeddings, names, tmp_path / "g")
    before = content(tmp_path / "g")
    with pytest.raises(ValueError, match="row 2"):
        Gallery.from_embeddings(bad, names, tmp_path / "g", overwrite=True)
    with pytest.raises(ValueError, match="holds a gallery already: add to it with `stml-tf add`, give another folder"):
        Gallery.from_embeddings(embeddings, names, tmp_path / "g")
    assert content(tmp_path / "g") == before
    Gallery.from_embeddings(embeddings[:3], names[:3], tmp_path / "g", overwrite=True)
    assert len(Gallery.load(tmp_path / "g")) == 3


def test_what_is_no_gallery_is_never_overwritten(toy_model, photographs, tmp_path):
    before = content(photographs)
    with pytest.raises(
        ValueError, match="photographs holds files that are no gallery: give the gallery another folder"
    ):
        Gallery.build(toy_model, photographs, photographs, overwrite=True)
    assert content(photographs) == before
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file: give the gallery another folder"):
        Gallery.build(toy_model, photographs, tmp_path / "file")


def test_refuses_wrong_queries(gallery, photographs, tmp_path):
    query = photographs / "a" / "00.png"
    for k in (0, 13):
        with pytest.raises(ValueError, match=f"k is {k}, but must be from 1 to 12, the number of images in"):
            gallery.search([query], k=k)
        with pytest.raises(ValueError, match=f"k is {k}, but must be from 1 to 12"):
            gallery.search_embeddings(np.ones((1, DIM)), k=k)
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"the query .*text.jpg cannot be read: it is no JPEG, PNG"):
        gallery.search([query, tmp_path / "text.jpg"], k=1)
    with pytest.raises(ValueError, match="the query number 1 cannot be read: it is empty"):
        gallery.search([b""], k=1)
    with pytest.raises(ValueError, match="there is no query: give at least one image"):
        gallery.search([], k=1)
    for wrong in (np.ones((1, 3)), np.ones(DIM), np.full((1, DIM), np.nan)):
        with pytest.raises(
            ValueError, match=rf"queries have the shape .*, but must be finite numbers \[num_queries, {DIM}\]"
        ):
            gallery.search_embeddings(wrong, k=1)


def test_refuses_wrong_changes(gallery, photographs):
    with pytest.raises(ValueError, match=r"holds no image /nowhere\.jpg, and none below it"):
        gallery.remove("/nowhere.jpg")
    with pytest.raises(ValueError, match=r"all 12 images of .* would be removed: delete the folder instead"):
        gallery.remove(photographs)
    with pytest.raises(ValueError, match="there is no /nowhere"):
        gallery.add("/nowhere")
    assert len(Gallery.load(gallery.folder)) == 12


def test_refuses_wrong_embeddings(tmp_path):
    with pytest.raises(ValueError, match=r"embeddings have the shape \(3, 8\) for 2 paths"):
        Gallery.from_embeddings(random_embeddings(3), ["/a", "/b"], tmp_path / "g")
    with pytest.raises(ValueError, match="1 of the 3 paths are there twice: give each once"):
        Gallery.from_embeddings(random_embeddings(3), ["/a", "/b", "/x/../a"], tmp_path / "g")
    with pytest.raises(ValueError, match="kind is 'fast', but must be one of exact, hnsw, ivfpq"):
        Gallery.from_embeddings(random_embeddings(2), ["/a", "/b"], tmp_path / "g", kind="fast")
    gallery = Gallery.from_embeddings(random_embeddings(2), ["/a", "/b"], tmp_path / "g")
    with pytest.raises(ValueError, match="was made from embeddings, without a model: search it with embeddings"):
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
