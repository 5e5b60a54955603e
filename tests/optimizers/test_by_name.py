import keras
import numpy as np
import pytest

from stml_tf.optimizers.adamp import AdamP
from stml_tf.optimizers.by_name import OPTIMIZERS, build_optimizer
from stml_tf.optimizers.schedules import EpochSchedule


def test_knows_adamp_and_keras_but_no_wrappers():
    known = {"adamp", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lamb", "lion", "nadam"}
    assert known | {"rmsprop", "sgd"} <= set(OPTIMIZERS)
    assert not {"optimizer", "lossscaleoptimizer", "multioptimizer"} & set(OPTIMIZERS)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_moves_down_the_gradient(name):
    variable = keras.Variable(np.full((3, 2), 0.5), dtype="float32", name="kernel")
    optimizer = build_optimizer(name, learning_rate=0.01, weight_decay=0.0)
    optimizer.build([variable])
    optimizer.apply([np.ones((3, 2), "float32")])
    assert isinstance(optimizer, OPTIMIZERS[name])
    assert variable.numpy().mean() < 0.5


def test_passes_arguments_on():
    schedule = EpochSchedule(0.1, epochs=2, steps_per_epoch=2)
    optimizer = build_optimizer(
        "adamp", learning_rate=schedule, weight_decay=0.02, options={"nesterov": True, "clipnorm": 1.0}
    )
    assert isinstance(optimizer, AdamP)
    config = optimizer.get_config()
    assert (config["weight_decay"], config["nesterov"], config["clipnorm"]) == (0.02, True, 1.0)
    assert config["learning_rate"]["config"] == schedule.get_config()


def test_whole_number_is_a_learning_rate_too():
    assert float(build_optimizer("sgd", learning_rate=1).learning_rate) == 1.0


def test_unknown_name_is_met_with_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown optimizer 'AdamPP'; allowed: .*sgd.*; did you mean \"adamp\"\?"):
        build_optimizer("AdamPP", learning_rate=0.1)


def test_unknown_option_is_met_with_the_nearest():
    with pytest.raises(ValueError, match=r"no option 'momentun'; allowed: clipnorm, .*; did you mean \"momentum\"\?"):
        build_optimizer("sgd", learning_rate=0.1, options={"momentun": 0.9})


def test_learning_rate_is_no_option():
    with pytest.raises(ValueError, match="'sgd' has no option 'learning_rate'"):
        build_optimizer("sgd", learning_rate=0.1, options={"learning_rate": 0.2})
