import functools
import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from stml_tf.data.decoding import UnreadableImageError, decode, decode_with_python, read_image
from stml_tf.data.formats.rule import Decoding
from stml_tf.data.formats.signatures import PILLOW_FORMATS, TENSORFLOW_FORMATS, format_of
from tests.data.encodings import ENCODINGS, REFUSED, alpha, encoded, picture, png, png_chunk

READABLE = sorted(ENCODINGS.keys() - REFUSED.keys())


def by_the_rule(content, background=(255, 255, 255)):
    """Pillow's pixels, turned upright and blended in float64: an independent form of the rule."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode == "I;16":
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
    share = rgba[..., 3:] / 255
    return np.floor(rgba[..., :3] * share + np.array(background) * (1 - share) + 0.5).astype(np.uint8)


# Pillow compares the transparent level with levels that it has stretched to 8 bits, so that none is transparent.
@pytest.mark.parametrize("kind", sorted(set(READABLE) - {"png, 4 bits, one transparent"}))
@pytest.mark.filterwarnings("error")
def test_every_kind_comes_out_as_pillow_reads_it(kind):
    image = read_image(ENCODINGS[kind])
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, by_the_rule(ENCODINGS[kind]))


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_is_refused_with_the_reason(kind):
    with pytest.raises(UnreadableImageError, match=f"cannot read an image given as bytes: {REFUSED[kind]}"):
        read_image(ENCODINGS[kind])


def test_the_transparent_level_of_a_file_of_4_bits_shows_the_background():
    image = read_image(ENCODINGS["png, 4 bits, one transparent"])
    level = (picture()[..., :1] >> 4).repeat(3, axis=-1)
    np.testing.assert_array_equal(image, np.where(level == 3, 255, level * 17))


def test_there_are_enough_encodings():
    assert len(ENCODINGS) >= 66


@pytest.mark.parametrize(
    "kind", ["png, alpha", "png, palette and alpha", "gif, transparent", "webp, alpha", "tiff, alpha"]
)
def test_transparency_shows_the_background(kind):
    background = (10, 150, 240)
    image = read_image(ENCODINGS[kind], Decoding(background=background))
    np.testing.assert_array_equal(image, by_the_rule(ENCODINGS[kind], background))
    assert (image == background).all(axis=-1).any()


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_what_is_hidden_under_transparency_does_not_matter(file_format, random):
    shown = np.dstack([picture(), alpha()])
    hidden = shown.copy()
    hidden[alpha() == 0, :3] = random.integers(0, 256, (int((alpha() == 0).sum()), 3))
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    np.testing.assert_array_equal(
        read_image(encoded(shown, file_format, **options)), read_image(encoded(hidden, file_format, **options))
    )


def test_a_frame_smaller_than_its_canvas_stands_on_the_background():
    image = read_image(ENCODINGS["gif, a frame smaller than its canvas"], Decoding(background=(1, 2, 3)))
    np.testing.assert_array_equal(image[:30, :40], read_image(ENCODINGS["gif"]))
    assert (image[30:] == (1, 2, 3)).all() and (image[:, 40:] == (1, 2, 3)).all()


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize(("bit_depth", "levels"), [(16, 0), (12, 43), (10, 175), (8, 255)])
def test_the_bits_that_a_camera_uses_are_kept(file_format, bit_depth, levels):
    frame = np.array([[0, 300, 700, 1023]], np.uint16)
    expected = np.minimum(frame >> (bit_depth - 8), 255).astype(np.uint8)
    image = read_image(encoded(frame, file_format), Decoding(bit_depth=bit_depth))
    np.testing.assert_array_equal(image[..., 1], expected)
    assert image[0, 2, 0] == levels or bit_depth == 16


def test_8_bit_files_do_not_ask_for_the_bit_depth():
    np.testing.assert_array_equal(read_image(ENCODINGS["png"], Decoding(bit_depth=10)), picture())


def test_alpha_of_16_bits_uses_all_of_them():
    pixels = np.array([[[1023, 512, 0, 65535], [1023, 512, 0, 0]]], ">u2")
    image = read_image(png([pixels.tobytes()], bits=16, color_type=6, size=(2, 1)), Decoding(bit_depth=10))
    np.testing.assert_array_equal(image, [[[255, 128, 0], [255, 255, 255]]])


def test_a_path_is_read_and_its_suffix_does_not_matter(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(ENCODINGS["png"])
    np.testing.assert_array_equal(read_image(path), picture())


def test_an_unreadable_file_is_named(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(ENCODINGS["jpeg, half"])
    with pytest.raises(ValueError, match=r"cannot read .*broken\.jpg: it is damaged or cut off \(.*JPEG") as caught:
        read_image(path)
    assert "broken.jpg" not in caught.value.reason
    with pytest.raises(ValueError, match=r"cannot read .*gone\.png: No such file"):
        read_image(tmp_path / "gone.png")


def too_large(side):
    """A small file that promises `side` x `side` pixels."""
    signed = struct.pack("<i", side)
    jpeg = bytearray(ENCODINGS["jpeg"])
    struct.pack_into(">HH", jpeg, jpeg.find(b"\xff\xc0") + 5, side, side)
    gif = bytearray(ENCODINGS["gif"])
    struct.pack_into("<HH", gif, 6, side, side)
    bmp = bytearray(ENCODINGS["bmp"])
    bmp[18:26] = signed + signed
    webp = bytearray(ENCODINGS["webp, lossless"])
    struct.pack_into("<I", webp, 21, (side % 2**14 - 1) << 14 | side % 2**14 - 1)
    tiff = bytearray(ENCODINGS["tiff"])
    for tag in (0x0100, 0x0101):
        place = tiff.find(struct.pack("<HHI", tag, 4, 1))
        struct.pack_into("<I", tiff, place + 8, side)
    return {
        "PNG": png([], bits=8, color_type=2, size=(side, side)),
        "JPEG": jpeg,
        "GIF": gif,
        "BMP": bmp,
        "WebP": webp,
        "TIFF": tiff,
    }


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "BMP", "WebP", "TIFF"])
def test_a_huge_image_is_refused_by_its_header(name):
    with pytest.raises(UnreadableImageError, match="pixels are more than the 67,108,864 allowed"):
        read_image(bytes(too_large(16_000)[name]))


@pytest.mark.parametrize("name", ["PNG", "BMP"])
def test_sides_whose_product_overflows_are_refused(name):
    with pytest.raises(UnreadableImageError, match="more than the 67,108,864 allowed"):
        read_image(bytes(too_large_sides(name, 2**31 - 1)))


def too_large_sides(name, side):
    if name == "PNG":
        return png([], bits=8, color_type=2, size=(side, side))
    bmp = bytearray(ENCODINGS["bmp"])
    bmp[18:26] = struct.pack("<ii", side, side)
    return bmp


def test_too_little_memory_says_nothing_about_the_file(monkeypatch):
    def no_memory(content):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr("stml_tf.data.decoding._traced_once", lambda *which: no_memory)
    with pytest.raises(MemoryError, match="out of memory while decoding an image given as bytes"):
        read_image(ENCODINGS["png"])


def test_a_file_of_a_format_that_tensorflow_does_not_know_goes_through_python_or_is_refused():
    content = tf.constant(ENCODINGS["tiff, alpha"])
    np.testing.assert_array_equal(decode_with_python(content), read_image(ENCODINGS["tiff, alpha"]))
    np.testing.assert_array_equal(decode_with_python(tf.constant(ENCODINGS["png"])), picture())
    with pytest.raises(tf.errors.InvalidArgumentError, match="TensorFlow cannot decode TIFF: send the pixels"):
        decode(content)


@pytest.mark.parametrize("expected", [(), ("JPEG",), ("WebP", "TIFF", None), TENSORFLOW_FORMATS])
def test_pixels_do_not_depend_on_which_formats_the_graph_decodes(expected):
    decoder = functools.partial(decode_with_python, expected=expected)
    for kind in ("jpeg", "png, turned", "png, alpha", "gif", "webp, alpha", "bmp", "tiff, alpha"):
        np.testing.assert_array_equal(decoder(tf.constant(ENCODINGS[kind])), read_image(ENCODINGS[kind]))
    with pytest.raises(tf.errors.OpError, match="it is no JPEG, PNG"):
        decoder(tf.constant(b"no image at all"))
    with pytest.raises(tf.errors.OpError, match=r"damaged|Invalid PNG"):
        decoder(tf.constant(ENCODINGS["png"][:100]))


def test_orientation_behind_many_segments_is_found():
    exif = struct.pack(">2sHIHHHIHH", b"MM", 42, 8, 1, 0x0112, 3, 1, 6, 0)
    plain = ENCODINGS["jpeg"]
    comments = (b"\xff\xfe" + struct.pack(">H", 40) + b"\xff\xd9" * 19) * 50
    application = b"\xff\xe1" + struct.pack(">H", 8 + len(exif)) + b"Exif\0\0" + exif
    content = plain[:2] + comments + application + plain[2:]
    np.testing.assert_array_equal(read_image(content), np.rot90(read_image(plain), -1))


@pytest.mark.parametrize("offset", [0, 9, 4000, 2**31, 2**32 - 1])
def test_exif_data_that_lead_nowhere_leave_the_image_as_it_is(offset):
    exif = struct.pack(">2sHIH", b"MM", 42, offset, 65535)
    content = encoded(picture(), "JPEG", exif=b"Exif\0\0" + exif)
    assert read_image(content).shape == picture().shape


@pytest.mark.parametrize("kind", sorted(ENCODINGS))
def test_the_format_is_known_by_content(kind):
    name = kind.split(",")[0]
    expected = {"webp": "WebP", "nothing": None, "a page": None, "zeros": None}.get(name, name.upper())
    assert format_of(ENCODINGS[kind][:32]) == expected


def test_500_damaged_images_give_an_image_or_one_reason(capsys):
    """Bytes changed, cut out, put in, and files cut off, of every encoding."""
    random = np.random.default_rng(12)
    kinds = sorted(kind for kind in READABLE if len(ENCODINGS[kind]) < 20_000)
    decoded, reasons = 0, {}
    for number in range(500):
        content = bytearray(ENCODINGS[kinds[number % len(kinds)]])
        match number // len(kinds) % 4:
            case 0:
                content = content[: random.integers(1, len(content))]
            case 1:
                # Headers are where damage bites.
                for place in random.integers(0, min(len(content), 120), random.integers(1, 6)):
                    content[place] = random.integers(0, 256)
            case 2:
                for place in random.integers(0, len(content), random.integers(1, 20)):
                    content[place] = random.integers(0, 256)
            case 3:
                place = random.integers(0, len(content))
                content[place : place + random.integers(0, 9)] = random.bytes(random.integers(0, 9))
        try:
            image = read_image(bytes(content))
        except UnreadableImageError as error:
            assert error.reason and "\n" not in error.reason, error.reason
            reasons[number] = error.reason
        else:
            assert image.ndim == 3 and image.shape[-1] == 3 and image.size > 0
            decoded += 1
    assert decoded + len(reasons) == 500
    with capsys.disabled():
        print(
            f"\n500 damaged images: {decoded} decoded, {len(reasons)} refused for {len(set(reasons.values()))} reasons"
        )


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(READABLE), st.data())
def test_damage_gives_an_image_or_our_error_and_nothing_else(kind, data):
    content = bytearray(ENCODINGS[kind])
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[position] = data.draw(st.integers(0, 255))
    try:
        image = read_image(bytes(content))
    except UnreadableImageError as error:
        assert error.reason
    else:
        assert image.ndim == 3
        assert image.shape[-1] == 3


def test_heic_names_the_package_that_it_needs(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    assert "HEIC" in PILLOW_FORMATS
    with pytest.raises(UnreadableImageError, match=r"needs a further package: pip install 'stml_tf\[heic\]'"):
        read_image(b"\0\0\0\x18ftypheic" + b"\0" * 100)


def heic(image, **options):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
    pillow_heif.register_heif_opener()
    return encoded(image, "HEIF", quality=-1, chroma=444, matrix_coefficients=0, **options)


def test_a_heic_photograph_is_read_as_the_same_picture_is_in_any_format():
    content = heic(picture())
    assert format_of(content[:32]) == "HEIC"
    np.testing.assert_array_equal(read_image(content), picture())
    np.testing.assert_array_equal(decode_with_python(tf.constant(content)), picture())
    with pytest.raises(UnreadableImageError, match=r"it is damaged or cut off"):
        read_image(content[: len(content) // 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="TensorFlow cannot decode HEIC: send the pixels"):
        decode(tf.constant(content))


def test_transparency_and_orientation_of_heic_are_those_of_any_format():
    cut_out = heic(np.dstack([picture(), alpha()]))
    np.testing.assert_array_equal(read_image(cut_out), read_image(encoded(np.dstack([picture(), alpha()]), "PNG")))
    turned = Image.Exif()
    turned[0x0112] = 6
    np.testing.assert_array_equal(read_image(heic(picture(), exif=turned.tobytes())), np.rot90(picture(), -1))


def test_a_chunk_without_an_end_is_no_loop_without_one():
    content = png([], bits=8, color_type=2, chunks=png_chunk(b"teXt", b"") * 3)[:-24]
    with pytest.raises(UnreadableImageError, match="it is damaged or cut off"):
        read_image(content)
