"""What the health of a run is measured on: two views of some of its training images, the same at every epoch."""

from collections.abc import Callable
from functools import partial

import numpy as np

from stml_tf.data.loader import training_batches
from stml_tf.data.transforms import random_view
from stml_tf.fitting.health_callback import HealthCallback
from stml_tf.models import preprocessing
from stml_tf.runs.prepare import Run

LARGEST_SAMPLE = 1000
_BATCH = 50


def health_callback(run: Run, *, epochs_done: int = 0) -> HealthCallback | None:
    """Build the callback that watches a run; None if it has too few images to tell.

    Args:
        run: The run; before its first step, or resumed.
        epochs_done: Epochs that are complete.
    """
    size = min(len(run.data.images), LARGEST_SAMPLE)
    if size < 3:
        return None
    embed_views = _views_embedded(run, size)
    return HealthCallback(
        embed_views,
        start=run.folder.remember("health_start", embed_views),
        last=run.folder.recall_epoch("health_last", epochs_done),
        remember=partial(run.folder.remember_epoch, "health_last"),
        pretrained=run.recipe.model.weights is not None,
        stop_when_collapsed=run.recipe.training.stop_when_collapsed,
    )


def _views_embedded(run: Run, size: int) -> Callable[[], np.ndarray]:
    """A function that embeds two views of a fixed sample: `[2, size, dim]` float32."""
    recipe = run.recipe
    random = np.random.default_rng(recipe.seed)
    sample = run.data.images.take(np.sort(random.choice(len(run.data.images), size, replace=False)))
    batch = min(_BATCH, size)
    steps = -(-size // batch)
    rows = np.resize(np.arange(size), (steps, batch))  # the last batch is filled up from the beginning

    def embed_views() -> np.ndarray:
        batches = training_batches(
            sample,
            lambda: (0, rows),
            steps_per_epoch=steps,
            batch_size=batch,
            num_views=2,
            view=partial(random_view, **recipe.views.model_dump(exclude={"num_views"})),
            preprocess=preprocessing(recipe.model.backbone),
            seed=recipe.seed,
        )
        embedded = [
            np.stack([np.asarray(run.embedding_network(views[:, view])) for view in range(2)]) for views, _ in batches
        ]
        return np.concatenate(embedded, axis=1)[:, :size]

    return embed_views
