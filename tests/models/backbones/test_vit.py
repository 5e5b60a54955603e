import os
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stml_tf.errors import UserError
from stml_tf.models import build_backbone, build_student, computing_in, preprocessing
from stml_tf.models.backbones.vit import ViTConfig, bicubic_matrix, build_vit, resize_positions
from tests.models.vit_slow_form import made_state, vit_tokens

PLAIN = ViTConfig(dim=12, num_heads=3, patch_size=4, grid=5, depth=2)
DINOV2 = PLAIN._replace(layer_scale=True)
REGISTERS = DINOV2._replace(num_registers=2, antialias=True)


def filled(config, **settings):
    from stml_tf.models import load_pytorch_weights

    model = build_vit(config, **settings)
    load_pytorch_weights(model, made_state(config))
    return model


def slow_cubic(x, a):
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


@pytest.mark.parametrize("config", [PLAIN, DINOV2, REGISTERS], ids=["plain", "dinov2", "registers"])
@pytest.mark.parametrize("size", [(20, 20), (8, 16), (31, 28)])
def test_tokens_are_those_of_a_slow_form(config, size, random):
    """Loops over images, tokens and heads in float64; 31 x 28 leaves pixels over."""
    images = random.normal(size=(2, *size, 3)).astype(np.float32)
    model = filled(config)
    tokens = keras.Model(model.input, model.get_layer("norm").output)(images)
    np.testing.assert_allclose(tokens, vit_tokens(made_state(config), config, images), rtol=1e-4, atol=1e-5)


def test_features_are_the_class_token_and_the_mean_of_patches(random):
    images = random.normal(size=(3, 12, 16, 3)).astype(np.float32)
    tokens = vit_tokens(made_state(REGISTERS), REGISTERS, images)
    cls, mean = tokens[:, 0], tokens[:, 3:].mean(axis=1)
    np.testing.assert_allclose(filled(REGISTERS, features="cls")(images), cls, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(filled(REGISTERS, features="patch_mean")(images), mean, rtol=1e-4, atol=1e-5)
    both = np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in (cls, mean)], axis=1)
    np.testing.assert_allclose(filled(REGISTERS)(images), both, rtol=1e-4, atol=1e-5)


def test_other_features_are_refused():
    with pytest.raises(UserError, match="features='max' must be one of cls_and_patch_mean, cls, patch_mean"):
        build_vit(PLAIN, features="max")


@settings(deadline=None, max_examples=30)
@given(st.integers(4, 40), st.integers(1, 40))
def test_positions_move_as_in_pytorch(size, new_size):
    """PyTorch's bicubic, align_corners=False: four taps, a = -0.75, indices kept within the border."""
    expected = np.zeros((new_size, size))
    for row in range(new_size):
        place = (row + 0.5) * size / new_size - 0.5
        for tap in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            expected[row, min(max(tap, 0), size - 1)] += slow_cubic(place - tap, -0.75)
    np.testing.assert_allclose(bicubic_matrix(size, new_size), expected, atol=1e-4)
    np.testing.assert_allclose(bicubic_matrix(size, keras.ops.convert_to_tensor(new_size)), expected, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(st.integers(4, 40), st.integers(2, 40))
def test_smoothed_positions_move_as_in_pil(size, new_size):
    """PyTorch's antialias=True is PIL's bicubic resize, which takes one channel of floats."""
    column = np.random.RandomState(size).standard_normal((size, 1)).astype(np.float32)
    expected = np.asarray(Image.fromarray(column).resize((1, new_size), Image.Resampling.BICUBIC))
    found = bicubic_matrix(size, new_size, antialias=True) @ column
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_positions_of_the_trained_grid_stay_as_they_are(random):
    positions = random.normal(size=(5, 5, 3)).astype(np.float32)
    assert resize_positions(positions, 5, 5) is positions


def test_sizes_known_only_in_the_graph_give_the_same(random):
    import tensorflow as tf

    model = filled(REGISTERS)
    images = random.normal(size=(2, 24, 16, 3)).astype(np.float32)
    in_graph = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3))])
    np.testing.assert_allclose(in_graph(images), model(images), rtol=1e-4, atol=1e-5)


def test_half_precision_changes_little(random):
    images = random.normal(size=(4, 20, 20, 3)).astype(np.float32)
    with computing_in("mixed_bfloat16"):
        half = filled(DINOV2)
    features = half(images)
    assert features.dtype == "float32"
    assert np.abs(features - filled(DINOV2)(images)).max() < 0.02


def test_a_network_survives_serialisation(random, tmp_path):
    model = filled(REGISTERS)
    model.save(tmp_path / "vit.keras")
    images = random.normal(size=(2, 12, 16, 3)).astype(np.float32)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "vit.keras")(images), model(images))


def test_heads_stand_on_the_features_themselves(random):
    student = build_student("vit_small_14_dinov2", embedding_dim=8, teacher_dim=4)
    f, g = student(random.normal(size=(2, 28, 42, 3)).astype(np.float32))
    assert f.shape == (2, 8)
    assert g.shape == (2, 4)
    assert student.get_layer("f").kernel.shape == (768, 8)


def test_pixels_are_taken_by_imagenets_mean_and_deviation():
    pixels = np.broadcast_to(np.float32([200, 100, 50]), (1, 2, 2, 3))
    expected = [(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225]
    np.testing.assert_allclose(np.asarray(preprocessing("vit_small_14_dinov2")(pixels))[0, 0, 0], expected, rtol=1e-5)


DINOV2_SMALL = Path(os.environ.get("STML_TF_DINOV2_SMALL", "weights/dinov2_small"))


if DINOV2_SMALL.exists():  # 85 MB that nothing here brings along; STML_TF_DINOV2_SMALL says where they are

    @pytest.mark.parametrize("size", [(112, 112), (126, 168), (224, 224), (518, 518)])
    def test_dinov2_small_computes_what_transformers_does(size, golden):
        expected = golden("dinov2_small")
        height, width = size
        model = build_backbone("vit_small_14_dinov2", weights=str(DINOV2_SMALL))
        images = np.random.RandomState(int(expected["seed"]) + height + width).standard_normal((2, height, width, 3))
        tokens = np.asarray(keras.Model(model.input, model.get_layer("norm").output)(images.astype(np.float32)))
        found = {"cls": tokens[:, 0], "patch_mean": tokens[:, 1:].mean(axis=1), "patch_5": tokens[:, 6]}
        for name, values in found.items():
            reference = expected[f"{height}x{width}_{name}"]
            np.testing.assert_allclose(values, reference, rtol=1e-4, atol=1e-4 * np.abs(reference).max(), err_msg=name)
