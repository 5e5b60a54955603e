import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from stml_tf.models import build_student, computing_in, in_float32, trains_single_channels


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


@pytest.mark.parametrize("backbone", ["conv4", "efficientnet_lite0", "resnet18", "vit_small_14_dinov2", "googlenet"])
def test_a_network_of_half_precision_computes_in_float32_where_it_is_told_to(backbone, random):
    half, full = (build_in(precision, backbone) for precision in ("mixed_bfloat16", "float32"))
    full.set_weights(half.get_weights())
    images = random.normal(size=(2, 56, 56, 3)).astype("float32")

    def embed(network):
        return tf.function(lambda images: network(images, training=False)[0])

    told = embed(half)
    with in_float32(half):
        in_block = told(images)
    np.testing.assert_array_equal(in_block, embed(full)(images))
    np.testing.assert_array_equal(told(images), in_block)
    assert np.abs(embed(half)(images) - in_block).max() > 0, "outside it computes as it was built"


def build_in(precision, backbone):
    with computing_in(precision):
        return build_student(backbone, embedding_dim=8, teacher_dim=8)
