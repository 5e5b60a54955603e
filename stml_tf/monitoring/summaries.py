"""Curves, pictures and text for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stml_tf.registry import log_group

__all__ = ["Summaries", "TensorBoardScalars"]

_RETRIEVAL = ("map@r", "r_precision", "nmi")


class Summaries:
    """A writer of what TensorBoard shows of a run.

    Args:
        log_dir: Folder of the event file, created if necessary. A resumed run adds a file to the same folder. None
            writes nothing.
    """

    def __init__(self, log_dir: str | Path | None) -> None:
        self._writer = (
            tf.summary.create_noop_writer() if log_dir is None else tf.summary.create_file_writer(str(log_dir))
        )

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Write numbers by name; a "/" in a name groups charts."""
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, float(value))

    def image(self, name: str, image: bytes | np.ndarray, step: int) -> None:
        """Write a picture: the bytes of a PNG file, or `[height, width, 1 or 3 or 4]`, uint8 or floats in [0, 1]."""
        pixels = tf.io.decode_png(image) if isinstance(image, bytes) else tf.convert_to_tensor(image)
        with self._writer.as_default(step=step):
            tf.summary.image(name, pixels[None])

    def text(self, name: str, text: str, step: int) -> None:
        """Write a text; TensorBoard renders Markdown."""
        with self._writer.as_default(step=step):
            tf.summary.text(name, text)

    def flush(self) -> None:
        """Write everything that is still in memory."""
        self._writer.flush()

    def close(self) -> None:
        """Write everything and close the file."""
        self._writer.close()


class TensorBoardScalars(keras.callbacks.Callback):
    """A callback that writes the logs of each epoch, and the losses now and then in between.

    The values of an epoch are drawn over epochs, those within an epoch over optimizer steps, under `batch/`. The group
    of a name comes from the register of methods; retrieval metrics are under `retrieval/`, everything else under
    `train/`. Callbacks that add to the logs have to come before this one.

    Args:
        summaries: Where to write. It is left open.
        every: Batches between two records within an epoch. Each waits for the device, so frequent ones are slow.

    Raises:
        ValueError: If `every` is below 1.
    """

    def __init__(self, summaries: Summaries, *, every: int = 50) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}, but must be at least 1 batch")
        self.summaries = summaries
        self.every = every
        self._first_step = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # The optimizer's own count continues in a resumed run.
        self._first_step = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if (batch + 1) % self.every == 0:
            losses = {name: value for name, value in (logs or {}).items() if _tag(name).startswith("loss/")}
            tags = {f"batch/{name}": value for name, value in losses.items()}
            self.summaries.scalars(tags, step=self._first_step + batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        values = {"learning_rate": self.model.optimizer.learning_rate, **(logs or {})}
        self.summaries.scalars({_tag(name): value for name, value in values.items()}, step=epoch + 1)
        self.summaries.flush()


def _tag(name: str) -> str:
    if "/" in name:
        return name
    if name == "loss":
        return "loss/total"
    if name.startswith("recall@") or name in _RETRIEVAL:
        return f"retrieval/{name}"
    return f"{log_group(name) or 'train'}/{name}"
