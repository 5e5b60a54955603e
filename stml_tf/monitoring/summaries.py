"""Curves, pictures and text for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["Summaries"]


class Summaries:
    """A writer of what TensorBoard shows of a run.

    Args:
        log_dir: Folder of the event file, created if necessary. A resumed run adds a file to the same folder. None
            writes nothing.
    """

    def __init__(self, log_dir: str | Path | None) -> None:
        self.log_dir = None if log_dir is None else Path(log_dir)
        self._writer = (
            tf.summary.create_noop_writer() if log_dir is None else tf.summary.create_file_writer(str(log_dir))
        )

    def beside(self, name: str) -> Summaries:
        """Return a writer to a folder below, which TensorBoard shows as a run of its own, in the same charts."""
        return Summaries(self.log_dir and self.log_dir / name)

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Write numbers by name; a "/" in a name groups charts."""
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, float(value))

    def histogram(self, name: str, values: np.ndarray, step: int) -> None:
        """Write the distribution of numbers, of any shape."""
        with self._writer.as_default(step=step):
            tf.summary.histogram(name, values)

    def image(self, name: str, image: bytes | np.ndarray, step: int) -> None:
        """Write a picture: the bytes of a PNG file, or `[height, width, 1 or 3 or 4]`, uint8 or floats in [0, 1]."""
        pixels = tf.io.decode_png(image) if isinstance(image, bytes) else tf.convert_to_tensor(image)
        with self._writer.as_default(step=step):
            tf.summary.image(name, pixels[None])

    def text(self, name: str, text: str, step: int) -> None:
        """Write a text; TensorBoard renders Markdown."""
        with self._writer.as_default(step=step):
            tf.summary.text(name, text)

    def hparams(self, settings: Mapping[str, Any], *, metrics: Mapping[str, str]) -> None:
        """Write the settings of a run, by which the HParams page compares runs.

        Args:
            settings: Values by name: numbers, booleans and text.
            metrics: Tags of scalars that are shown beside the settings, with the name to show.
        """
        from tensorboard.plugins.hparams import api

        if self.log_dir is None:
            return
        shown = [api.Metric(tag, display_name=name) for tag, name in metrics.items()]
        with self._writer.as_default():
            api.hparams_config([api.HParam(name) for name in settings], shown)
            api.hparams(dict(settings))

    def flush(self) -> None:
        """Write everything that is still in memory."""
        self._writer.flush()

    def close(self) -> None:
        """Write everything and close the file."""
        self._writer.close()
