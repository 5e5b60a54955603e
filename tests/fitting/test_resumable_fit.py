import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.fitting.resumable_fit import fit_from


def compiled_model(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1, **options), "mse", run_eagerly=True)
    return model


@pytest.fixture
def batches_from(random):
    inputs, targets = random.normal(size=(2, 3, 4, 2)), random.normal(size=(3, 4, 1))

    def batches(first_batch=0):
        return tf.data.Dataset.from_tensor_slices((inputs[0], targets)).skip(first_batch)

    return batches


class Log(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(f"epoch {epoch} of {self.params['epochs']}")

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(batch)


def test_the_rest_of_an_epoch_comes_before_whole_ones(batches_from):
    log = Log()
    fit_from(compiled_model(), batches_from, epochs=3, epoch=1, first_batch=2, callbacks=[log])
    assert log.seen == ["epoch 1 of 3", 0, "epoch 2 of 3", 0, 1, 2]


@pytest.mark.parametrize(("epoch", "first_batch"), [(0, 1), (1, 2), (3, 0)])
def test_in_parts_as_at_once(batches_from, epoch, first_batch):
    """With an optimizer that puts averages in the weights' place when training ends, and not before."""
    at_once, in_parts = (compiled_model(use_ema=True, ema_momentum=0.5) for _ in range(2))
    fit_from(at_once, batches_from, epochs=3, callbacks=[])
    for dataset in [batches_from()] * epoch + [batches_from().take(first_batch)]:
        for inputs, targets in dataset:
            in_parts.train_on_batch(inputs, targets)
    fit_from(in_parts, batches_from, epochs=3, epoch=epoch, first_batch=first_batch, callbacks=[])
    np.testing.assert_allclose(in_parts.get_weights()[0], at_once.get_weights()[0], rtol=1e-6)
