import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stml_tf.data.batches.partial_labels import part_by_labels
from stml_tf.data.catalog import ImageSet
from stml_tf.errors import UserError


def images_of(labels):
    labels = np.asarray(labels, np.int64)
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return ImageSet(np.broadcast_to(pixels, (len(labels), 2, 2, 3)), labels, tuple("abcdefghijklmnopqrstuvwxyz"))


def places(images):
    return images.images[:, 0, 0, 0].tolist()


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=2, max_size=12), share=st.floats(0.01, 0.8))
def test_a_share_of_the_classes_keeps_its_labels(sizes, share):
    images = images_of(np.repeat(np.arange(len(sizes)), sizes))
    kept = max(1, int(share * len(sizes) + 0.5))
    if kept == len(sizes):
        with pytest.raises(UserError, match=f"leaves none of the {len(images)} training images without a label"):
            part_by_labels(images, labeled_classes=share)
        return
    labelled, rest = part_by_labels(images, labeled_classes=share)
    assert sorted(places(labelled) + places(rest)) == list(range(len(images)))
    assert not set(labelled.labels) & set(rest.labels)
    assert len(set(labelled.labels)) == kept


def test_a_count_of_classes_is_spread_over_their_order():
    labelled, rest = part_by_labels(images_of(np.repeat(np.arange(12), 2)), labeled_classes=3)
    assert sorted(set(labelled.labels)) == [0, 4, 8]
    assert len(rest) == 18


def test_a_share_of_the_images_of_every_class_keeps_its_labels():
    images = images_of([0] * 10 + [1] * 4 + [2])
    labelled, rest = part_by_labels(images, labeled_fraction=0.3)
    assert np.bincount(labelled.labels).tolist() == [3, 1, 1]
    assert np.bincount(rest.labels).tolist() == [7, 3]
    assert places(labelled)[:3] == [0, 3, 6]


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (images_of([0, 1]), {}, "labeled_classes is None and labeled_fraction is None, but exactly one"),
        (images_of([0, 1]), {"labeled_classes": 1, "labeled_fraction": 0.5}, "exactly one of them says which"),
        (images_of([0, 1]), {"labeled_classes": 2}, "leaves none of the 2 training images without a label"),
        (images_of([0, 1]), {"labeled_classes": 7}, "leaves none of the 2 training images without a label"),
        (images_of([0, 1]), {"labeled_fraction": 0.2}, "leaves none of the 2 training images without a label"),
        (ImageSet([b"1", b"2"]), {"labeled_classes": 1}, "these images have none; give one folder a class"),
    ],
)
def test_what_leaves_a_part_empty_is_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        part_by_labels(images, **options)
