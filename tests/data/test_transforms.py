import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stml_tf.data.transforms import evaluation_view, random_view


@pytest.fixture
def photograph(random):
    """A smooth picture with edges, 120 high and 90 wide."""
    noise = Image.fromarray(random.integers(0, 256, (12, 9, 3), dtype=np.uint8))
    pixels = np.asarray(noise.resize((90, 120), Image.Resampling.BICUBIC)).copy()
    pixels[40:60, 20:50] = (250, 20, 90)
    return pixels


def pil_evaluation_view(pixels, resize, size):
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    resized = Image.fromarray(pixels).resize(
        (width * resize // shorter, height * resize // shorter), Image.Resampling.BILINEAR
    )
    left, top = round((resized.width - size) / 2), round((resized.height - size) / 2)
    return np.asarray(resized.crop((left, top, left + size, top + size)), np.float32)


@pytest.mark.parametrize(("resize", "size"), [(64, 64), (64, 56), (33, 32), (150, 128)])
@pytest.mark.parametrize("turned", [False, True])
def test_evaluation_view_equals_pil(photograph, resize, size, turned):
    pixels = np.ascontiguousarray(photograph.transpose(1, 0, 2)) if turned else photograph
    view = evaluation_view(pixels, size=size, resize=resize)
    expected = pil_evaluation_view(pixels, resize, size)
    assert view.shape == (size, size, 3)
    # PIL rounds to whole levels twice, once a direction.
    assert np.abs(view - expected).mean() < 0.6


def test_the_seed_alone_decides_a_view(photograph):
    def view(seed):
        return random_view(photograph, tf.constant(seed), size=32, rotation=10, shift=0.1, flip=True)

    np.testing.assert_array_equal(view([1, 2]), view([1, 2]))
    assert np.abs(view([1, 2]) - view([1, 3])).mean() > 1


def test_with_nothing_left_to_chance_a_view_is_a_plain_resize(photograph):
    view = random_view(photograph, tf.constant([0, 0]), size=48, crop_scale=(1.0, 1.0), crop_ratio=(0.75, 0.75))
    expected = np.asarray(Image.fromarray(photograph).resize((48, 48), Image.Resampling.BILINEAR), np.float32)
    assert np.abs(view - expected).mean() < 0.6


def test_flipping_mirrors_about_half_of_the_views(photograph):
    options = {"size": 40, "crop_scale": (1.0, 1.0), "crop_ratio": (0.75, 0.75)}
    plain = random_view(photograph, tf.constant([0, 0]), **options)
    views = [np.asarray(random_view(photograph, tf.constant([s, 0]), flip=True, **options)) for s in range(40)]
    mirrored = [np.allclose(view, plain[:, ::-1]) for view in views]
    assert all(m or np.allclose(view, plain) for m, view in zip(mirrored, views, strict=True))
    assert 8 <= sum(mirrored) <= 32


def test_crops_keep_the_share_of_the_area_that_was_asked_for():
    # A ramp along each axis: the range of a crop's values tells its sides.
    y, x = np.meshgrid(np.linspace(0, 255, 200), np.linspace(0, 255, 200), indexing="ij")
    ramp = np.stack([y, x, x], axis=-1).astype(np.float32)
    shares = []
    for seed in range(60):
        view = np.asarray(
            random_view(ramp, tf.constant([seed, 7]), size=50, crop_scale=(0.25, 0.36), crop_ratio=(0.9, 1.1))
        )
        shares.append(np.ptp(view[..., 0]) / 255 * np.ptp(view[..., 1]) / 255)
    assert 0.22 < min(shares) < 0.28
    assert 0.31 < max(shares) < 0.37


def test_rotation_and_shift_move_a_dot_no_further_than_allowed():
    dot = np.zeros((101, 101, 3), np.float32)
    dot[48:53, 88:93] = 255  # 40 px right of the centre
    angles, radii = [], []
    for seed in range(60):
        view = random_view(dot, tf.constant([3, seed]), size=101, crop_scale=(1, 1), crop_ratio=(1.0, 1.0), rotation=20)
        row, column = np.argwhere(np.asarray(view)[..., 0] > 100).mean(axis=0) - 50
        angles.append(np.degrees(np.arctan2(row, column)))
        radii.append(np.hypot(row, column))
    np.testing.assert_allclose(radii, 40, atol=0.7)
    assert -20.7 < min(angles) < -12 and 12 < max(angles) < 20.7

    shifts = []
    for seed in range(60):
        view = random_view(dot, tf.constant([4, seed]), size=101, crop_scale=(1, 1), crop_ratio=(1.0, 1.0), shift=0.05)
        shifts.append(np.argwhere(np.asarray(view)[..., 0] > 100).mean(axis=0) - (50, 90))
    assert np.abs(shifts).max() < 5.6
    assert np.ptp(shifts, axis=0).min() > 6


def test_what_comes_in_from_outside_continues_the_border():
    white = np.full((60, 60, 3), 255, np.uint8)
    view = random_view(white, tf.constant([1, 1]), size=30, rotation=45, shift=0.2)
    np.testing.assert_allclose(view, 255, rtol=1e-6)
