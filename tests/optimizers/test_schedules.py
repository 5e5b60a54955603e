import math

import keras
import numpy as np
import pytest

from stml_tf.optimizers.schedules import EpochSchedule


def rates(schedule, steps):
    return np.array([float(schedule(np.int64(step))) for step in range(steps)])


def test_cosine_by_epoch_is_the_closed_form_of_cosine_annealing():
    schedule = EpochSchedule(0.02, epochs=14, steps_per_epoch=3)
    expected = [0.5 * 0.02 * (1 + math.cos(math.pi * (step // 3) / 14)) for step in range(14 * 3)]
    np.testing.assert_allclose(rates(schedule, 14 * 3), expected, rtol=1e-5)


def test_cosine_by_step_falls_every_step_and_ends_at_zero():
    schedule = EpochSchedule(1.0, epochs=2, steps_per_epoch=5, by="step")
    expected = [0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(11)]
    np.testing.assert_allclose(rates(schedule, 11), expected, atol=1e-6)
    assert float(schedule(25)) == pytest.approx(0, abs=1e-7), "no second rise after the last epoch"


def test_warmup_rises_linearly_and_the_cosine_has_the_remaining_epochs():
    schedule = EpochSchedule(0.4, epochs=7, steps_per_epoch=2, warmup_epochs=3)
    expected = [0.1, 0.2, 0.3] + [0.2 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)]
    np.testing.assert_allclose(rates(schedule, 14), np.repeat(expected, 2), rtol=1e-5)


def test_constant_warms_up_by_step_and_stays():
    schedule = EpochSchedule(1.0, name="constant", epochs=3, steps_per_epoch=4, warmup_epochs=1, by="step")
    np.testing.assert_allclose(rates(schedule, 20), [0.2, 0.4, 0.6, 0.8] + [1.0] * 16, rtol=1e-6)


def test_drives_an_optimizer_inside_a_graph():
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), layer])
    schedule = EpochSchedule(0.1, epochs=4, steps_per_epoch=2)
    # Mean of the output: the gradient is 1, so the weight is minus the sum of the rates.
    model.compile(keras.optimizers.SGD(schedule), loss=lambda target, output: output)
    model.fit(np.ones((6, 1)), np.zeros((6, 1)), batch_size=1, verbose=0)
    np.testing.assert_allclose(layer.kernel.numpy()[0, 0], -rates(schedule, 6).sum(), rtol=1e-5)


def test_survives_serialisation():
    schedule = EpochSchedule(0.3, name="constant", epochs=5, steps_per_epoch=7, warmup_epochs=2, by="step")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert isinstance(copy, EpochSchedule)
    assert copy.get_config() == schedule.get_config()
    optimizer = keras.optimizers.SGD(schedule)
    assert keras.optimizers.SGD.from_config(optimizer.get_config()).get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("learning_rate", -0.1, "learning_rate must be 0 or more, but -0.1 was given"),
        ("name", "linear", "name must be one of cosine, constant, but 'linear' was given"),
        ("epochs", 0, "epochs must be 1 or more, but 0 was given"),
        ("steps_per_epoch", 0, "steps_per_epoch must be 1 or more, but 0 was given"),
        ("warmup_epochs", 3, "warmup_epochs must be from 0 to epochs - 1 = 2, but 3 was given"),
        ("by", "hour", "by must be one of epoch, step, but 'hour' was given"),
    ],
)
def test_refuses(argument, value, message):
    with pytest.raises(ValueError, match=message):
        EpochSchedule(**({"learning_rate": 0.1, "epochs": 3, "steps_per_epoch": 2} | {argument: value}))
