"""`fit`, from the middle of an epoch on."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


def fit_from(
    model: keras.Model,
    batches_from: Callable[..., tf.data.Dataset],
    *,
    epochs: int,
    epoch: int = 0,
    first_batch: int = 0,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train from a moment to the end.

    Args:
        model: Compiled.
        batches_from: Gives the batches of an epoch, from the one `first_batch` on.
        epochs: Epochs in all.
        epoch: Epochs that are complete.
        first_batch: Batches of the next epoch that are done.
        callbacks: As for `fit`.
    """
    options = {"epochs": epochs, "verbose": 0, "shuffle": False}  # the batches come in an order of their own
    if first_batch:
        # Keras takes every epoch of a `fit` to be as long as the first, so the rest of an epoch has one to itself.
        try:
            model.fit(
                batches_from(first_batch=first_batch),
                initial_epoch=epoch,
                callbacks=[*callbacks, _LeaveAfterEpoch()],
                **options,
            )
        except _EpochIsOver:
            epoch += 1
    model.fit(batches_from(), initial_epoch=epoch, callbacks=list(callbacks), **options)


class _EpochIsOver(Exception):
    pass


class _LeaveAfterEpoch(keras.callbacks.Callback):
    """Leaves `fit` without what it does at the end of training, such as taking averages for the weights."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        raise _EpochIsOver
