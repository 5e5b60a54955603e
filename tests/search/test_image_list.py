import os

import pytest

from stml_tf.errors import UserError
from stml_tf.search.image_list import list_images


@pytest.fixture
def folder(tmp_path):
    for name in ("photos/b/2.jpg", "photos/a/1.PNG", "photos/3.jpeg", "photos/notes.txt", "photos/.hidden.jpg"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\xff\x00")
    return tmp_path


def names(folder, images):
    return [str(path.relative_to(folder)) for path in images]


def test_a_folder_stands_for_the_images_at_any_depth(folder):
    found = list_images(folder / "photos")
    assert names(folder, found) == ["photos/3.jpeg", "photos/a/1.PNG", "photos/b/2.jpg"]


def test_a_list_is_relative_to_itself_and_may_name_what_is_missing(folder, monkeypatch):
    monkeypatch.chdir("/")
    listed = folder / "list.txt"
    listed.write_text(f"photos/b/2.jpg\n\n  \nphotos/é.png\nphotos/a/../3.jpeg\n{folder}/elsewhere.jpg\n")
    assert names(folder, list_images(listed)) == ["photos/b/2.jpg", "photos/é.png", "photos/3.jpeg", "elsewhere.jpg"]


def test_several_sources_are_joined_and_each_image_is_there_once(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = list_images(["photos/b/2.jpg", folder / "photos", "photos/b"])
    assert names(folder, found) == ["photos/b/2.jpg", "photos/3.jpeg", "photos/a/1.PNG"]


def test_a_link_keeps_its_name(folder):
    (folder / "linked.jpg").symlink_to(folder / "photos" / "3.jpeg")
    assert names(folder, list_images(folder / "linked.jpg")) == ["linked.jpg"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bom.txt", "\ufeffphotos/3.jpeg\nphotos/b/2.jpg"),
        ("quoted.txt", "\"photos/3.jpeg\"\n'photos/b/2.jpg'\n"),
        ("comments.txt", "# mine\n\nphotos/3.jpeg\n   # more\nphotos/b/2.jpg"),
        ("blanks.txt", "photos/3.jpeg  \r\n\tphotos/b/2.jpg\r\n\r\n"),
        ("labels.csv", "path,label\nphotos/3.jpeg,cat\nphotos/b/2.jpg,dog\n"),
        ("other.csv", '\ufeff"label","image"\r\n"a, b","photos/3.jpeg"\r\n"c","photos/b/2.jpg"\r\n'),
        ("semicolons.txt", "n;File\n1;photos/3.jpeg\n2;photos/b/2.jpg\n"),
    ],
)
def test_lists_as_people_have_them(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8", newline="")
    assert names(folder, list_images(folder / name)) == ["photos/3.jpeg", "photos/b/2.jpg"]


def test_a_name_is_taken_as_it_stands_where_there_is_such_a_file(folder):
    awkward = [" lead.jpg", "trail .jpg ", "#hash.jpg", '"quoted".jpg', "a,b.jpg", "line\u2028sep.jpg"]
    for name in awkward:
        (folder / name).touch()
    (folder / "list.txt").write_text("\n".join(awkward), encoding="utf-8")
    assert names(folder, list_images(folder / "list.txt")) == awkward


def test_a_list_of_nothing_that_is_there_is_told_what_a_list_is(folder):
    (folder / "list.txt").write_text("a.jpg;1\nb.jpg;2\n")
    with pytest.raises(UserError, match=r"none of the 2 paths that .*list.txt lists is there, such as .*a.jpg;1. A l"):
        list_images(folder / "list.txt")


def test_the_names_of_one_file_are_one_image_and_one_that_is_no_link_is_taken(folder):
    (folder / "best").mkdir()
    (folder / "best" / "link.jpg").symlink_to(folder / "photos" / "3.jpeg")
    os.link(folder / "photos" / "b" / "2.jpg", folder / "best" / "hard.jpg")
    (folder / "best" / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "again").symlink_to(folder / "photos")
    found = list_images([folder / "best", folder / "again", folder / "photos"])
    assert names(folder, found) == ["best/hard.jpg", "photos/3.jpeg", "photos/a/1.PNG"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere", None, "there is no .*nowhere: name a folder of images, a file that lists their paths, or an image"),
        ("empty.txt", b"\n \n", "empty.txt lists no images. A list is UTF-8 text with one path a line"),
        ("model.bin", b"\xff\xfe\x00", "model.bin is neither a folder, an image .* nor a text file"),
    ],
)
def test_refuses(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        list_images(tmp_path / name)


def test_refuses_nothing_and_a_folder_without_images(tmp_path):
    with pytest.raises(UserError, match="no images were given"):
        list_images([])
    with pytest.raises(ValueError, match=r"no images in .*expected .*JPEG.*found no files at all"):
        list_images(tmp_path)
