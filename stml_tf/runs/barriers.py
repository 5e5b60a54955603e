"""Where the workers of a run wait for each other, and what for.

Each worker must reach every barrier, in this order. On a single worker they do nothing but pass.
"""

from typing import Any

import tensorflow as tf

from stml_tf.distribution.devices import require_same


def wait_until_all_have_read_the_same(
    strategy: tf.distribute.Strategy, *, recipe: dict[str, Any], images: list[Any]
) -> None:
    """Wait until all workers have read the recipe and inspected the images; refuse those that see others.

    Args:
        strategy: What `strategy_for` returned.
        recipe: The recipe.
        images: A checksum of the images, and which of them cannot be read.

    Raises:
        UserError: If another worker has another recipe, or sees other images.
    """
    require_same(strategy, recipe=recipe, images=images)


def wait_until_all_resume_from(strategy: tf.distribute.Strategy, checkpoint: str | None, *, measured: bool) -> None:
    """Wait until all workers have looked into the run folder; refuse those that would resume from elsewhere.

    Args:
        strategy: What `strategy_for` returned.
        checkpoint: Name of the checkpoint to resume from; None: from the beginning.
        measured: Whether the folder holds what was embedded before training.

    Raises:
        UserError: If another worker sees another run folder.
    """
    require_same(strategy, run_folder=[checkpoint, measured])


def wait_until_chief_has_written(strategy: tf.distribute.Strategy) -> None:
    """Wait until the first worker has written pictures, SavedModel and metrics, so that none ends before it."""
    require_same(strategy)
