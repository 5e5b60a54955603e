"""Images as the network of a run sees them when it is evaluated: their pixels, and the embeddings of a sample."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from stml_tf.data.catalog import ImageSet
from stml_tf.data.loader import evaluation_batches
from stml_tf.data.resizing import resize
from stml_tf.data.transforms import evaluation_view
from stml_tf.evaluation.embed import l2_normalized
from stml_tf.models import preprocessing
from stml_tf.runs.embed import EMBEDDING_BATCH
from stml_tf.runs.prepare import Run

SMALL_SIDE = 48
_MOST = 2000


class Sample(NamedTuple):
    """Some training images as the network sees them.

    Attributes:
        rows: `[count]`, which of the training images.
        embeddings: `[count, dim]`, L2-normalised.
        pixels: `[count, side, side, 3]` uint8, at most `SMALL_SIDE` on a side.
    """

    rows: np.ndarray
    embeddings: np.ndarray
    pixels: np.ndarray


def sample_training_images(run: Run) -> Sample:
    """Embed some of a run's training images with its student as it is now. All workers share the work."""
    rows = choose_places(len(run.data.images), _MOST, run.recipe.seed)
    preprocess = preprocessing(run.recipe.model.backbone)
    embedded, pixels = [], []
    for views in _views(run, run.data.images.take(rows)):
        embedded.append(np.asarray(run.embedding_network(preprocess(views))))
        pixels.append(shrink(views, SMALL_SIDE))
    return Sample(rows, l2_normalized(np.concatenate(embedded)), np.concatenate(pixels))


def choose_places(count: int, most: int, seed: int) -> np.ndarray:
    """Choose some of `count` places, in order, the same ones for the same seed."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def shrink(views: tf.Tensor, side: int) -> np.ndarray:
    """Turn `[batch, size, size, 3]` from 0 to 255 into uint8, at most `side` on a side."""
    if views.shape[1] > side:
        views = resize(views, (side, side))
    return tf.cast(tf.clip_by_value(tf.round(views), 0, 255), tf.uint8).numpy()


def pixels_as_seen(run: Run, images: ImageSet, places: Sequence[int], side: int) -> dict[int, np.ndarray]:
    """Return some images as the network sees them, each decoded once.

    Args:
        run: The run.
        images: The images.
        places: Indices of those to return, which may repeat.
        side: The most pixels on a side.

    Returns:
        Pixels `[side, side, 3]` uint8 by index.
    """
    unique = list(dict.fromkeys(int(place) for place in places))
    seen = [shrink(views, side) for views in _views(run, images.take(unique))] if unique else []
    return dict(zip(unique, (pixels for batch in seen for pixels in batch), strict=True))


def _views(run: Run, images: ImageSet) -> tf.data.Dataset:
    """Return the images that the network is evaluated on, `[batch, size, size, 3]` from 0 to 255, in batches."""
    recipe = run.recipe
    size = recipe.evaluation.size or recipe.views.size
    view = partial(evaluation_view, size=size, resize=recipe.evaluation.resize)
    return evaluation_batches(images, batch_size=EMBEDDING_BATCH, view=view, preprocess=lambda views: views)
