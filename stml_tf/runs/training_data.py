"""The training data of a method: images, the labels it may see, and how batches are drawn."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from stml_tf import registry
from stml_tf.data.batches.class_batches import ClassBatches, SemiSupervisedBatches
from stml_tf.data.batches.neighbor_batches import NeighborBatches
from stml_tf.data.catalog import Catalog, ImageSet, pool
from stml_tf.errors import UserError
from stml_tf.recipe.recipe import Recipe


class TrainingData(NamedTuple):
    """The training data of a run.

    Attributes:
        images: All images to train on. Labels that they have only serve for monitoring.
        batches: The batches, as indices into `images`.
        searched: The images among which neighbours are found.
        labels: `[len(images)]` int64, for methods that learn from labels: classes from 0 on, -1 if unknown.
        num_classes: Number of these classes.
    """

    images: ImageSet
    batches: NeighborBatches | ClassBatches | SemiSupervisedBatches
    searched: ImageSet
    labels: np.ndarray | None = None
    num_classes: int | None = None


def training_data(recipe: Recipe, catalog: Catalog) -> TrainingData:
    """Select what the recipe's method learns from.

    Methods without labels learn from all training images, labelled or not; supervised learns from the labelled ones,
    semi_supervised from both. An epoch of each has as many steps as all training images fill batches, so that they can
    be compared.

    Args:
        recipe: The recipe.
        catalog: The data.

    Raises:
        UserError: If the method needs labelled or unlabelled images and there are none, or there are too few images or
            classes for a batch.
    """
    settings = {"num_neighbors": recipe.sampling.num_neighbors, "coverage": recipe.sampling.coverage}
    labeled, unlabeled = catalog.train, catalog.unlabeled
    if not recipe.learns_from_labels:
        images = pool(labeled, unlabeled) if unlabeled else labeled
        batches = NeighborBatches(len(images), batch_size=recipe.batch.size, seed=recipe.seed, **settings)
        return TrainingData(images, batches, searched=images)

    if labeled.labels is None:
        raise UserError(f"{recipe.method} learns from labels, but the training images have none: give them classes.")
    steps = (len(labeled) + len(unlabeled or ())) // recipe.batch.size
    if not steps:
        raise UserError(
            f"A batch of {recipe.batch.size} images cannot be drawn from {len(labeled) + len(unlabeled or ())}: lower "
            "the batch size or add images."
        )
    classes, labels = np.unique(labeled.labels, return_inverse=True)
    class_batches = ClassBatches(
        labels,
        classes_per_batch=recipe.supervision.classes_per_batch,
        images_per_class=recipe.supervision.images_per_class,
        steps_per_epoch=steps,
        seed=recipe.seed,
    )
    if registry.methods.find(recipe.method).learns_from == "labels":
        images = replace(labeled, labels=None)
        return TrainingData(images, class_batches, images, labels.astype(np.int64), len(classes))

    if not unlabeled:
        raise UserError(f"{recipe.method} learns from unlabelled images too, but the data have none: add some.")
    neighbor_batches = NeighborBatches(
        len(unlabeled),
        batch_size=recipe.batch.size - recipe.supervision.num_labeled,
        seed=recipe.seed,
        steps_per_epoch=steps,
        **settings,
    )
    return TrainingData(
        images=ImageSet([*labeled.images, *unlabeled.images], decoding=labeled.decoding),
        batches=SemiSupervisedBatches(class_batches, neighbor_batches, num_labeled=len(labeled)),
        searched=replace(unlabeled, labels=None),
        labels=np.concatenate([labels, np.full(len(unlabeled), -1)]).astype(np.int64),
        num_classes=len(classes),
    )
