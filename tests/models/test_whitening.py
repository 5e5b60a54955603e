import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stml_tf.errors import UserError
from stml_tf.models.whitening import choose_whitening, fit_whitening, principal_components, views_found


@pytest.fixture
def features(random):
    return random.normal(3.0, 1.0, (60, 8)) @ random.normal(size=(8, 8))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_it_is_the_singular_value_decomposition_of_centred_features(features, power):
    whitening = fit_whitening(features, dim=5, power=power)
    centered = features - features.mean(axis=0)
    _, values, directions = np.linalg.svd(centered, full_matrices=False)
    expected = centered @ directions[:5].T / values[:5] ** power
    expected /= np.sqrt(np.mean(expected**2))
    # A direction has no sign.
    np.testing.assert_allclose(np.abs(whitening(features)), np.abs(expected), atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(3, 40), st.integers(2, 10), st.floats(0, 1), st.integers(0, 2**31))
def test_training_features_come_out_centred_and_decorrelated(images, channels, power, seed):
    random = np.random.default_rng(seed)
    features = random.normal(5.0, 1.0, (images, channels)) * random.uniform(0.1, 10.0, channels)
    dim = len(principal_components(features).deviations)
    out = fit_whitening(features, dim=dim, power=power)(features).astype(np.float64)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-3)
    covariance = out.T @ out / images
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-3)
    np.testing.assert_allclose(np.trace(covariance), dim, rtol=1e-3)


def test_full_whitening_gives_every_direction_the_same_variance(features):
    out = fit_whitening(features, dim=8, power=1.0)(features)
    np.testing.assert_allclose(out.T @ out / len(out), np.eye(8), atol=1e-5)


def test_power_0_in_all_dimensions_keeps_distances(features):
    out = fit_whitening(features, dim=8, power=0.0)(features)
    before = np.linalg.norm(features[:, None] - features[None], axis=2)
    after = np.linalg.norm(out[:, None] - out[None], axis=2)
    np.testing.assert_allclose(after / after.max(), before / before.max(), atol=1e-5)


def test_a_head_starts_as_the_whitening(features):
    whitening = fit_whitening(features, dim=5)
    head = keras.layers.Dense(5)
    head.build((None, 8))
    whitening.start(head)
    np.testing.assert_allclose(head(features.astype(np.float32)), whitening(features), rtol=1e-4, atol=1e-5)


def test_a_wider_head_starts_with_the_same_distances(features):
    whitening = fit_whitening(features, dim=5)
    head = keras.layers.Dense(9)
    head.build((None, 8))
    whitening.start(head)
    out, expected = head(features.astype(np.float32)), whitening(features)
    distances = [np.linalg.norm(each[:, None] - each[None], axis=2) for each in (np.asarray(out), expected)]
    np.testing.assert_allclose(*distances, atol=1e-4)
    assert np.all(np.std(out, axis=0) > 0.01)


def test_a_head_that_does_not_fit_is_refused(features):
    head = keras.layers.Dense(4, name="f")
    head.build((None, 8))
    with pytest.raises(UserError, match=r"from 8 to 5 dimensions does not fit the head f, which is \[8, 4\]"):
        fit_whitening(features, dim=5).start(head)


def test_directions_without_variance_do_not_count(features):
    flat = np.concatenate([features, features[:, :2], np.ones((60, 3))], axis=1)
    assert len(principal_components(flat).deviations) == 8


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (slice(60), {"dim": 9}, "Features with 8 directions cannot be whitened to 9 dimensions; allowed: 1 to 8"),
        (slice(5), {"dim": 5}, "Features with 4 directions cannot be whitened to 5 dimensions.*or add images"),
        (slice(60), {"dim": 0}, "cannot be whitened to 0 dimensions"),
        (slice(60), {"dim": 4, "power": 1.5}, r"power=1\.5 given; allowed: from 0"),
        (slice(1), {"dim": 1}, "at least 2 images, 1 given"),
        ([0, 0, 0], {"dim": 1}, "All images have the same features"),
    ],
)
def test_what_cannot_be_whitened_is_refused(features, rows, settings, message):
    with pytest.raises(UserError, match=message):
        fit_whitening(features[rows], **settings)


def test_views_are_found_as_a_slow_form_finds_them(random):
    first, second = random.normal(size=(2, 15, 4))
    ranks = []
    for one, other in ((first, second), (second, first)):
        for i in range(15):
            cosines = [one[i] @ other[j] for j in range(15)]
            ranks.append(1 + sum(cosine > cosines[i] for cosine in cosines))
    assert views_found(first, second) == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert views_found(first, first + 0) <= 1
    assert views_found(np.eye(4), np.eye(4)) == 1


def dominated(random, noise):
    """Images told apart by many directions of deviation 1, under one of deviation 30; views add noise to each."""
    images = random.normal(size=(300, 12)) * np.array([30.0] + [1.0] * 11)
    return images, np.stack([images + noise * random.normal(size=images.shape) for _ in range(2)])


def test_a_dominant_direction_is_taken_away(random):
    images, views = dominated(random, noise=np.array([9.0] + [0.3] * 11))
    _, dim, power = choose_whitening(images, views, dims=(1, 4, 12))
    assert (dim, power) == (12, 1.0)


def test_directions_in_which_views_differ_are_not_blown_up(random):
    images = random.normal(size=(300, 12)) * np.array([3.0] * 6 + [0.05] * 6)
    noise = np.array([0.3] * 6 + [0.2] * 6)
    views = np.stack([images + noise * random.normal(size=images.shape) for _ in range(2)])
    _, dim, power = choose_whitening(images, views, dims=(12,))
    assert dim == 12
    assert power < 0.75


def test_of_what_is_about_as_good_the_smallest_power_is_taken_and_its_best_dimension(random):
    images = random.normal(size=(300, 12)) * np.linspace(2.0, 0.3, 12)
    views = np.stack([images + 0.2 * random.normal(size=images.shape) for _ in range(2)])
    dims, powers = (4, 8, 10, 12), (0.0, 0.25, 0.5, 1.0)

    def found(dim, power):
        whitened = [fit_whitening(images, dim=dim, power=power)(view) for view in views]
        return views_found(*(each / np.linalg.norm(each, axis=1, keepdims=True) for each in whitened))

    scores = {(dim, power): found(dim, power) for dim in dims for power in powers}
    power = min(power for (_, power), score in scores.items() if score >= 0.99 * max(scores.values()))
    dim = max(dims, key=lambda dim: scores[dim, power])
    assert (power, dim) == (0.0, 10), "neither the fewest nor the most dimensions"
    assert choose_whitening(images, views, dims=dims, powers=powers)[1:] == (dim, power)


def test_few_images_leave_fewer_dimensions(random):
    images, views = dominated(random, noise=0.1)
    whitening, dim, _ = choose_whitening(images[:9], views[:, :9])
    assert dim == 8
    assert whitening.kernel.shape == (12, 8)
