import shutil

import numpy as np
import pytest

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.fingerprint import differences, fingerprint
from stml_tf.data.sources.folder import load_folder


@pytest.fixture
def photographs(tmp_path):
    """Files of two classes to train on and two to test on; their content need not be decoded."""
    for part in ("train", "test"):
        for number in range(8):
            file = tmp_path / "data" / part / f"{part}-{number % 2}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(f"{part} {number}".encode())
    return tmp_path / "data"


def seen(folder):
    return fingerprint(load_folder(folder, train_labels=True))


def test_names_classes_and_contents_are_kept_of_each_set(photographs):
    found = seen(photographs)
    assert list(found) == ["train", "test"]
    assert found["train"]["names"][:2] == ["train-0/0.png", "train-0/2.png"]
    assert found["train"]["classes"] == ["train-0"] * 4 + ["train-1"] * 4
    assert len(set(found["train"]["digests"])) == 8


def test_data_that_were_copied_elsewhere_are_the_same(photographs, tmp_path):
    shutil.copytree(photographs, tmp_path / "a" / "moved")
    assert differences(seen(photographs), seen(tmp_path / "a" / "moved")) == []


def remove(folder):
    (folder / "train-0" / "0.png").unlink()


def add(folder):
    (folder / "train-0" / "new.png").write_bytes(b"new")


def change(folder):
    for number in (0, 2, 4, 6):
        (folder / "train-0" / f"{number}.png").write_bytes(f"TRAIN {number}".encode())


def rename(folder):
    (folder / "train-0" / "0.png").rename(folder / "train-0" / "9.png")


def to_another_class(folder):
    (folder / "train-0" / "0.png").rename(folder / "train-1" / "0.png")


@pytest.mark.parametrize(
    ("happen", "expected"),
    [
        (remove, "1 removed (train-0/0.png)"),
        (add, "1 added (train-0/new.png)"),
        (change, "4 changed (train-0/0.png, train-0/2.png, train-0/4.png and 1 more)"),
        (rename, "1 renamed (train-0/0.png to train-0/9.png)"),
        (to_another_class, "1 renamed (train-0/0.png to train-1/0.png)"),
    ],
)
def test_what_differs_is_named(photographs, happen, expected):
    before = seen(photographs)
    happen(photographs / "train")
    assert differences(before, seen(photographs)) == [f"training images: {expected}"]


def test_each_set_has_its_line(photographs):
    before = seen(photographs)
    remove(photographs / "train")
    shutil.copytree(photographs / "test" / "test-0", photographs / "test" / "again")
    assert differences(before, seen(photographs)) == [
        "training images: 1 removed (train-0/0.png)",
        "test images: 4 added (again/0.png, again/2.png, again/4.png and 1 more)",
    ]


def test_images_in_memory_are_compared_too(random):
    pixels = random.integers(0, 256, (4, 3, 3, 3), np.uint8)

    def of(pixels, labels):
        return fingerprint(Catalog("mine", ImageSet(pixels, np.array(labels), ("cats", "birds")), None))

    other = pixels.copy()
    other[2, 0, 0, 0] ^= 1
    assert differences(of(pixels, [0, 0, 1, 1]), of(pixels.copy(), [0, 0, 1, 1])) == []
    assert differences(of(pixels, [0, 0, 1, 1]), of(other, [0, 1, 1, 1])) == [
        "training images: 1 changed (image 2), 1 of another class (image 1: birds, not cats)"
    ]
    encoded = fingerprint(Catalog("mine", ImageSet([b"a", b"b"]), None))
    assert differences(encoded, fingerprint(Catalog("mine", ImageSet([b"b", b"a"]), None))) != []


def test_the_same_images_in_another_order_are_not_the_same():
    a, b = ({"names": names, "classes": [None] * 2, "digests": names} for names in (["x", "y"], ["y", "x"]))
    assert differences({"test": a}, {"test": b}) == ["test images: the same ones in another order"]


def test_a_file_that_cannot_be_read_is_left_to_whoever_decodes_it(tmp_path):
    assert fingerprint(Catalog("mine", ImageSet([tmp_path / "gone.png"]), None))["train"]["digests"] == [None]
