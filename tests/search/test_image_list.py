import pytest

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
    ("name", "content", "message"),
    [
        ("nowhere", None, "there is no .*nowhere: name a folder of images, a file that lists their paths, or an image"),
        ("empty.txt", b"\n \n", "empty.txt lists no images: it has to hold one path a line"),
        ("model.bin", b"\xff\xfe\x00", "model.bin is neither a folder, an image .* nor a text file"),
    ],
)
def test_refuses(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list_images(tmp_path / name)


def test_refuses_nothing_and_a_folder_without_images(tmp_path):
    with pytest.raises(ValueError, match="no images were given"):
        list_images([])
    with pytest.raises(ValueError, match=r"no images in .*expected .*JPEG.*found no files at all"):
        list_images(tmp_path)
