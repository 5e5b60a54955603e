"""Two random views of some of a run's training images, drawn once, for measurements without labels."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from stml_tf.data.catalog import ImageSet
from stml_tf.data.loader import training_batches
from stml_tf.data.transforms import random_view
from stml_tf.models import preprocessing
from stml_tf.recipe.sections import Views
from stml_tf.runs.prepare import Run

LARGEST = 1000
_BATCH = 50


def sample_size(run: Run) -> int:
    """Return the number of images in the sample of a run."""
    return min(len(run.data.images), LARGEST)


def sample_of(run: Run) -> ImageSet:
    """Return the sample of a run, in the order in which `embed_sample` embeds it."""
    random = np.random.default_rng(run.recipe.seed)
    return run.data.images.take(np.sort(random.choice(len(run.data.images), sample_size(run), replace=False)))


def sample_views(run: Run, views: Views | None = None) -> tf.data.Dataset:
    """Draw two views of each image of a run's sample, the same ones whenever they are asked for.

    Args:
        run: The run.
        views: How they are drawn; like those that the run trains on by default.

    Returns:
        Pairs of preprocessed views `[batch, 2, size, size, 3]` and positions in the sample. The last batch is filled up
        from the beginning.
    """
    size = sample_size(run)
    batch = min(_BATCH, size)
    steps = -(-size // batch)
    rows = np.resize(np.arange(size), (steps, batch))
    return training_batches(
        sample_of(run),
        lambda: (0, rows),
        steps_per_epoch=steps,
        batch_size=batch,
        num_views=2,
        view=partial(random_view, **(views or run.recipe.views).model_dump(exclude={"num_views"})),
        preprocess=preprocessing(run.recipe.model.backbone),
        seed=run.recipe.seed,
    )


def embed_sample(run: Run, network: Callable[[Any], Any], views: tf.data.Dataset) -> np.ndarray:
    """Embed both views of a run's sample.

    Args:
        run: The run.
        network: A function from preprocessed images `[batch, height, width, 3]` to embeddings `[batch, dim]`.
        views: What `sample_views` returns.

    Returns:
        `[2, sample_size(run), dim]` float32, not normalised.
    """
    size, embedded = sample_size(run), []
    with run.display.doing("embedding two views of a sample", size) as work:
        for pairs, *_ in views:
            embedded.append(np.stack([np.asarray(network(pairs[:, view])) for view in range(2)]))
            work(min(size, len(pairs) * len(embedded)))
    return np.concatenate(embedded, axis=1)[:, :size]
