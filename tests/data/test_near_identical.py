import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from stml_tf.data.catalog import ImageSet
from stml_tf.data.near_identical import SIDE, near_identical_pairs, nearest_alike_within, shrunk


def photograph(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((120, 90), Image.Resampling.BICUBIC)


def saved(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


COPIES = {
    "byte for byte": lambda image: saved(image, "PNG"),
    "as JPEG": lambda image: saved(image, "JPEG", quality=40),
    "as WebP": lambda image: saved(image, "WEBP", quality=60),
    "half as large": lambda image: saved(image.resize((60, 45), Image.Resampling.LANCZOS), "JPEG", quality=80),
    "a little brighter": lambda image: saved(ImageEnhance.Brightness(image).enhance(1.03), "PNG"),
}
OTHERS = {
    "mirrored": lambda image: saved(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "PNG"),
    "recoloured": lambda image: saved(Image.merge("RGB", image.split()[::-1]), "PNG"),
    "cropped": lambda image: saved(image.crop((15, 10, 110, 80)), "PNG"),
}


@pytest.fixture(scope="module")
def train():
    return ImageSet([saved(photograph(seed), "PNG") for seed in range(12)])


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_with_its_original(train, kind):
    test = ImageSet([saved(photograph(100), "PNG"), COPIES[kind](photograph(7)), COPIES[kind](photograph(3))])
    assert near_identical_pairs(train, test) == [(7, 1), (3, 2)]


@pytest.mark.parametrize("kind", OTHERS)
def test_an_image_that_was_changed_is_another_one(train, kind):
    assert near_identical_pairs(train, ImageSet([OTHERS[kind](photograph(seed)) for seed in range(12)])) == []


def test_detail_tells_images_apart_that_are_alike_from_afar():
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    flat = np.full((64, 64), 128)
    board, other = (np.repeat(grey.astype(np.uint8)[None, ..., None], 3, axis=-1) for grey in (checks, flat))
    board = np.kron(board[:, :32, :32], np.ones((1, 2, 2, 1), np.uint8))  # Squares of 2 x 2, means of which are grey.
    assert near_identical_pairs(ImageSet(board), ImageSet(other)) == []
    assert near_identical_pairs(ImageSet(board), ImageSet(board)) == [(0, 0)]


def test_arrays_files_and_bytes_are_compared_and_unreadable_ones_passed_over(train, tmp_path):
    path = tmp_path / "copy.jpg"
    path.write_bytes(COPIES["as JPEG"](photograph(4)))
    pixels = np.stack([np.asarray(photograph(seed)) for seed in (9, 10)])
    assert near_identical_pairs(train, ImageSet([b"no image", path])) == [(4, 1)]
    assert near_identical_pairs(train, ImageSet(pixels)) == [(9, 0), (10, 1)]
    assert near_identical_pairs(ImageSet([b"no image"]), train) == []


def test_progress_is_told_over_both_sets(train):
    told = []
    near_identical_pairs(train, train.take([0, 1]), on_progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 14) for done in range(1, 15)]


def test_copies_within_a_set_are_found_and_others_are_not():
    copies = [photograph(4), photograph(5), photograph(4).resize((60, 45)), photograph(6), photograph(5)]
    small = {place: shrunk(np.asarray(image), SIDE) for place, image in enumerate(copies)}
    assert sorted(nearest_alike_within(small)) == [(0, 2), (1, 4)]
    assert list(nearest_alike_within({7: small[0]})) == list(nearest_alike_within({})) == []
    assert list(nearest_alike_within({3: small[0], 9: small[2]})) == [(3, 9)]
