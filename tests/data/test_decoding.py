import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stml_tf.data.decoding import UnreadableImageError, read_image

GREY = np.add.outer(np.arange(24) * 5, np.arange(20) * 6).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
ALPHA = np.add.outer(np.arange(24) * 7, np.arange(20) * 3).astype(np.uint8)
RGBA = np.dstack([RGB, ALPHA])
GREY_16 = (GREY.astype(np.uint16) << 8) + 200
PALETTE = Image.fromarray(RGB).quantize(16)


def encoded(image, file_format, **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, file_format, **options)
    return buffer.getvalue()


def as_rgb(grey):
    return np.repeat(grey[..., None], 3, axis=-1)


def palette_rgb(image):
    return np.asarray(image.getpalette(), np.uint8).reshape(-1, 3)[np.asarray(image)]


ONE_BIT = Image.fromarray(GREY).convert("1")

LOSSLESS = {
    "png rgb": (encoded(RGB, "PNG"), RGB),
    "png grey": (encoded(GREY, "PNG"), as_rgb(GREY)),
    "png grey, one transparent": (encoded(GREY, "PNG", transparency=5), as_rgb(GREY)),
    "png grey and alpha": (encoded(Image.fromarray(np.dstack([GREY, ALPHA]), "LA"), "PNG"), as_rgb(GREY)),
    "png rgba": (encoded(RGBA, "PNG"), RGB),
    "png 16 bits": (encoded(GREY_16, "PNG"), as_rgb(GREY)),
    "png 1 bit": (encoded(ONE_BIT, "PNG"), as_rgb(np.asarray(ONE_BIT).astype(np.uint8) * 255)),
    "png palette": (encoded(PALETTE, "PNG"), palette_rgb(PALETTE)),
    "png palette and alpha": (
        encoded(PALETTE, "PNG", transparency=bytes([0, 128, 255, 40])),
        palette_rgb(PALETTE),
    ),
    "png palette, one transparent": (encoded(PALETTE, "PNG", transparency=3), palette_rgb(PALETTE)),
    "gif": (encoded(PALETTE, "GIF"), palette_rgb(PALETTE)),
    "gif of two frames": (
        encoded(PALETTE, "GIF", save_all=True, append_images=[Image.fromarray(255 - RGB)]),
        palette_rgb(PALETTE),
    ),
    "gif, one transparent": (
        encoded(PALETTE, "GIF", transparency=3),
        np.where(np.asarray(PALETTE)[..., None] == 3, 0, palette_rgb(PALETTE)).astype(np.uint8),
    ),
    "bmp": (encoded(RGB, "BMP"), RGB),
    "bmp grey": (encoded(GREY, "BMP"), as_rgb(GREY)),
    "webp": (encoded(RGB, "WEBP", lossless=True), RGB),
}
# TensorFlow refuses these, or shows a palette's indices.
NOT_IN_TENSORFLOW = {
    "bmp 1 bit": (encoded(ONE_BIT, "BMP"), as_rgb(np.asarray(ONE_BIT).astype(np.uint8) * 255)),
    "bmp palette": (encoded(PALETTE, "BMP"), palette_rgb(PALETTE)),
    "webp rgba": (encoded(RGBA, "WEBP", lossless=True, exact=True), RGB),
}
JPEG = {
    "jpeg rgb": (encoded(RGB, "JPEG", quality=100, subsampling=0), RGB),
    "jpeg grey": (encoded(GREY, "JPEG", quality=100), as_rgb(GREY)),
    "jpeg cmyk": (encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=100), RGB),
}
READABLE = LOSSLESS | NOT_IN_TENSORFLOW | JPEG


@pytest.mark.parametrize("kind", LOSSLESS | NOT_IN_TENSORFLOW)
@pytest.mark.filterwarnings("error")
def test_every_kind_comes_out_as_rgb(kind):
    content, expected = READABLE[kind]
    image = read_image(content)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("kind", JPEG)
def test_jpeg_comes_out_close_to_what_was_encoded(kind):
    content, expected = READABLE[kind]
    np.testing.assert_allclose(read_image(content).astype(int), expected.astype(int), atol=8)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_agrees_with_tensorflow(kind):
    tf = pytest.importorskip("tensorflow")
    content, _ = READABLE[kind]
    np.testing.assert_array_equal(read_image(content), tf.io.decode_image(content, channels=3, expand_animations=False))


@pytest.mark.parametrize("kind", JPEG)
def test_agrees_with_tensorflow_on_jpeg(kind):
    tf = pytest.importorskip("tensorflow")
    content, _ = READABLE[kind]
    theirs = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    np.testing.assert_allclose(read_image(content).astype(int), theirs.astype(int), atol=1)


def test_orientation_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    assert read_image(encoded(RGB, "JPEG", exif=exif)).shape == RGB.shape


def test_a_path_is_read_and_its_suffix_does_not_matter(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(READABLE["png rgb"][0])
    np.testing.assert_array_equal(read_image(path), RGB)


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"hello, I am no image", "it is no JPEG, PNG, BMP, GIF or WebP image"),
        (encoded(RGB, "TIFF"), "it is no JPEG, PNG, BMP, GIF or WebP image"),
        (READABLE["jpeg rgb"][0][:-300], "truncated"),
    ],
)
def test_an_unreadable_file_is_named_with_the_reason(tmp_path, content, reason):
    path = write(tmp_path / "broken.jpg", content)
    with pytest.raises(ValueError, match=rf"cannot read .*broken\.jpg: .*{reason}") as caught:
        read_image(path)
    assert "broken.jpg" not in caught.value.reason


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*gone\.png: No such file"):
        read_image(tmp_path / "gone.png")


def test_bytes_are_called_bytes():
    with pytest.raises(ValueError, match="cannot read an image given as bytes: it is empty"):
        read_image(b"")


def png_header(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize("side", [10_000, 30_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_an_error(side):
    bomb = png_header(side, side) + encoded(RGB, "PNG")[33:]
    with pytest.raises(ValueError, match=r"pixels are more than the 89,478,485 allowed|exceeds limit"):
        read_image(bomb)


@pytest.mark.parametrize("kind", sorted(READABLE.keys() - {"gif of two frames"}))
def test_half_a_file_is_unreadable(kind):
    content, _ = READABLE[kind]
    with pytest.raises(UnreadableImageError):
        read_image(content[: len(content) // 2])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(READABLE)), st.data())
def test_damage_gives_an_image_or_our_error_and_nothing_else(kind, data):
    content = bytearray(READABLE[kind][0])
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[position] = data.draw(st.integers(0, 255))
    try:
        image = read_image(bytes(content))
    except UnreadableImageError as error:
        assert error.reason
    else:
        assert image.ndim == 3
        assert image.shape[-1] == 3
