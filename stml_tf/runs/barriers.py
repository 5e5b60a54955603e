"""The barriers at which the workers of a run wait for each other.

Every worker has to reach every barrier, in this order. With a single worker they do nothing.
"""

from typing import Any

import tensorflow as tf

from stml_tf.distribution.devices import require_same


def wait_until_all_have_read_the_same(
    strategy: tf.distribute.Strategy, *, recipe: dict[str, Any], images: list[Any]
) -> None:
    """Wait until all workers have read the recipe and inspected the images, and refuse differences between them.

    Args:
        strategy: What `strategy_for` returned.
        recipe: The recipe.
        images: A checksum of the images, and the indices of those that cannot be read.

    Raises:
        UserError: If another worker has another recipe, or sees other images.
    """
    require_same(strategy, recipe=recipe, images=images)


def wait_until_all_resume_from(strategy: tf.distribute.Strategy, checkpoint: str | None, *, measured: bool) -> None:
    """Wait until all workers have looked into the run folder, and refuse to resume from different checkpoints.

    Args:
        strategy: What `strategy_for` returned.
        checkpoint: Name of the checkpoint to resume from; None to start from the beginning.
        measured: Whether the folder holds the embeddings before training.

    Raises:
        UserError: If another worker sees another run folder.
    """
    require_same(strategy, run_folder=[checkpoint, measured])


def wait_until_chief_has_written(strategy: tf.distribute.Strategy) -> None:
    """Wait until the chief has written pictures, SavedModel and metrics, so that no worker ends before it.

    Args:
        strategy: What `strategy_for` returned.
    """
    require_same(strategy)
