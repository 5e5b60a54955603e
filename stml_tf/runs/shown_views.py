"""Some training images, and what the network is shown of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from stml_tf.data.catalog import ImageSet
from stml_tf.data.loader import pixels_of
from stml_tf.data.transforms import random_view
from stml_tf.recipe.recipe import Recipe

NUM_IMAGES, NUM_VIEWS = 6, 5


@dataclass(frozen=True, eq=False)
class ShownViews:
    """An image, by its place in a set, and random views of it: pixels, uint8 `[height, width, 3]` each."""

    index: int
    image: np.ndarray
    views: list[np.ndarray]


def show_views(recipe: Recipe, images: ImageSet, *, among: list[int] | None = None) -> list[ShownViews]:
    """Make random views of some images, from the first to the last of a set.

    Args:
        recipe: The recipe, whose views they are.
        images: The set.
        among: Places of the images to choose from; all by default.
    """
    places = range(len(images)) if among is None else among
    chosen = np.unique(np.linspace(0, len(places) - 1, min(NUM_IMAGES, len(places))).astype(int))
    settings = recipe.views.model_dump(exclude={"num_views"})

    def views_of(index: int) -> ShownViews:
        pixels = pixels_of(images, index)
        views = [random_view(tf.constant(pixels), [recipe.seed, view], **settings) for view in range(NUM_VIEWS)]
        rounded = [np.asarray(tf.cast(tf.clip_by_value(tf.round(view), 0, 255), tf.uint8)) for view in views]
        return ShownViews(index, pixels, rounded)

    return [views_of(places[at]) for at in chosen]
