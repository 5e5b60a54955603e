from dataclasses import replace

import numpy as np
import pytest

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.errors import UserError
from stml_tf.runs.held_out import hold_out_classes, without_test


def image_set(labels, names="abcdefghijkl"):
    images = np.zeros((len(labels), 4, 4, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    return ImageSet(images, np.array(labels), tuple(names))


def numbers(images):
    return images.images[:, 0, 0, 0].tolist()


@pytest.fixture
def catalog():
    train = image_set([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7])
    test = image_set([8, 8, 9, 9])
    return Catalog("made", train, test, gallery=test)


def test_a_quarter_of_the_training_classes_takes_the_place_of_the_test_classes(catalog):
    held = hold_out_classes(catalog)
    assert sorted(set(held.test.labels)) == [0, 4]
    assert sorted(numbers(held.train) + numbers(held.test)) == list(range(16))
    assert set(held.train.labels).isdisjoint(held.test.labels)
    assert held.gallery is None


def test_images_of_held_out_classes_do_not_train_as_unlabelled_ones_either(catalog):
    unlabeled = image_set([4, 1, 0, 8])
    assert numbers(hold_out_classes(replace(catalog, unlabeled=unlabeled)).unlabeled) == [1, 3]
    others = image_set([0, 1], names="xy")
    assert numbers(hold_out_classes(replace(catalog, unlabeled=others)).unlabeled) == [0, 1]
    unknown = replace(others, labels=None, class_names=())
    assert numbers(hold_out_classes(replace(catalog, unlabeled=unknown)).unlabeled) == [0, 1]
    assert hold_out_classes(replace(catalog, unlabeled=image_set([0, 4]))).unlabeled is None


def test_without_test_images_nothing_is_left_of_them(catalog):
    assert without_test(catalog).test is without_test(catalog).gallery is None


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (ImageSet(np.zeros((4, 4, 4, 3), np.uint8)), "of made have no classes to hold out.*data.train_labels=true"),
        (image_set([0, 0, 1, 1, 2]), "made has 3 training classes, and 4 or more are needed"),
        (image_set([0, 1, 1, 2, 3, 3]), "No training class of made that is held out has two images"),
    ],
)
def test_what_cannot_be_held_out_is_refused(train, message):
    with pytest.raises(UserError, match=message):
        hold_out_classes(Catalog("made", train, None))
