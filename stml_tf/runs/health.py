"""The callback that watches the health of a run."""

from functools import partial

from stml_tf.fitting.health_callback import HealthCallback
from stml_tf.recipe.sections import Views
from stml_tf.runs.prepare import Run
from stml_tf.runs.sample import embed_sample, sample_size, sample_views

_CROPS = (0.5, 1.0)
_FEWEST_TO_STOP = 100  # with fewer images, how often two views find each other is mostly chance


def health_callback(run: Run, *, epochs_done: int = 0) -> HealthCallback | None:
    """Build the callback that watches the health of a run; None if there are too few images.

    Args:
        run: The run, before its first step or resumed.
        epochs_done: Number of epochs that are complete.
    """
    if sample_size(run) < 3:
        return None
    # Views of its own: a run that trains on images as they are would have the best health for no reason.
    views = Views(size=run.recipe.views.size, crop_scale=_CROPS)
    embed_views = partial(embed_sample, run, run.embedding_network, sample_views(run, views))
    return HealthCallback(
        embed_views,
        start=run.folder.remember("health_start", embed_views),
        last=run.folder.recall_epoch("health_last", epochs_done),
        remember=partial(run.folder.remember_epoch, "health_last"),
        pretrained=run.recipe.model.weights is not None,
    )


def stops_when_collapsed(run: Run) -> bool:
    """Return whether a run that collapses is stopped: if its recipe says so, and its sample is large enough to tell."""
    return run.recipe.training.stop_when_collapsed and sample_size(run) >= _FEWEST_TO_STOP
