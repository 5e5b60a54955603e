import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stml_tf.data.image_files import counted, listed
from stml_tf.data.sources.folder import load_folder


@pytest.fixture
def put(tmp_path):
    """Makes files below the data folder, images or not."""

    made = []  # No two images are alike: a test image that is trained on is refused.

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() in {".jpg", ".png"}:
                Image.new("RGB", (4, 4), (len(made) % 256, len(made) // 256, 0)).save(path, "PNG")
                made.append(path)
            else:
                path.write_text("text")

    return make


def names(images, root):
    return [path.relative_to(root).as_posix() for path in images.images]


def test_two_folders(tmp_path, put):
    put("train/b.jpg", "train/deep/er/a.PNG", "train/c.png", "test/shoe/2.jpg", "test/shoe/1.jpg", "test/hat/x/3.jpg")
    catalog = load_folder(tmp_path)
    assert catalog.name == tmp_path.name
    assert names(catalog.train, tmp_path) == ["train/b.jpg", "train/c.png", "train/deep/er/a.PNG"]
    assert catalog.train.labels is None
    assert names(catalog.test, tmp_path) == ["test/hat/x/3.jpg", "test/shoe/1.jpg", "test/shoe/2.jpg"]
    assert catalog.test.labels.tolist() == [0, 1, 1]
    assert catalog.test.class_names == ("hat", "shoe")


def test_without_a_test_folder_there_is_nothing_to_evaluate(tmp_path, put):
    put("photos/a.jpg")
    assert load_folder(tmp_path, train="photos", test=None).test is None


def test_the_data_folder_itself_may_be_the_training_folder(tmp_path, put):
    put("a.jpg", "b/c.jpg")
    assert names(load_folder(tmp_path, train=".", test=None).train, tmp_path) == ["a.jpg", "b/c.jpg"]


def test_training_labels_on_request(tmp_path, put):
    put("train/x/1.jpg", "train/y/1.jpg", "test/y/2.jpg", "test/z/1.jpg")
    catalog = load_folder(tmp_path, train_labels=True)
    assert catalog.train.class_names == ("x", "y")
    assert catalog.train.labels.tolist() == [0, 1]
    assert catalog.test.class_names == ("y", "z")


@pytest.mark.parametrize("train_classes", [0.5, 2])
def test_one_folder_split_by_class(tmp_path, put, train_classes):
    put("d/1.jpg", "c/1.jpg", "b/1.jpg", "a/1.jpg", "a/2.jpg")
    catalog = load_folder(tmp_path, train=".", test=None, train_classes=train_classes)
    assert names(catalog.train, tmp_path) == ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
    assert names(catalog.test, tmp_path) == ["c/1.jpg", "d/1.jpg"]
    assert catalog.train.labels.tolist() == [0, 0, 1]
    assert catalog.test.labels.tolist() == [2, 3]
    assert catalog.train.class_names == catalog.test.class_names == ("a", "b", "c", "d")


def test_hidden_files_other_suffixes_and_empty_folders_are_passed_over(tmp_path, put):
    put("train/.thumbs/1.jpg", "train/.2.jpg", "train/notes.txt", "train/3.jpg")
    put("test/a/1.jpg", "test/b/1.jpg", "test/.git/1.jpg", "test/README", "test/c/notes.txt")
    catalog = load_folder(tmp_path)
    assert names(catalog.train, tmp_path) == ["train/3.jpg"]
    assert catalog.test.class_names == ("a", "b")


def test_links_are_followed_once(tmp_path, put):
    put("elsewhere/1.jpg", "train/2.jpg")
    (tmp_path / "train" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "train" / "loop").symlink_to(tmp_path / "train")
    catalog = load_folder(tmp_path, test=None)
    assert names(catalog.train, tmp_path) == ["train/2.jpg", "train/linked/1.jpg"]


def refused(message, *args, **options):
    with pytest.raises(ValueError, match=message):
        load_folder(*args, **options)


def test_a_missing_data_folder_is_named(tmp_path):
    refused(r"no data folder .*nowhere; .*'train'", tmp_path / "nowhere")


def test_a_missing_folder_is_named_with_what_lies_beside_it(tmp_path, put):
    put("training/1.jpg", "test/a/1.jpg", "test/b/1.jpg")
    refused(rf"no folder {re.escape(str(tmp_path / 'train'))}; .* holds the folders test, training", tmp_path)


def test_a_missing_folder_beside_none(tmp_path):
    refused(r"no folder .*train; .* has no folders", tmp_path, test=None)


def test_a_training_folder_without_images_says_what_is_there(tmp_path, put):
    put("train/a.txt", "train/b/c.txt", "train/d.csv")
    refused(r"no images in .*train: expected JPEG, .* or JPEG 2000 files, found no image: 3$", tmp_path, test=None)


def test_an_empty_training_folder(tmp_path):
    (tmp_path / "train").mkdir()
    refused("no images in .*, found no files at all", tmp_path, test=None)


def test_images_beside_class_folders(tmp_path, put):
    put("train/1.jpg", "test/a/1.jpg", "test/b/1.jpg", "test/stray.jpg")
    refused(r"test holds 1 images outside of any class, such as stray\.jpg; expected one folder a class", tmp_path)


def test_a_flat_folder_has_no_classes(tmp_path, put):
    put("1.jpg", "2.jpg")
    refused("holds 2 images outside of any class", tmp_path, train=".", test=None, train_classes=0.5)


def test_one_class_is_too_few(tmp_path, put):
    put("train/1.jpg", "test/a/1.jpg", "test/b/1.txt")
    refused(r"images of 1 classes \(only a\), and retrieval needs at least two", tmp_path)


def test_no_class_at_all(tmp_path, put):
    put("train/1.jpg", "test/readme.txt")
    refused(r"images of 0 classes, .* found no image: 1$", tmp_path)


def test_test_folder_and_split_exclude_each_other(tmp_path, put):
    put("train/1.jpg")
    refused(r"train_classes is 0\.5 and test is 'test'.*set one of the two to null", tmp_path, train_classes=0.5)


@pytest.mark.parametrize(
    ("train", "test"), [(".", "test"), ("test/a", "test"), ("test", "test"), ("x/../test", "test")]
)
def test_training_on_test_images_is_refused(tmp_path, put, train, test):
    put("test/a/1.jpg", "test/b/1.jpg", "x/1.jpg")
    refused("overlap, so test images would be trained on", tmp_path, train=train, test=test)


def test_a_folder_of_further_images_needs_no_classes(tmp_path, put):
    put("train/a/1.jpg", "train/b/1.jpg", "more/x.jpg", "more/deep/y.png", "test/c/1.jpg", "test/d/1.jpg")
    catalog = load_folder(tmp_path, train_labels=True, unlabeled="more")
    assert names(catalog.unlabeled, tmp_path) == ["more/deep/y.png", "more/x.jpg"]
    assert catalog.unlabeled.labels is None
    assert len(catalog.train) == 2
    assert load_folder(tmp_path).unlabeled is None
    refused("training folder .*test and the test folder .*overlap", tmp_path, train_labels=True, unlabeled="test")
    refused("overlap, so test", tmp_path, test=None, train_classes=1, unlabeled="train/a")
    refused("there is no folder .*missing", tmp_path, unlabeled="missing")


def test_the_data_is_looked_at_before_tensorflow_is_loaded():
    program = (
        "import sys, stml_tf.data.sources.folder, stml_tf.data.sources.glyphs;"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_order_does_not_depend_on_when_files_were_made(tmp_path, put):
    put(*(f"train/{index:03}.jpg" for index in np.random.default_rng(0).permutation(30)))
    listed = names(load_folder(tmp_path, test=None).train, tmp_path)
    assert listed == [f"train/{index:03}.jpg" for index in range(30)]


def test_files_are_known_by_content(tmp_path, put):
    put("train/0.jpg", "train/notes.txt", "train/table.csv")
    picture = Image.new("RGB", (4, 4), (9, 9, 200))
    for name, file_format in {
        "a": "JPEG",
        "b.jfif": "JPEG",
        "c.TIFF": "TIFF",
        "d.scan": "PNG",
        "e.avif": "AVIF",
    }.items():
        picture.save(tmp_path / "train" / name, file_format)
    (tmp_path / "train" / "raw.dng").write_bytes(b"II*\0 and so on")
    (tmp_path / "train" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    catalog = load_folder(tmp_path, test=None)
    assert names(catalog.train, tmp_path / "train") == ["0.jpg", "a", "b.jfif", "c.TIFF", "d.scan", "e.avif"]
    reasons = {left.path.name: left.reason for left in catalog.left_out}
    assert reasons.keys() == {"notes.txt", "table.csv", "raw.dng", "gone.jpg"}
    assert reasons["notes.txt"] == "no image" and reasons["raw.dng"].startswith("camera raw data")
    assert counted(catalog.left_out).startswith("no image: 2, ")


@pytest.mark.parametrize(
    "folder", ["@eaDir/1.jpg", "#recycle", "$RECYCLE.BIN/S-1-5", "__MACOSX", ".thumbnails", "@Recycle", "lost+found"]
)
def test_copies_that_systems_keep_are_no_data(tmp_path, put, folder):
    put("train/a/1.jpg", "train/b/1.jpg", f"train/a/{folder}/copy.jpg", f"train/{folder}/copy.jpg")
    catalog = load_folder(tmp_path, test=None, train_labels=True)
    assert names(catalog.train, tmp_path) == ["train/a/1.jpg", "train/b/1.jpg"]
    assert len(catalog.left_out) == 2


@pytest.mark.parametrize(
    "files",
    [
        ("recipe.json", "checkpoints/1/state.txt"),
        ("recipe.json", "metrics.json"),
        ("gallery.json",),
        ("1/saved_model.pb", "1/assets.extra/x.txt"),
    ],
)
def test_what_this_package_wrote_is_no_data(tmp_path, put, files):
    put("class1/1.jpg", "class2/1.jpg", "out/mine/retrieval.png", "out/mine/1/picture.png")
    put(*(f"out/mine/{file}" for file in files))
    (tmp_path / "out/mine/retrieval.png").unlink() if files[0].startswith("1/") else None
    catalog = load_folder(tmp_path, train=".", test=None, train_classes=0.5)
    assert catalog.train.class_names == ("class1", "class2")
    assert {left.reason for left in catalog.left_out} == {"written by stml-tf"}


def test_a_name_that_is_not_utf8_is_left_out(tmp_path, put):
    put("train/1.jpg")
    (tmp_path / "train" / os.fsdecode(b"caf\xe9.jpg")).write_bytes((tmp_path / "train/1.jpg").read_bytes())
    catalog = load_folder(tmp_path, test=None)
    assert names(catalog.train, tmp_path) == ["train/1.jpg"]
    (line,) = listed(catalog.left_out)
    assert line.endswith("caf\\xe9.jpg\tname that is not UTF-8")
