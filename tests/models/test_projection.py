import numpy as np
import pytest
from keras.layers import BatchNormalization

from stml_tf.models import build_mlp, build_projection_student, build_teacher


def build(**options):
    return build_projection_student("conv4", embedding_dim=6, hidden_dim=12, **options)


def test_the_head_is_an_mlp_on_average_plus_max_of_the_features(random):
    student = build(batch_norm=False)
    images = random.normal(size=(2, 32, 32, 3)).astype(np.float32)
    features = np.asarray(student.get_layer("conv4")(images))
    pooled = features.mean(axis=(1, 2)) + features.max(axis=(1, 2))
    kernel, bias, last_kernel, last_bias = student.get_layer("g").get_weights()
    expected = np.maximum(pooled @ kernel + bias, 0) @ last_kernel + last_bias
    for output in student(images):
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


def test_the_features_below_the_head_may_be_the_embedding(random):
    student = build(embedding="features")
    images = random.normal(size=(2, 32, 32, 3)).astype(np.float32)
    embedding, projection = student(images)
    maps = np.asarray(student.get_layer("conv4")(images))
    np.testing.assert_allclose(embedding, maps.mean(axis=(1, 2)) + maps.max(axis=(1, 2)), rtol=1e-5)
    assert projection.shape == (2, 6)


def test_batch_norm_stands_in_the_head_on_request_and_is_frozen_in_the_backbone_alone():
    def norms(student):
        return [v.path for v in student.trainable_variables if "gamma" in v.path]

    assert len(norms(build(batch_norm=True))) == len(norms(build(batch_norm=False))) + 1
    assert len(norms(build(batch_norm=True, freeze_batch_norm=True))) == 1


@pytest.mark.parametrize("synchronized", [True, False])
def test_batch_norm_of_trunk_and_head_is_synchronized_on_request_and_the_teachers_too(synchronized):
    student = build(synchronize_batch_norm=synchronized)
    for model in (student, build_teacher(student)):
        trunk, head = model.get_layer("conv4"), model.get_layer("g")
        norms = [[layer for layer in part.layers if isinstance(layer, BatchNormalization)] for part in (trunk, head)]
        assert [len(found) for found in norms] == [4, 1]
        assert all(layer.synchronized is synchronized for found in norms for layer in found)


def test_weights_of_a_backbone_are_loaded(tmp_path):
    first, second = build(), build()
    first.get_layer("conv4").save_weights(tmp_path / "trunk.weights.h5")
    loaded = build(weights=str(tmp_path / "trunk.weights.h5"))
    kernels = [student.get_layer("conv4").get_layer("conv1").kernel for student in (first, second, loaded)]
    assert not np.allclose(kernels[0], kernels[1])
    np.testing.assert_array_equal(kernels[0], kernels[2])


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match='is the "projection" or the "features" below it, not \'pooled\''):
        build(embedding="pooled")
    with pytest.raises(ValueError, match="hidden_dim=0 and output_dim=4 must be at least 1"):
        build_mlp(8, 0, 4)
