from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf import registry
from stml_tf.errors import UserError
from stml_tf.losses import build_loss
from stml_tf.optimizers.by_name import build_optimizer
from stml_tf.option_types import require_types
from stml_tf.registry import arguments_of, resolve

ODD = (None, True, False, 0, 1, -1, 2, 0.5, -0.5, 1e30, 10**18, "", "x", "mean", [], [1], ["a"], {}, {"a": 1})
pytestmark = pytest.mark.filterwarnings("ignore")


class Receiver:
    def __init__(self, width: float = 1.0, fast: bool = False, unknown: "NoSuchType" = None) -> None:  # noqa: F821
        pass


def annotated(width: float | None = 1.0, mode: str = "a") -> None:
    pass


@pytest.mark.parametrize(
    ("build", "option", "value", "message"),
    [
        (annotated, "width", "wide", r"^Somebody, option 'width': 'wide' given; input should be a valid number\.$"),
        (annotated, "width", True, "input should be a valid number"),
        (annotated, "width", float("nan"), "input should be a finite number"),
        (annotated, "mode", 3, "input should be a valid string"),
        (Receiver, "width", [1.0], "input should be a valid number"),
        (Receiver, "fast", 1, "input should be a valid boolean"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused(build, option, value, message):
    with pytest.raises(UserError, match=message):
        require_types("Somebody", build, {option: value})


def test_the_others_pass():
    require_types("Somebody", annotated, {"width": None, "mode": "b"})
    require_types("Somebody", annotated, {"width": 2})
    require_types("Somebody", Receiver, {"width": 2, "fast": True, "unknown": object()})


def test_whatever_an_optimizers_option_is_it_takes_a_step_or_is_refused(capsys):
    outcomes = Counter()
    for name, entry in registry.optimizers.items():
        for option in arguments_of(resolve(entry.build)) - {"learning_rate", "weight_decay"}:
            for value in ODD:
                try:
                    built = build_optimizer(name, learning_rate=0.01, options={option: value})
                except UserError:
                    outcomes["refused"] += 1
                    continue
                variable = keras.Variable(np.ones((4, 3), np.float32))
                built.build([variable])
                built.apply([tf.ones((4, 3))], [variable])
                outcomes["took a step"] += 1
    with capsys.disabled():
        print(f"\noptions of optimizers: {dict(outcomes)}")
    assert outcomes["refused"] > 1_000 and outcomes["took a step"] > 400


def test_whatever_a_losses_option_is_it_is_computed_or_refused(capsys, random):
    outcomes = Counter()
    embeddings, labels = random.normal(size=(6, 4)).astype(np.float32), np.array([0, 0, 1, 1, 2, 2])
    for name, entry in registry.losses.items():
        for option in arguments_of(resolve(entry.build)) | {"name", "num_classes", "dim"}:
            for value in ODD:
                try:
                    if option in ("num_classes", "dim"):  # known from the run
                        raise UserError
                    loss = build_loss(name, num_classes=3, dim=4, **{} if option == "name" else {option: value})
                except UserError:
                    outcomes["refused"] += 1
                    continue
                assert loss(labels, embeddings).shape == ()
                outcomes["computed"] += 1
    with capsys.disabled():
        print(f"\noptions of losses: {dict(outcomes)}")
    assert outcomes["refused"] > 100 and outcomes["computed"] > 50
