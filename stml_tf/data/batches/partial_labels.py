"""Keeps the labels of a part of the training images, so that learning from few labels can be tried and measured."""

import numpy as np

from stml_tf.data.catalog import ImageSet
from stml_tf.errors import UserError


def part_by_labels(
    images: ImageSet, *, labeled_classes: float | int | None = None, labeled_fraction: float | None = None
) -> tuple[ImageSet, ImageSet]:
    """Divide labelled training images into those whose labels may be used and those whose labels may not.

    Args:
        images: A labelled set.
        labeled_classes: How many classes keep their labels: a share (float in (0, 1), rounded to whole classes, a half
            upwards, at least one) or a count (int). They are spread evenly over the classes in class order, as
            neighbouring classes are often of a kind.
        labeled_fraction: Which share of the images of every class keeps its labels, in (0, 1), rounded likewise, at
            least one of each class; spread evenly over the images of the class. One of the two has to be given.

    Returns:
        The labelled part and the rest, both in the order of `images` and with its labels, which for the rest serve for
        monitoring alone.

    Raises:
        UserError: If the images have no labels, not exactly one of the two is given, or one part would be empty.
    """
    if images.labels is None:
        raise UserError("cannot keep a part of the labels: these images have none; give one folder a class")
    if (labeled_classes is None) == (labeled_fraction is None):
        raise UserError(
            f"labeled_classes is {labeled_classes} and labeled_fraction is {labeled_fraction}, but exactly one of them "
            "says which labels are kept: set the other to null"
        )
    if labeled_classes is not None:
        classes = np.unique(images.labels)
        kept = classes[_evenly(len(classes), labeled_classes)]
        known = np.isin(images.labels, kept)
    else:
        known = np.zeros(len(images), bool)
        for label in np.unique(images.labels):
            members = np.flatnonzero(images.labels == label)
            known[members[_evenly(len(members), labeled_fraction)]] = True
    if known.all():
        raise UserError(
            f"labeled_classes is {labeled_classes} and labeled_fraction is {labeled_fraction}, which leaves none of "
            f"the {len(images)} training images without a label: keep fewer labels"
        )
    return images.take(np.flatnonzero(known)), images.take(np.flatnonzero(~known))


def _evenly(count: int, part: float | int) -> np.ndarray:
    """Choose a share (float) or a number (int) of `count` positions, as far from each other as they can be."""
    wanted = part if isinstance(part, int) else max(1, int(part * count + 0.5))
    wanted = min(wanted, count)
    return (np.arange(wanted) * count) // wanted
