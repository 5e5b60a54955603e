import keras
import numpy as np
import pytest

from stml_tf.models.backbones.local_response_norm import LocalResponseNorm


def slow_form(x, size, alpha, beta):
    out = np.empty_like(x)
    channels = x.shape[-1]
    for c in range(channels):
        around = range(max(0, c - size // 2), min(channels, c + size // 2 + 1))
        mean = sum(x[..., k] ** 2 for k in around) / size
        out[..., c] = x[..., c] / (1 + alpha * mean) ** beta
    return out


@pytest.mark.parametrize(("size", "channels"), [(5, 12), (3, 7), (5, 2)])
def test_each_value_is_divided_by_its_neighbours(random, size, channels):
    x = random.normal(0, 300, (2, 3, 4, channels)).astype(np.float32)
    expected = slow_form(x, size, 1e-3, 0.6)
    np.testing.assert_allclose(LocalResponseNorm(size, 1e-3, 0.6)(x), expected, rtol=1e-5)
    assert np.abs(expected).max() < 0.5 * np.abs(x).max()


def test_it_is_that_of_pytorch(random):
    torch = pytest.importorskip("torch")
    x = random.normal(0, 300, (2, 3, 4, 12)).astype(np.float32)
    expected = torch.nn.LocalResponseNorm(5, 1e-4, 0.75, 1)(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(LocalResponseNorm()(x), expected, rtol=1e-5)


def test_squares_of_half_precision_do_not_overflow():
    features = np.full((1, 1, 1, 5), 1000.0, np.float16)
    out = np.asarray(LocalResponseNorm(dtype="mixed_float16")(features))
    assert out.dtype == np.float16
    np.testing.assert_allclose(out[0, 0, 0, 2], 1000 / 101**0.75, rtol=2e-3)


def test_settings_survive_serialisation():
    layer = LocalResponseNorm(3, 0.5, 0.25, name="lrn")
    config = keras.saving.serialize_keras_object(layer)
    assert keras.saving.deserialize_keras_object(config).get_config() == layer.get_config()
