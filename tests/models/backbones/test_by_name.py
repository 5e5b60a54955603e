import inspect
import sys

import keras
import numpy as np
import pytest

from stml_tf import registry
from stml_tf.models import build_backbone, build_student, build_teacher, preprocessing

OWN = [name for name, entry in registry.backbones.items() if not entry.named_weights]
# The other ResNets are made of the same parts; vision transformers have tests of their own.
NETWORKS = [name for name in OWN if name not in ("resnet34", "resnet50") and not name.startswith("vit")]
NORMALISED = [name for name in NETWORKS if name != "googlenet"]


def norms_of(student, backbone):
    return [x for x in student.get_layer(backbone).layers if isinstance(x, keras.layers.BatchNormalization)]


def test_conv4_takes_pixels_between_minus_one_and_one():
    pixels = np.array([0.0, 127.5, 255.0], np.float32).reshape(1, 1, 3)
    np.testing.assert_allclose(preprocessing("conv4")(pixels).ravel(), [-1, 0, 1])


def test_a_keras_application_takes_pixels_by_its_own_convention(random):
    pixels = random.uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    expected = keras.applications.resnet.preprocess_input(pixels.copy())
    np.testing.assert_allclose(preprocessing("ResNet50")(pixels.copy()), expected)
    assert not np.allclose(expected, pixels)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("googlenet", [50 - 104, 100 - 117, 200 - 128]),
        ("bn_inception", [50 - 104, 100 - 117, 200 - 128]),
        ("resnet18", [(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225]),
        ("resnet34", [(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225]),
        ("resnet50", [(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225]),
        ("efficientnet_lite0", [73 / 128, -27 / 128, -77 / 128]),
    ],
)
def test_each_network_takes_pixels_by_its_own_convention(name, expected):
    pixels = np.broadcast_to(np.array([200.0, 100.0, 50.0], np.float32), (2, 4, 5, 3))
    out = np.asarray(preprocessing(name)(keras.ops.convert_to_tensor(pixels)))
    np.testing.assert_allclose(out, np.broadcast_to(np.float32(expected), (2, 4, 5, 3)), rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_any_image_size_is_taken(name, random):
    backbone = build_backbone(name)
    for height, width in ((64, 64), (75, 98)):
        features = np.asarray(backbone(random.normal(size=(1, height, width, 3)).astype(np.float32)))
        stride = 16 if name == "conv4" else 32
        assert abs(features.shape[1] - height / stride) <= 1
        assert abs(features.shape[2] - width / stride) <= 1
        assert features.shape[3] == backbone.output_shape[-1]
        assert np.isfinite(features).all()
        assert features.std() > 0


@pytest.mark.parametrize("name", NORMALISED)
def test_frozen_batch_norm_keeps_statistics_scale_and_offset(name, random):
    student = build_student(name, embedding_dim=4, teacher_dim=4, freeze_batch_norm=True)
    norms = norms_of(student, name)
    before = [weight for norm in norms for weight in norm.get_weights()]
    student(random.normal(3.0, 2.0, (2, 64, 64, 3)).astype(np.float32), training=True)
    for a, b in zip(before, [weight for norm in norms for weight in norm.get_weights()], strict=True):
        np.testing.assert_array_equal(a, b)
    trained = {id(variable) for variable in student.trainable_variables}
    assert len(norms) >= 4
    assert not any(id(weight) in trained for norm in norms for weight in norm.weights)
    assert any(variable.path.endswith("kernel") for variable in student.trainable_variables[:-4])


@pytest.mark.parametrize("name", NORMALISED)
def test_free_batch_norm_follows_the_batch(name, random):
    student = build_student(name, embedding_dim=4, teacher_dim=4)
    images = random.normal(3.0, 2.0, (2, 64, 64, 3)).astype(np.float32)
    student(images, training=True)
    norms = norms_of(student, name)
    seen = keras.Model(student.get_layer(name).input, [norm.input for norm in norms])
    moved = [np.asarray(norm.moving_variance) for norm in norms]
    for norm, after, features in zip(norms, moved, seen(images, training=True), strict=True):
        expected = norm.momentum + (1 - norm.momentum) * np.var(features, axis=(0, 1, 2))
        np.testing.assert_allclose(after, expected, rtol=1e-2, atol=1e-5, err_msg=norm.name)


@pytest.mark.parametrize("name", ["googlenet", "resnet18"])
def test_a_teacher_is_a_copy(name, random):
    student = build_student(name, embedding_dim=4, teacher_dim=6)
    images = random.normal(size=(2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(build_teacher(student)(images), student(images)[1], rtol=1e-4, atol=1e-5)


def test_a_network_survives_serialisation():
    backbone = build_backbone("googlenet")
    copy = keras.Model.from_config(backbone.get_config())
    assert [layer.get_config() for layer in copy.layers] == [layer.get_config() for layer in backbone.layers]


def test_keras_networks_are_those_of_keras_applications():
    offered = {name for name, found in vars(keras.applications).items() if inspect.isfunction(found)}
    of_keras = {name: entry for name, entry in registry.backbones.items() if entry.named_weights}
    assert offered == set(of_keras)
    for name, entry in of_keras.items():
        build, preprocess = map(registry.resolve, (entry.build, entry.preprocess))
        assert build is getattr(keras.applications, name)
        assert preprocess is sys.modules[build.__module__].preprocess_input
