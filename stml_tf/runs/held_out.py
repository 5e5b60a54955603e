"""Classes held out of the training part, on which settings are chosen without looking at the test classes."""

from dataclasses import replace

import numpy as np

from stml_tf.data.batches.partial_labels import part_by_labels
from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.errors import UserError

_ONE_IN = 4
_FEWEST = 4


def without_test(catalog: Catalog) -> Catalog:
    """Return the same data without test images and gallery."""
    return replace(catalog, test=None, gallery=None)


def hold_out_classes(catalog: Catalog) -> Catalog:
    """Hold a quarter of the training classes out, to test on in place of the data's test images, which are never seen.

    They are spread evenly over the classes in class order, as neighbouring classes are often of a kind.

    Args:
        catalog: With labels of its training images.

    Returns:
        A catalog that trains on the other classes.

    Raises:
        UserError: If there are no labels or too few classes, or no class that is held out has two images.
    """
    train = catalog.train
    if train.labels is None:
        raise UserError(
            f"The training images of {catalog.name} have no classes to hold out: where each class has a folder of its "
            "own, set data.train_labels=true; or choose by the health score, which needs no labels"
        )
    num_classes = len(np.unique(train.labels))
    if num_classes < _FEWEST:
        raise UserError(
            f"{catalog.name} has {num_classes} training classes, and {_FEWEST} or more are needed to hold some out: "
            "choose by the health score, which needs no labels"
        )
    held, kept = part_by_labels(train, labeled_classes=max(2, num_classes // _ONE_IN))
    if np.bincount(held.labels).max() < 2:
        raise UserError(
            f"No training class of {catalog.name} that is held out has two images, so none of them can be found: "
            "choose by the health score, which needs no labels"
        )
    unlabeled = None if catalog.unlabeled is None else _without(catalog.unlabeled, held)
    return replace(catalog, train=kept, test=held, gallery=None, unlabeled=unlabeled)


def _without(unlabeled: ImageSet, held: ImageSet) -> ImageSet | None:
    """Return the unlabelled images without those whose known class is held out; None if none is left."""
    if unlabeled.labels is None or unlabeled.class_names != held.class_names:
        return unlabeled
    others = np.flatnonzero(~np.isin(unlabeled.labels, held.labels))
    return unlabeled.take(others) if len(others) else None
