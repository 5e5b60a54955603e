import colorsys

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import gaussian_filter1d

from stml_tf.data.colors import random_colors
from stml_tf.data.transforms import random_view

SEEDS = [(seed, 5) for seed in range(12)]
LIGHTNESS = np.array([0.299, 0.587, 0.114])


@pytest.fixture
def view(random):
    return random.uniform(40, 200, (9, 11, 3)).astype(np.float32)


def changed(view, seed, **settings):
    return np.asarray(random_colors(tf.constant(view), tf.constant(seed), **settings))


def fitted_factor(differences, before):
    """The number that `before` was multiplied by, and whether it was one number."""
    factor = (differences * before).sum() / (before * before).sum()
    np.testing.assert_allclose(differences, factor * before, atol=1e-2)
    return factor


def test_nothing_is_changed_by_default(view):
    np.testing.assert_array_equal(changed(view, (1, 2)), view)


@pytest.mark.parametrize("seed", SEEDS)
def test_factors_stay_within_their_range(view, seed):
    dim = 80 + view / 8  # far from 0 and 255, where clipping would hide the factor
    grey = dim @ LIGHTNESS
    assert 0.7 <= fitted_factor(changed(dim, seed, brightness=0.3), dim) <= 1.3
    assert 0.7 <= fitted_factor(changed(dim, seed, contrast=0.3) - grey.mean(), dim - grey.mean()) <= 1.3
    away = dim - grey[..., None]
    assert 0.7 <= fitted_factor(changed(dim, seed, saturation=0.3) - grey[..., None], away) <= 1.3


def test_factors_differ_from_seed_to_seed_and_are_the_same_for_one(view):
    for name in ("brightness", "contrast", "saturation", "hue", "blur"):
        found = [changed(view, seed, **{name: 0.4}) for seed in SEEDS]
        assert len({each.tobytes() for each in found}) > len(SEEDS) / 2, name  # a very small blur is none
        np.testing.assert_array_equal(found[3], changed(view, SEEDS[3], **{name: 0.4}))


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_hue_turns_every_pixel_by_one_angle(view, seed):
    def hues(image):
        return np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in image.reshape(-1, 3) / 255])

    turned = changed(view, seed, hue=0.2)
    turn = (hues(turned) - hues(view) + 0.5) % 1 - 0.5
    np.testing.assert_allclose(turn, np.median(turn), atol=1e-3)
    assert 0 < abs(np.median(turn)) <= 0.2
    np.testing.assert_allclose(turned.max(axis=-1), view.max(axis=-1), rtol=1e-4)


def test_greyscale_comes_as_often_as_asked(view):
    grey = np.repeat((view @ LIGHTNESS)[..., None], 3, axis=-1)
    found = [np.allclose(changed(view, (seed, 0), greyscale=0.3), grey, atol=1e-2) for seed in range(200)]
    assert 0.2 < np.mean(found) < 0.4
    np.testing.assert_allclose(changed(view, (0, 0), greyscale=1.0), grey, rtol=1e-5)


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_blur_is_a_gaussian_of_up_to_the_deviation(view, seed):
    blurred = changed(view, seed, blur=1.5)

    def error(deviation):
        expected = view
        for axis in (0, 1):
            expected = gaussian_filter1d(expected, deviation, axis=axis, mode="nearest", radius=5)
        return np.abs(blurred - expected).max()

    assert min(error(deviation) for deviation in np.linspace(0.01, 1.5, 300)) < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_pixels_stay_within_0_and_255(random, seed):
    view = random.choice([0.0, 255.0, 128.0], (8, 8, 3)).astype(np.float32)
    out = changed(view, seed, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5, greyscale=0.2, blur=1.0)
    assert np.isfinite(out).all()
    assert out.min() >= -1e-3
    assert out.max() <= 255.001


def test_crops_stay_the_same_whatever_happens_to_colours(random):
    pixels = np.repeat(random.integers(0, 256, (20, 20, 1)), 3, axis=-1).astype(np.uint8)
    plain, colored = (random_view(pixels, (3, 4), size=8, flip=True, **more) for more in ({}, {"saturation": 0.9}))
    np.testing.assert_allclose(plain, colored, atol=1e-2)  # a grey image has no saturation to change
