from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stml_tf.data.catalog import Catalog, ImageSet, join, pool, split_classes


def labelled(labels, num_classes):
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    return ImageSet(images, np.asarray(labels, np.int64), tuple(f"class {index}" for index in range(num_classes)))


def test_take_picks_files_and_labels_in_the_given_order():
    images = ImageSet([Path("a"), Path("b"), Path("c")], np.array([0, 1, 1]), ("x", "y"))
    taken = images.take([2, 0, 2])
    assert list(taken.images) == [Path("c"), Path("a"), Path("c")]
    assert taken.labels.tolist() == [1, 0, 1]
    assert taken.class_names == ("x", "y")
    assert len(taken) == 3


def test_take_picks_arrays():
    images = labelled([0, 1, 0], 2)
    taken = images.take(np.array([2, 1]))
    np.testing.assert_array_equal(taken.images[:, 0, 0, 0], [2, 1])
    assert taken.images.shape == (2, 2, 2, 3)


def test_take_of_unlabelled_images_stays_unlabelled():
    assert ImageSet([Path("a"), Path("b")]).take([1]).labels is None


def test_take_keeps_one_channel_shown_as_three():
    grey = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2, 1)
    images = ImageSet(np.broadcast_to(grey, (5, 2, 2, 3)))
    taken = images.take([4, 1])
    np.testing.assert_array_equal(taken.images, np.repeat(grey[[4, 1]], 3, axis=-1))
    assert taken.images.strides[-1] == 0


def test_describe_names_the_file_or_the_position():
    assert ImageSet([Path("shoes/a.jpg")]).describe(0) == str(Path("shoes/a.jpg"))
    assert labelled([0] * 20, 1).describe(17) == "image 17"


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), None, r"float32 \[2, 4, 4, 3\].*uint8"),
        (np.zeros((2, 4, 4), np.uint8), None, r"uint8 \[2, 4, 4\]"),
        ([Path("a")], np.array([0, 0]), r"int64 \[2\] for 1 images"),
        ([Path("a")], np.array([0], np.int32), "int32"),
        ([Path("a")], np.array([2]), "from 2 to 2, but there are 2 class names"),
        ([Path("a")], np.array([-1]), "from -1 to -1"),
    ],
)
def test_what_does_not_fit_together_is_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        ImageSet(images, labels, ("x", "y"))


def test_the_test_set_is_the_queries_then_the_gallery():
    train, queries, gallery = labelled([0], 1), labelled([1, 2], 3), labelled([2, 1, 1], 3)
    images, num_queries = Catalog("mine", train, queries, gallery).test_set()
    assert (images.labels.tolist(), num_queries) == ([1, 2, 2, 1, 1], 2)
    assert Catalog("mine", train, queries).test_set() == (queries, None)
    assert Catalog("mine", train, None).test_set() == (None, None)


def test_the_first_images_of_each_set():
    few = Catalog("mine", labelled([0, 1, 1], 2), labelled([1], 2), None).few(2)
    assert (few.name, few.train.labels.tolist(), few.test.labels.tolist(), few.gallery) == ("mine", [0, 1], [1], None)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_split_parts_images_by_class(data):
    num_classes = data.draw(st.integers(2, 9))
    labels = data.draw(st.lists(st.integers(0, num_classes - 1), max_size=30))
    count = data.draw(st.integers(1, num_classes - 1))
    images = labelled(labels, num_classes)
    train, test = split_classes(images, count)
    assert train.images[:, 0, 0, 0].tolist() == [index for index, label in enumerate(labels) if label < count]
    assert test.images[:, 0, 0, 0].tolist() == [index for index, label in enumerate(labels) if label >= count]
    assert train.labels.tolist() == [label for label in labels if label < count]
    assert test.labels.tolist() == [label for label in labels if label >= count]
    assert train.class_names == test.class_names == images.class_names


@pytest.mark.parametrize(("share", "num_classes", "trained"), [(0.5, 4, 2), (0.5, 81, 41), (0.25, 4, 1), (0.9, 6, 5)])
def test_a_share_is_rounded_to_whole_classes(share, num_classes, trained):
    train, test = split_classes(labelled(range(num_classes), num_classes), share)
    assert (len(train), len(test)) == (trained, num_classes - trained)


@pytest.mark.parametrize("train_classes", [0, 4, -1, 0.0, 1.0, 1.5, float("nan"), True])
def test_a_split_that_leaves_one_side_empty_is_refused(train_classes):
    with pytest.raises(ValueError, match="share between 0 and 1, or a count between 1 and 3 of the 4 classes"):
        split_classes(labelled(range(4), 4), train_classes)


def test_a_share_of_less_than_half_a_class_is_refused():
    with pytest.raises(ValueError, match=r"0\.1, which is 0 of 4 classes"):
        split_classes(labelled(range(4), 4), 0.1)


def test_images_without_labels_cannot_be_split():
    with pytest.raises(ValueError, match="have no labels; give one folder a class"):
        split_classes(ImageSet([Path("a")]), 0.5)


def test_joined_sets_follow_each_other():
    files = ImageSet([Path("a"), Path("b")], np.array([0, 1]), ("x", "y"))
    both = join(files, files.take([1]))
    assert list(both.images) == [Path("a"), Path("b"), Path("b")]
    assert both.labels.tolist() == [0, 1, 1]
    arrays = labelled([0, 1], 2)
    assert join(arrays, arrays).images.shape == (4, 2, 2, 3)
    assert len(join(ImageSet([b"1"]), ImageSet([b"2"]))) == 2


@pytest.mark.parametrize("other", [labelled([0], 3), ImageSet([Path("a")], None, ("class 0", "class 1"))])
def test_sets_whose_labels_mean_different_things_are_not_joined(other):
    with pytest.raises(ValueError, match="cannot join images of 2 classes with images of"):
        join(labelled([0, 1], 2), other)


def test_images_keep_the_names_of_their_files_when_they_are_decoded(tmp_path):
    files = ImageSet([tmp_path / f"{name}.png" for name in "abc"])
    decoded = files.with_pixels(np.zeros((3, 2, 2, 3), np.uint8))
    assert decoded.describe(1) == str(tmp_path / "b.png")
    assert decoded.take([2, 0]).describe(0) == str(tmp_path / "c.png")
    drawn = ImageSet(np.ones((2, 2, 2, 3), np.uint8))
    for both in (join(decoded, drawn), pool(decoded, drawn)):
        assert [both.describe(index) for index in (0, 3, 4)] == [str(tmp_path / "a.png"), "image 0", "image 1"]
    assert join(drawn, drawn).describe(3) == "image 3"
