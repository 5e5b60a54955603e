"""What `update` does, on galleries of real files."""

import os
from pathlib import Path

import numpy as np
import pytest

from stml_tf.errors import UserError
from stml_tf.export import Embedder
from stml_tf.search import Gallery
from stml_tf.search.gallery import Changes
from tests.toy_network import save_photograph


@pytest.fixture
def gallery(toy_model, photographs, tmp_path):
    return Gallery.build(toy_model, photographs, tmp_path / "gallery")


def assert_up_to_date(gallery, toy_model, images):
    """Every image is there once, under its path, with the embedding and the facts of what it is now."""
    opened = Gallery.load(gallery.folder)
    assert sorted(opened.paths) == sorted(map(str, images))
    expected = Embedder(toy_model).embed_images([*map(type(images[0]), opened.paths)]).embeddings
    np.testing.assert_allclose(opened.embeddings, expected, atol=1e-6)
    assert len(opened.stale()) == 0
    opened.check()


def test_everything_at_once(gallery, toy_model, photographs):
    a, b = photographs / "a", photographs / "b"
    save_photograph(a / "00.png", 50)  # changed
    (a / "02.png").rename(b / "moved.png")  # moved
    (a / "04.png").unlink()  # gone
    save_photograph(a / "new.png", 51)  # new
    os.utime(a / "06.png", (1, 1))  # touched
    swapped = a / "08.png", b / "01.png"  # each now holds what the other held
    for source, target in ((swapped[0], a / "tmp"), (swapped[1], swapped[0]), (a / "tmp", swapped[1])):
        source.rename(target)
    assert gallery.update() == Changes(added=1, changed=3, moved=1, dropped=1)
    images = sorted(photographs.rglob("*.png"))
    assert_up_to_date(gallery, toy_model, images)
    assert gallery.update() == Changes()


def test_a_folder_that_moved_is_followed_without_embedding_anything(gallery, toy_model, photographs, tmp_path):
    photographs.rename(tmp_path / "pictures")
    with pytest.raises(UserError, match=r"photographs, which .*gallery was made from, is gone: is its disk there"):
        gallery.update()
    gallery._model.load = None  # Whatever is embedded fails.
    assert gallery.update(tmp_path / "pictures") == Changes(moved=12)
    assert_up_to_date(gallery, toy_model, sorted((tmp_path / "pictures").rglob("*.png")))
    assert gallery.manifest.sources == [str(tmp_path / "pictures")]
    assert gallery.update() == Changes()


def test_add_follows_and_embeds_again_but_drops_nothing(gallery, toy_model, photographs):
    a, b = photographs / "a", photographs / "b"
    (a / "00.png").rename(b / "moved.png")
    save_photograph(b / "01.png", 50)
    (a / "02.png").unlink()
    assert gallery.add(b) == Changes(changed=1, moved=1)
    assert len(gallery) == 12
    assert str(a / "02.png") in gallery.paths
    stale = gallery.stale()
    assert [gallery.paths[row] for row in stale.missing] == [str(a / "02.png")]
    assert gallery.update() == Changes(dropped=1)


def test_what_was_removed_stays_out_until_it_is_added(gallery, photographs):
    image = photographs / "a" / "00.png"
    gallery.remove(image)
    assert gallery.update() == Changes()
    assert str(image) not in gallery.paths
    assert gallery.add(image) == Changes(added=1)
    assert gallery.update() == Changes()
    assert str(image) in gallery.paths


def test_copies_of_one_picture_are_each_followed_once(gallery, toy_model, photographs):
    a = photographs / "a"
    for name in ("x.png", "y.png"):
        (a / name).write_bytes((a / "00.png").read_bytes())
    assert gallery.update() == Changes(added=2)
    (a / "x.png").rename(a / "u.png")
    (a / "y.png").rename(a / "v.png")
    assert gallery.update() == Changes(moved=2)
    assert_up_to_date(gallery, toy_model, sorted(photographs.rglob("*.png")))


def test_an_image_that_became_unreadable_is_left_out_and_listed(gallery, photographs):
    (photographs / "a" / "00.png").write_bytes(b"no image any more")
    assert gallery.update() == Changes()
    assert [image.path for image in gallery.unreadable] == [photographs / "a" / "00.png"]
    assert len(gallery) == 11


def test_a_gallery_is_not_emptied(gallery, photographs):
    for image in photographs.rglob("*.png"):
        image.write_bytes(b"no image any more")
    with pytest.raises(UserError, match=r"none of the images of .*gallery can be read any more"):
        gallery.update()
    for image in photographs.rglob("*.png"):
        image.unlink()
    with pytest.raises(UserError, match=r"photographs, which .*gallery was made from, is empty: is its disk there"):
        gallery.update()
    assert len(Gallery.load(gallery.folder)) == 12


def test_a_source_that_was_emptied_is_left_behind_once_it_is_said_what_is_left(toy_model, photographs, tmp_path):
    a, b = photographs / "a", photographs / "b"
    gallery = Gallery.build(toy_model, [a, b], tmp_path / "gallery")
    for image in b.iterdir():
        image.unlink()
    with pytest.raises(UserError, match=r"photographs/b, which .* was made from, is empty: is its disk there"):
        gallery.update()
    assert gallery.update(a) == Changes(dropped=6)
    assert gallery.update() == Changes()
    assert gallery.manifest.sources == [str(a)]


def test_an_image_is_removed_under_any_of_its_names(gallery, photographs, tmp_path):
    (tmp_path / "linked").symlink_to(photographs)
    (tmp_path / "soft.png").symlink_to(photographs / "a" / "00.png")
    os.link(photographs / "a" / "02.png", tmp_path / "hard.png")
    assert gallery.remove([tmp_path / "soft.png", tmp_path / "hard.png", tmp_path / "linked" / "b"]) == 8
    assert [Path(path).name for path in gallery.paths] == ["04.png", "06.png", "08.png", "10.png"]
    with pytest.raises(UserError, match=r"holds no image .*soft\.png, and none below it"):
        gallery.remove(tmp_path / "soft.png")


def test_paths_of_which_nothing_is_known_are_left_alone(tmp_path, toy_model, photographs):
    embeddings = np.eye(6, dtype=np.float32)[:2]
    gallery = Gallery.from_embeddings(embeddings, ["/nowhere/1.jpg", "/nowhere/2.jpg"], tmp_path / "g", model=toy_model)
    assert len(gallery.stale()) == 0
    assert gallery.update() == Changes()
    assert gallery.update(photographs / "a") == Changes(added=6)
    assert len(gallery) == 8
