import numpy as np
import pytest
from PIL import Image

from stml_tf.data.bit_depth import bits_used
from stml_tf.data.catalog import ImageSet


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize(("brightest", "bits"), [(255, 8), (700, 10), (1023, 10), (4095, 12), (65_535, 16)])
def test_the_brightest_pixel_tells_the_bits(tmp_path, suffix, brightest, bits):
    for number, value in enumerate((3, brightest, 90)):
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / f"{number}.{suffix}")
    Image.fromarray(np.full((4, 4), 255, np.uint8)).save(tmp_path / "8 bits.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    files = sorted(tmp_path.iterdir())
    assert bits_used(ImageSet(files)) == bits_used(ImageSet([file.read_bytes() for file in files])) == bits


def test_files_of_8_bits_and_pixels_tell_nothing(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "black.png")
    assert bits_used(ImageSet([tmp_path / "black.png"])) is None
    assert bits_used(ImageSet(np.zeros((3, 4, 4, 3), np.uint8))) is None
    assert bits_used(ImageSet([])) is None
