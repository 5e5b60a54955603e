from dataclasses import replace

import numpy as np
import pytest

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.recipe.load import load_recipe
from stml_tf.runs.training_data import training_data

SMALL = (
    "batch.size=10",
    "sampling.num_neighbors=2",
    "supervision.classes_per_batch=2",
    "supervision.images_per_class=3",
)


def images_of(labels, first=0):
    pixels = np.arange(first, first + len(labels), dtype=np.uint8)[:, None, None, None]
    names = tuple(f"class {number}" for number in range(10))
    return ImageSet(np.broadcast_to(pixels, (len(labels), 2, 2, 3)), np.asarray(labels, np.int64), names)


LABELED = images_of(np.repeat([2, 5, 9], 4))
CATALOG = Catalog("mine", LABELED, None, unlabeled=images_of(np.repeat([1, 3, 4, 6], 5), first=12))


def of(method, catalog=CATALOG):
    return training_data(load_recipe("glyphs_semi", [*SMALL, f"method={method}"]), catalog)


def values(images):
    return [int(image[0, 0, 0]) for image in images.images]


@pytest.mark.parametrize("method", ["self_taught", "supervised", "semi_supervised"])
def test_methods_take_as_many_steps(method):
    batches = of(method).batches
    assert batches.steps_per_epoch == 3
    table = np.zeros((20 if method == "semi_supervised" else 32, 2), np.int64)
    assert batches.batches(0, table).shape == (3, 6 if method == "supervised" else 10)


def test_self_taught_learns_from_all_images_without_labels():
    data = of("self_taught")
    assert values(data.images) == values(data.searched) == list(range(32))
    assert data.labels is None
    assert data.images.labels.tolist() == [*LABELED.labels, *CATALOG.unlabeled.labels]  # for monitoring


def test_supervised_learns_from_the_labelled_images():
    data = of("supervised")
    assert values(data.images) == list(range(12))
    assert data.labels.tolist() == np.repeat([0, 1, 2], 4).tolist()
    assert data.num_classes == 3


def test_semi_supervised_is_shown_the_labels_of_the_labelled_images_alone():
    data = of("semi_supervised")
    assert values(data.images) == list(range(32))
    assert values(data.searched) == list(range(12, 32))
    assert data.labels.tolist() == [*np.repeat([0, 1, 2], 4), *[-1] * 20]
    assert data.images.labels is None and data.searched.labels is None


def test_supervised_and_semi_supervised_draw_the_same_labelled_images():
    neighbors = np.zeros((20, 2), np.int64)
    both = of("semi_supervised").batches.batches(4, neighbors)
    np.testing.assert_array_equal(both[:, :6], of("supervised").batches.batches(4))
    assert both[:, 6:].min() >= 12


@pytest.mark.parametrize(
    ("method", "catalog", "message"),
    [
        ("supervised", Catalog("mine", replace(LABELED, labels=None), None), "supervised learns from labels, but the"),
        (
            "semi_supervised",
            Catalog("mine", LABELED, None),
            "learns from unlabelled images too, but the data",
        ),
        ("supervised", Catalog("mine", LABELED.take([0, 4, 8]), None), "batch of 10 images cannot be drawn from 3"),
        ("self_taught", Catalog("mine", LABELED.take([0, 4]), None), "batch of 10 images cannot be drawn from 2"),
    ],
)
def test_what_a_method_cannot_learn_from_is_refused(method, catalog, message):
    with pytest.raises(ValueError, match=message):
        of(method, catalog)
