import weakref

import keras
import numpy as np
import pytest

from stml_tf.fitting.rewhitening import FeaturesOfStep, RewhitenCallback, apply_head
from stml_tf.models.whitening import fit_whitening


def head(units):
    layer = keras.layers.Dense(units)
    layer.build((None, 6))
    return layer


def distances(embeddings):
    return np.linalg.norm(embeddings[:, None] - embeddings[None], axis=2)


@pytest.fixture
def features(random):
    return (random.normal(size=(40, 6)) @ random.normal(size=(6, 6))).astype(np.float32)


def test_heads_become_the_whitening_of_the_features_at_the_end_of_an_epoch(features):
    heads = [head(4), head(5)]
    callback = RewhitenCallback(FeaturesOfStep(lambda: features, lambda: 0), heads, power=0.5)
    before = [apply_head(each, features) for each in heads]
    callback.on_epoch_begin(0)
    callback.on_train_batch_begin(0)
    callback.on_train_batch_end(0)
    for each, embeddings in zip(heads, before, strict=True):
        np.testing.assert_array_equal(apply_head(each, features), embeddings)
    callback.on_epoch_end(0, {})
    expected = distances(fit_whitening(features, dim=4, power=0.5)(features))
    for each in heads:
        np.testing.assert_allclose(distances(apply_head(each, features)), expected, rtol=1e-3, atol=1e-4)


def test_fewer_directions_than_dimensions_are_enough(features):
    wide = head(16)
    RewhitenCallback(FeaturesOfStep(lambda: features, lambda: 0), [wide], power=1.0).on_epoch_end(0, {})
    expected = distances(fit_whitening(features, dim=6, power=1.0)(features))
    np.testing.assert_allclose(distances(apply_head(wide, features)), expected, rtol=1e-3, atol=1e-4)


def test_features_are_computed_once_a_step():
    steps, computed = [0], []
    features = FeaturesOfStep(lambda: computed.append(steps[0]) or np.full((2, 1), steps[0]), lambda: steps[0])
    for step in (0, 0, 3, 3, 0):
        steps[0] = step
        np.testing.assert_array_equal(features(), np.full((2, 1), step))
    assert computed == [0, 3, 0]


def test_no_features_stay_in_memory_while_steps_are_taken():
    features = FeaturesOfStep(lambda: np.zeros((2, 1), np.float32), lambda: 0)
    kept = weakref.ref(features())
    assert kept() is features()
    RewhitenCallback(features, [], power=0.5).on_train_batch_begin(0)
    assert kept() is None


def test_a_head_outside_the_network_is_the_head(features):
    layer = head(4)
    layer.set_weights([layer.kernel.numpy(), np.arange(4.0)])
    np.testing.assert_allclose(apply_head(layer, features), layer(features), rtol=1e-5, atol=1e-5)
