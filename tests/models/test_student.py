import keras
import numpy as np
import pytest

from stml_tf.models import build_student, head_variables


@pytest.mark.parametrize("shape", [(48, 48), (33, 70)])
def test_any_image_size_gives_two_embeddings(random, shape):
    student = build_student("conv4", embedding_dim=6, teacher_dim=10)
    f, g = student(random.normal(size=(3, *shape, 3)).astype(np.float32))
    assert f.shape == (3, 6)
    assert g.shape == (3, 10)


def test_heads_stand_on_average_plus_max_of_the_features(random):
    student = build_student("conv4", embedding_dim=6, teacher_dim=10)
    images = random.normal(size=(2, 48, 48, 3)).astype(np.float32)
    features = np.asarray(student.get_layer("conv4")(images))
    pooled = features.mean(axis=(1, 2)) + features.max(axis=(1, 2))
    for output, name in zip(student(images), ("f", "g"), strict=True):
        kernel, bias = student.get_layer(name).get_weights()
        np.testing.assert_allclose(output, pooled @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_a_wide_head_starts_by_keeping_distances():
    kernel, _ = build_student("conv4", embedding_dim=8, teacher_dim=300).get_layer("g").get_weights()
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(256), atol=1e-5)


def test_head_variables_are_the_two_heads_alone():
    student = build_student("conv4", embedding_dim=6, teacher_dim=10)
    assert [tuple(v.shape) for v in head_variables(student)] == [(256, 6), (6,), (256, 10), (10,)]


def test_a_keras_application_is_a_backbone(random):
    student = build_student("MobileNetV3Small", embedding_dim=4, teacher_dim=5)
    f, g = student(random.uniform(0, 255, (2, 64, 64, 3)).astype(np.float32))
    assert (f.shape, g.shape) == ((2, 4), (2, 5))


def test_frozen_batch_norm_keeps_statistics_scale_and_offset(random):
    student = build_student("conv4", embedding_dim=4, teacher_dim=4, freeze_batch_norm=True)
    norm = student.get_layer("conv4").get_layer("norm1")
    before = [weight.copy() for weight in norm.get_weights()]
    student(random.normal(3.0, 2.0, (8, 32, 32, 3)).astype(np.float32), training=True)
    for a, b in zip(before, norm.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any("norm" in variable.path for variable in student.trainable_variables)


def test_free_batch_norm_follows_the_batch(random):
    student = build_student("conv4", embedding_dim=4, teacher_dim=4)
    conv, norm = (student.get_layer("conv4").get_layer(name) for name in ("conv1", "norm1"))
    images = random.normal(3.0, 2.0, (8, 32, 32, 3)).astype(np.float32)
    student(images, training=True)
    np.testing.assert_allclose(norm.moving_mean, 0.1 * np.mean(conv(images), axis=(0, 1, 2)), rtol=1e-3, atol=1e-5)


def test_backbone_weights_are_loaded_from_a_file(tmp_path):
    first = build_student("conv4", embedding_dim=4, teacher_dim=4)
    path = tmp_path / "conv4.weights.h5"
    first.get_layer("conv4").save_weights(path)
    second = build_student("conv4", embedding_dim=4, teacher_dim=4, weights=str(path))
    for a, b in zip(first.get_layer("conv4").weights, second.get_layer("conv4").weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(path)
    with pytest.raises(ValueError, match=r"other\.weights\.h5 holds no weights for conv4"):
        build_student("conv4", embedding_dim=4, teacher_dim=4, weights=str(path))


def test_imagenet_weights_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="conv4 has no ImageNet weights"):
        build_student("conv4", embedding_dim=4, teacher_dim=4, weights="imagenet")


@pytest.mark.parametrize("name", ["conv5", "resnet"])
def test_an_unknown_backbone_is_refused(name):
    with pytest.raises(ValueError, match=f'Unknown backbone "{name}"; allowed: ConvNeXtBase, .*conv4'):
        build_student(name, embedding_dim=4, teacher_dim=4)


def test_a_width_of_zero_is_refused():
    with pytest.raises(ValueError, match="embedding_dim=0 and teacher_dim=4 must be at least 1"):
        build_student("conv4", embedding_dim=0, teacher_dim=4)
