import numpy as np
import pytest
from PIL import Image, ImageFilter

from stml_tf.data.image_quality import BLANK, measure_quality


def photograph(seed=0, size=(160, 120), detail=40):
    """Noise with coarse and fine structure, as photographs have."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    fine = random.integers(-detail, detail + 1, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(coarse, np.int64) + fine).clip(0, 255).astype(np.uint8))


def quality(image):
    return measure_quality(np.asarray(image.convert("RGB")))


def flags(measured):
    return {name for name in ("blank", "dark", "grey", "huge", "blurred") if getattr(measured, f"is_{name}")}


def test_a_photograph_has_no_fault():
    measured = quality(photograph())
    assert (measured.width, measured.height, measured.shorter_side) == (160, 120, 120)
    assert flags(measured) == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda image: image.filter(ImageFilter.GaussianBlur(6)), {"blurred"}),
        (lambda image: image.point(lambda value: value // 4), {"dark"}),
        (lambda image: image.convert("L"), {"grey"}),
        (lambda image: Image.new("RGB", image.size, (250, 250, 250)), {"blank", "grey"}),
        (lambda image: Image.new("RGB", image.size, (0, 90, 200)), {"blank"}),
    ],
)
def test_each_fault_is_seen_and_no_other(change, expected):
    assert flags(quality(change(photograph()))) == expected


def test_a_bright_thing_on_a_black_ground_is_not_dark():
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[45:60, 45:60] = 220
    assert flags(measure_quality(pixels)) == {"grey"}
    assert "dark" in flags(measure_quality(pixels // 8))


def test_an_image_is_judged_at_the_size_that_a_network_sees():
    """Enlarged four times, its own pixels are soft, but a copy of 128 pixels is as sharp as before."""
    image = photograph(size=(150, 128))
    assert not quality(image.resize((600, 512), Image.Resampling.BICUBIC)).is_blurred
    assert quality(image.resize((37, 32)).resize((600, 512), Image.Resampling.BICUBIC)).is_blurred


def test_huge_is_a_matter_of_pixels():
    pixels = np.broadcast_to(np.uint8(128), (5001, 5000, 3))
    assert measure_quality(pixels).is_huge
    assert not measure_quality(pixels[:5000]).is_huge


@pytest.mark.parametrize("shape", [(1, 1), (2, 50), (50, 1), (3, 3), (1000, 2)])
def test_the_smallest_and_thinnest_are_measured(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    measured = measure_quality(pixels)
    assert (measured.height, measured.width) == shape
    assert np.isfinite(measured.contrast) and not measured.is_blurred


def test_contrast_and_colour_are_what_they_say():
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:5] = (100, 100, 100)
    measured = measure_quality(pixels)
    assert measured.contrast == pytest.approx(50, abs=0.1) and measured.contrast > BLANK
    assert measured.color == 0
    pixels[..., 0] += 30
    assert measure_quality(pixels).color == pytest.approx(30)
