import os
import shutil

import numpy as np
import pytest
from PIL import Image

from stml_tf import registry
from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.formats.rule import Decoding
from stml_tf.data.image_files import Leak, listed
from stml_tf.data.leaks import LeaksError, find_leaks
from stml_tf.data.sources.by_name import open_catalog
from stml_tf.registry import Source


@pytest.fixture
def put(tmp_path):
    """Makes different images of one size below the data folder."""
    made = []

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (len(made), 0, 0)).save(path, "BMP")
            made.append(path)

    return make


def open_folder(tmp_path, **options):
    return open_catalog("folder", data_dir=tmp_path, **options)


@pytest.mark.parametrize("how", ["link", "hard link", "copy"])
def test_a_test_image_that_is_trained_on_is_refused(tmp_path, put, how):
    put("train/a/1.bmp", "train/b/2.bmp", "test/a/3.bmp", "test/b/4.bmp")
    source, target = tmp_path / "train/b/2.bmp", tmp_path / "test/b/another name.png"
    match how:
        case "link":
            target.symlink_to(source)
        case "hard link":
            os.link(source, target)
        case "copy":
            shutil.copy(source, target)
    with pytest.raises(
        LeaksError, match=r"^1 of 3 test images are training images too, .*allow_leaks to true:"
    ) as error:
        open_folder(tmp_path)
    assert str(error.value).endswith(f":\n  {target}: same as {source}")
    allowed = open_folder(tmp_path, allow_leaks=True)
    assert (len(allowed.test), allowed.leaks) == (3, (Leak(target, source),))


def test_a_class_split_may_leak_too(tmp_path, put):
    put("a/1.bmp", "b/2.bmp")
    shutil.copy(tmp_path / "a/1.bmp", tmp_path / "b/3.bmp")
    with pytest.raises(LeaksError, match="1 of 2 test images are training images too"):
        open_folder(tmp_path, train=".", test=None, train_classes=0.5)


def test_unlabelled_images_are_trained_on_too(tmp_path, put):
    put("train/a/1.bmp", "train/b/2.bmp", "test/c/1.bmp", "test/d/1.bmp", "more/0.bmp")
    shutil.copy(tmp_path / "test/c/1.bmp", tmp_path / "more/1.bmp")
    with pytest.raises(LeaksError, match="1 of 2 test images are training images too"):
        open_folder(tmp_path, train_labels=True, unlabeled="more")


def test_long_lists_are_cut_in_the_message_alone(tmp_path, put):
    put(*(f"train/{kind}/{number}.bmp" for kind in "ab" for number in range(4)))
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    with pytest.raises(LeaksError, match=r"(?s)^8 of 8 test images .*\n  and 3 more$") as caught:
        open_folder(tmp_path)
    assert len(list(listed(caught.value.images))) == 8 and not caught.value.names_all


PIXELS = np.arange(6 * 4 * 4 * 3, dtype=np.uint16).astype(np.uint8).reshape(6, 4, 4, 3)


def images(kind, indices, tmp_path):
    if kind == "pixels":
        return ImageSet(PIXELS[list(indices)])
    if kind == "encoded":
        return ImageSet([bytes(5000) + PIXELS[index].tobytes() for index in indices])
    if kind == "lists of pixels":
        return ImageSet([PIXELS[index] for index in indices])
    return ImageSet([tmp_path / f"{index}.bmp" for index in indices])


@pytest.mark.parametrize("kind", ["pixels", "lists of pixels", "encoded", "files"])
@pytest.mark.parametrize(("part", "leaking"), [("test", (5, 1)), ("gallery", (5, 1)), ("unlabeled", (0, 4))])
def test_whatever_the_images_are_and_whoever_lists_them(tmp_path, put, kind, part, leaking):
    put(*(f"{index}.bmp" for index in range(6)))
    sets = {"train": (0, 1), "unlabeled": (2,), "test": (3, 4), "gallery": ()}

    def catalog(**changed):
        return Catalog("mine", **{name: images(kind, found, tmp_path) for name, found in {**sets, **changed}.items()})

    assert find_leaks(catalog()) == ()
    mine = catalog(**{part: leaking})
    (leak,) = find_leaks(mine)
    of_test = 4 if part == "unlabeled" else 1  # which of all images it is; its place in its set is 1
    assert leak.path.stem == (str(of_test) if kind == "files" else "image 1")
    with registry.sources.holding(Source("given", lambda: mine, origin="a test")):
        with pytest.raises(LeaksError, match=r"1 of \d test images are training images too"):
            open_catalog("given")
        assert open_catalog("given", allow_leaks=True).leaks == (leak,)


def test_a_file_and_its_bytes_are_the_same_image(tmp_path, put):
    put("0.bmp", "1.bmp")
    content = (tmp_path / "1.bmp").read_bytes()
    leaks = find_leaks(Catalog("mine", ImageSet(sorted(tmp_path.iterdir())), ImageSet([b"another", content])))
    assert [(leak.path.name, leak.original.name) for leak in leaks] == [("image 1", "1.bmp")]


def test_images_that_differ_in_their_first_byte_alone_are_not_the_same():
    content = bytes(10_000)
    assert find_leaks(Catalog("mine", ImageSet([b"1" + content]), ImageSet([b"2" + content]))) == ()


def test_empty_and_absent_files_are_passed_over(tmp_path):
    (tmp_path / "empty.png").touch()
    files = ImageSet([tmp_path / "empty.png", tmp_path / "absent.png"])
    assert find_leaks(Catalog("mine", files, files)) == ()


def test_without_test_images_nothing_leaks():
    assert find_leaks(Catalog("mine", ImageSet(PIXELS), None)) == ()


def test_a_data_set_and_a_recipe_that_decode_differently_are_refused():
    mine = Catalog("mine", ImageSet(PIXELS, decoding=Decoding(bit_depth=10)), None)
    with registry.sources.holding(Source("given", lambda: mine, origin="a test")):
        with pytest.raises(ValueError, match=r"mine decodes its images with .*bit_depth=10.*set data\.background and"):
            open_catalog("given")
        assert open_catalog("given", bit_depth=10).train.decoding == Decoding(bit_depth=10)
