import inspect

import keras
import numpy as np
import pytest

from stml_tf import registry
from stml_tf.errors import UserError
from stml_tf.optimizers.adamp import AdamP
from stml_tf.optimizers.by_name import build_optimizer
from stml_tf.optimizers.schedules import EpochSchedule

# Wrappers of other optimizers, and the base class, have no learning rate of their own.
OF_KERAS = {
    found.__name__.lower(): found
    for found in vars(keras.optimizers).values()
    if inspect.isclass(found)
    and issubclass(found, keras.optimizers.Optimizer)
    and "learning_rate" in inspect.signature(found).parameters
}
NEWEST = {"muon", "schedulefreeadamw"}  # not in every Keras that the package runs with


def test_the_register_holds_adamp_and_every_optimizer_of_keras():
    assert set(registry.optimizers) - NEWEST <= {"adamp", *OF_KERAS} <= set(registry.optimizers)


@pytest.mark.parametrize("name", sorted({"adamp", *OF_KERAS}))
def test_every_optimizer_moves_down_the_gradient(name):
    variable = keras.Variable(np.full((3, 2), 0.5), dtype="float32", name="kernel")
    optimizer = build_optimizer(name, learning_rate=0.01, weight_decay=0.0)
    optimizer.build([variable])
    optimizer.apply([np.ones((3, 2), "float32")])
    assert isinstance(optimizer, {"adamp": AdamP, **OF_KERAS}[name])
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


def test_an_optimizer_of_a_later_keras_is_refused(monkeypatch):
    monkeypatch.delattr(keras.optimizers, "SGD")
    with pytest.raises(UserError, match=r"'sgd' is not in Keras 3\.\d+\.\d+: upgrade Keras"):
        build_optimizer("sgd", learning_rate=0.1)


def test_unknown_name_is_met_with_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown optimizer \"AdamPP\"; allowed: .*sgd.*; did you mean \"adamp\"\?"):
        build_optimizer("AdamPP", learning_rate=0.1)


def test_unknown_option_is_met_with_the_nearest():
    with pytest.raises(ValueError, match=r"no option 'momentun'; allowed: clipnorm, .*; did you mean \"momentum\"\?"):
        build_optimizer("sgd", learning_rate=0.1, options={"momentun": 0.9})


def test_learning_rate_is_no_option():
    with pytest.raises(ValueError, match="'sgd' has no option 'learning_rate'"):
        build_optimizer("sgd", learning_rate=0.1, options={"learning_rate": 0.2})
