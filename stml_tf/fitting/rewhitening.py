"""Rewhitening: after each epoch, both heads are fitted again as a whitening of the features that the network now has.

A head that starts as a whitening and then stands still keeps what training does to the trunk comparable from step to
step, but the directions along which the features vary change. Fitted again, the same linear map costs one pass over the
training images, which the search for neighbours needs anyway.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from stml_tf.models.whitening import Whitening, principal_components


class FeaturesOfStep:
    """The features of the training images by a network as it is, computed at most once between two of its steps.

    Args:
        compute: Returns the features, `[num_images, channels]` float32.
        step: Returns the number of steps that the network has taken.
    """

    def __init__(self, compute: Callable[[], np.ndarray], step: Callable[[], int]) -> None:
        self._compute = compute
        self._step = step
        self._latest: tuple[int, np.ndarray] | None = None

    def __call__(self) -> np.ndarray:
        """Return the features, `[num_images, channels]` float32."""
        step = self._step()
        if self._latest is None or self._latest[0] != step:
            self._latest = (step, self._compute())
        return self._latest[1]

    def forget(self) -> None:
        """Free the memory: the next step makes the features those of another network."""
        self._latest = None


class RewhitenCallback(keras.callbacks.Callback):
    """Fits linear heads to the features at the end of each epoch. Stands before the callbacks that measure the network.

    Args:
        features: The features of the training images.
        heads: The heads, all of which get the same whitening, rotated into the wider ones: those of the student, and
            the teacher's, which has all but caught up with the student by the end of an epoch.
        power: Power of the whitening, in [0, 1].
        shared: Returns an array as all workers are to have it, given each worker's own; see `of_chief`.
    """

    def __init__(
        self,
        features: FeaturesOfStep,
        heads: Sequence[layers.Dense],
        *,
        power: float,
        shared: Callable[[np.ndarray], np.ndarray] = lambda array: array,
    ) -> None:
        super().__init__()
        self.features = features
        self.heads = heads
        self.power = power
        self.shared = shared

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.features.forget()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        components = principal_components(self.features())
        narrowest = min(head.units for head in self.heads)
        whitening = components.whitening(min(narrowest, len(components.deviations)), self.power)
        whitening = Whitening.unpacked(self.shared(whitening.packed()))
        for head in self.heads:
            whitening.start(head)


def apply_head(head: layers.Dense, features: np.ndarray) -> np.ndarray:
    """Map features `[rows, channels]` with a linear head to `[rows, units]` float32, outside the network."""
    kernel, bias = head.get_weights()
    return features @ kernel + bias
