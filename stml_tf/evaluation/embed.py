"""Embeddings of all images of a dataset, in its order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from stml_tf.errors import UserError

__all__ = ["embed", "l2_normalized", "raw_pixels"]


def embed(
    model_fn: Callable[[Any], Any],
    dataset: Iterable[Any],
    *,
    count: int,
    normalize: bool,
    on_progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Embed every image of a dataset.

    Args:
        model_fn: A function of a batch of the dataset that returns embeddings `[batch, dim]`.
        dataset: Batches of preprocessed images, `[batch, height, width, channels]`.
        count: Number of images in the dataset.
        normalize: Whether to L2-normalise the embeddings. A zero embedding stays zero.
        on_progress: Called after each batch with the number of images embedded so far.

    Returns:
        Float32 `[count, dim]`.

    Raises:
        ValueError: If the dataset holds more or fewer images than `count`.
        UserError: If an embedding is NaN or infinite.
    """
    embeddings: np.ndarray | None = None
    done = 0
    for images in dataset:
        batch = np.asarray(model_fn(images), np.float32)
        if embeddings is None:
            embeddings = np.empty((count, batch.shape[1]), np.float32)
        if done + len(batch) > count:
            raise ValueError(f"the dataset holds more than the {count} images it should: count must be all its images")
        if not np.isfinite(batch).all():
            bad = np.flatnonzero(~np.isfinite(batch).all(axis=1))
            raise UserError(
                f"the embeddings of {len(bad)} of images {done} to {done + len(batch) - 1} hold NaN or infinity, "
                f"first image {done + bad[0]}: the weights have diverged, or the image holds such values itself"
            )
        embeddings[done : done + len(batch)] = batch
        done += len(batch)
        if on_progress is not None:
            on_progress(done)
    if embeddings is None or done != count:
        raise ValueError(f"the dataset holds {done} images, but {count} were expected: does it repeat or drop a part?")
    return l2_normalized(embeddings) if normalize else embeddings


def l2_normalized(embeddings: np.ndarray) -> np.ndarray:
    """L2-normalise each row.

    Args:
        embeddings: `[rows, dim]`, any finite range.

    Returns:
        `[rows, dim]` float32, in which a row of zeros stays zero.
    """
    embeddings = np.asarray(embeddings, np.float32)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.divide(embeddings, lengths, out=np.zeros_like(embeddings), where=lengths > 0)


def raw_pixels(
    dataset: Iterable[Any], *, count: int, largest_side: int = 64, on_progress: Callable[[int], None] | None = None
) -> np.ndarray:
    """Return the pixels themselves as embeddings, a baseline without any network.

    Args:
        dataset: Batches of preprocessed images, `[batch, height, width, channels]`.
        count: Number of images in the dataset.
        largest_side: Larger images are averaged over squares, so that no side has more pixels than this. That bounds
            memory and hardly changes distances.
        on_progress: As for `embed`.

    Returns:
        Float32 `[count, pixels * channels]`, not normalised.

    Raises:
        ValueError: As `embed` does.
    """

    def flatten(images: Any) -> np.ndarray:
        images = np.asarray(images, np.float32)
        batch, height, width, channels = images.shape
        square = -(-max(height, width) // largest_side)
        rows, columns = height // square, width // square
        images = images[:, : rows * square, : columns * square]
        squares = images.reshape(batch, rows, square, columns, square, channels)
        return squares.mean(axis=(2, 4)).reshape(batch, -1)

    return embed(flatten, dataset, count=count, normalize=False, on_progress=on_progress)
