import keras
import pytest
from keras import layers

from stml_tf.models import build_student, trains_single_channels


def network(*parts):
    return keras.Sequential([keras.Input((8, 8, 4)), *parts])


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (lambda: layers.Conv2D(8, 3), False),
        (lambda: layers.GroupNormalization(2), False),
        (lambda: layers.Conv2D(8, 3, groups=4), True),
        (lambda: layers.DepthwiseConv2D(3), True),
        (lambda: layers.SeparableConv2D(8, 3), True),
        (lambda: layers.DepthwiseConv2D(3, trainable=False), False),
        (lambda: network(layers.DepthwiseConv2D(3)), True),
    ],
)
def test_networks_that_train_single_channels_are_told_from_others(part, expected):
    assert trains_single_channels(network(layers.Conv2D(4, 1), part())) is expected


@pytest.mark.parametrize(("trainable", "expected"), [("all", True), (2, True), ("heads", False)])
def test_what_is_frozen_takes_no_gradient(trainable, expected):
    student = build_student("efficientnet_lite0", embedding_dim=8, teacher_dim=8, trainable=trainable)
    assert trains_single_channels(student) is expected
