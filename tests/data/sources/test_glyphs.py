import unicodedata
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import ImageFont

from stml_tf.data.sources.glyphs import load_glyphs


def everything(**options):
    """All images and labels, training and test classes together, in class order."""
    catalog = load_glyphs(**options)
    images = np.concatenate([catalog.train.images[..., 0], catalog.test.images[..., 0]])
    labels = np.concatenate([catalog.train.labels, catalog.test.labels])
    return images, labels, catalog.train.class_names


@pytest.fixture(scope="module")
def large():
    return everything(num_classes=1000, instances=12)


def test_catalog_is_split_by_class():
    catalog = load_glyphs(num_classes=10, instances=3, image_size=24, train_classes=4)
    assert catalog.name == "glyphs"
    assert catalog.train.images.shape == (12, 24, 24, 3)
    assert catalog.train.images.dtype == np.uint8
    assert catalog.train.labels.tolist() == np.repeat(range(4), 3).tolist()
    assert catalog.test.labels.tolist() == np.repeat(range(4, 10), 3).tolist()
    assert len(set(catalog.train.class_names)) == 10


def test_three_channels_cost_the_memory_of_one():
    train = load_glyphs(num_classes=4, instances=2).train
    assert train.images.strides[-1] == 0


@pytest.mark.parametrize("image_size", [8, 32, 96])
def test_same_arguments_same_images(image_size):
    first, _, _ = everything(num_classes=6, instances=3, image_size=image_size)
    again, _, _ = everything(num_classes=6, instances=3, image_size=image_size)
    np.testing.assert_array_equal(first, again)


def test_a_larger_set_holds_a_smaller_one(large):
    images, _, names = everything(num_classes=7, instances=5, train_classes=2)
    large_images, _, large_names = large
    np.testing.assert_array_equal(images.reshape(7, 5, 32, 32), large_images.reshape(1000, 12, 32, 32)[:7, :5])
    assert names == large_names[:7]


def test_a_seed_chooses_characters_and_jitter():
    images, _, names = everything(num_classes=30, instances=2, seed=1)
    other_images, _, other_names = everything(num_classes=30, instances=2, seed=2)
    assert set(names) != set(other_names)
    assert not np.array_equal(images, other_images)


def test_fonts_come_round_again_with_new_jitter():
    images = everything(num_classes=20, instances=40)[0].reshape(20, 40, -1)
    for of_one_class in images:
        assert len(np.unique(of_one_class, axis=0)) == 40


def test_ink_is_dark_on_white_and_inside_the_image(large):
    images, _, _ = large
    assert np.median(images) == 255
    assert (images.min(axis=(1, 2)) < 160).all()
    border = np.stack([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]])
    assert (border.min(axis=(0, 2)) < 128).mean() < 0.02


def test_raw_pixels_are_a_poor_embedding(large):
    images, labels, _ = large
    pixels = images.reshape(len(images), -1).astype(np.float32)
    norms = np.einsum("ij,ij->i", pixels, pixels)
    queries = np.arange(0, len(pixels), 8)
    distances = norms[queries, None] + norms - 2 * pixels[queries] @ pixels.T
    distances[np.arange(len(queries)), queries] = np.inf
    assert 0.25 < (labels[distances.argmin(axis=1)] == labels[queries]).mean() < 0.40


def shipped_fonts():
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    files = [file for file in folder.iterdir() if file.name.startswith(("DejaVu", "STIXGeneral"))]
    return [ImageFont.truetype(str(file), 40) for file in files if "Display" not in file.name]


def drawing(font, character):
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def test_no_two_classes_are_the_same_drawing(large):
    _, _, names = large
    fonts = shipped_fonts()
    seen = {}
    for name in names[:300]:
        drawings = tuple(drawing(font, unicodedata.lookup(name)) for font in fonts)
        assert drawings not in seen, f"{name} looks like {seen[drawings]}"
        seen[drawings] = name


def test_of_characters_that_look_alike_one_stays():
    images_of_all = load_glyphs(num_classes=1800, instances=1, image_size=8)
    names = images_of_all.train.class_names
    for alike in (
        {"LATIN CAPITAL LETTER A", "GREEK CAPITAL LETTER ALPHA", "CYRILLIC CAPITAL LETTER A"},
        {"LATIN CAPITAL LETTER O", "GREEK CAPITAL LETTER OMICRON", "CYRILLIC CAPITAL LETTER O"},
    ):
        assert len(alike & set(names)) <= 1


def test_every_character_exists_in_twelve_fonts(large):
    _, _, names = large
    fonts = shipped_fonts()
    missing = [drawing(font, "\ufdd0") for font in fonts]  # no character: fonts draw their replacement
    for name in names[:50]:
        character = unicodedata.lookup(name)
        assert sum(drawing(font, character) != none for font, none in zip(fonts, missing, strict=True)) >= 12


def test_training_and_test_mix_scripts():
    catalog = load_glyphs(num_classes=400, instances=1, image_size=8)
    for images in (catalog.train, catalog.test):
        scripts = {catalog.train.class_names[label].split()[0] for label in images.labels}
        assert {"LATIN", "GREEK", "CYRILLIC"} <= scripts


def test_more_characters_than_exist_are_refused_with_their_number():
    with pytest.raises(ValueError, match=r"num_classes is 100000, but there are 1\d\d\d characters"):
        load_glyphs(num_classes=100_000)


@pytest.mark.parametrize(
    ("option", "value", "least"),
    [("num_classes", 1, 2), ("instances", 0, 1), ("image_size", 7, 8), ("seed", -1, 0)],
)
def test_too_small_numbers_are_refused(option, value, least):
    with pytest.raises(ValueError, match=f"{option} is {value}, but the glyphs need at least {least}"):
        load_glyphs(**{option: value})


def test_a_split_without_test_classes_is_refused():
    with pytest.raises(ValueError, match="train_classes is 10"):
        load_glyphs(num_classes=10, train_classes=10)
