from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from stml_tf.data.cache import cache_in_memory, cache_on_disk, shrink, sufficient_side
from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.decoding import read_image
from stml_tf.data.formats.rule import Decoding
from stml_tf.data.inspection import TooManyUnreadableError, readable_catalog
from stml_tf.data.loader import pixels_of
from stml_tf.errors import UserError


@pytest.fixture
def images(tmp_path, random):
    """Six files of 60 x 90 pixels, and one that is no image."""
    (tmp_path / "photos").mkdir()
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(7)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(path)
    paths[2].write_bytes(b"no image")
    return ImageSet(paths, np.arange(7), tuple("abcdefg"))


@pytest.fixture(params=["memory", "disk"])
def cache(request, tmp_path):
    def keep(images, **options):
        options = {"max_unreadable": 0.5, **options}
        if request.param == "memory":
            return cache_in_memory(images, **options)
        return cache_on_disk(images, root=tmp_path / "caches", **options)

    return keep


def test_the_smallest_crop_has_as_many_pixels_as_the_view():
    assert sufficient_side(224, 0.16) == 560
    assert sufficient_side(84, 1.0) == 84


def test_images_are_kept_at_the_size_that_views_need(images, cache):
    kept, unreadable = cache(images, shorter_side=40)
    assert [bad.index for bad in unreadable] == [2]
    assert unreadable[0].path == images.images[2] and "it is no JPEG" in unreadable[0].reason
    assert kept.labels.tolist() == [0, 1, 3, 4, 5, 6]
    for place, original in enumerate([0, 1, 3, 4, 5, 6]):
        expected = shrink(read_image(images.images[original]), 40)
        assert expected.shape == (40, 60, 3)
        np.testing.assert_array_equal(pixels_of(kept, place), expected)


def test_smaller_images_stay_as_they_are(images, cache):
    kept, _ = cache(images, shorter_side=60)
    np.testing.assert_array_equal(pixels_of(kept, 0), read_image(images.images[0]))


def test_what_does_not_fit_is_read_each_time(images, cache):
    kept, _ = cache(images, shorter_side=60, max_bytes=2 * 60 * 90 * 3)
    assert [isinstance(image, np.ndarray) for image in kept.images] == [True, True, False, False, False, False]
    np.testing.assert_array_equal(pixels_of(kept, 5), read_image(images.images[6]))


def test_too_many_unreadable_images_are_an_error(images, cache):
    with pytest.raises(TooManyUnreadableError, match="1 of 7 images cannot be read"):
        cache(images, shorter_side=40, max_unreadable=0.01)


def test_a_cache_on_disk_is_found_again_until_something_changes(images, tmp_path, monkeypatch):
    def keep(images, **options):
        return cache_on_disk(images, root=tmp_path / "caches", max_unreadable=0.5, **{"shorter_side": 40, **options})

    def caches():
        return len([path for path in (tmp_path / "caches").iterdir() if path.is_dir()])

    first, _ = keep(images)
    with monkeypatch.context() as patched:
        patched.setattr("stml_tf.data.inspection.read_image", lambda *_: pytest.fail("nothing is decoded again"))
        again, unreadable = keep(images)
    assert caches() == 1 and len(unreadable) == 1
    np.testing.assert_array_equal(first.images[3], again.images[3])
    keep(images, shorter_side=41)
    keep(replace(images, decoding=Decoding(bit_depth=10)))
    assert caches() == 3
    Image.new("RGB", (50, 50)).save(images.images[0])
    changed, _ = keep(images)
    assert caches() == 4
    assert (pixels_of(changed, 0) == 0).all()


@pytest.mark.parametrize("name", ["pixels", "index.json"])
def test_a_cache_that_was_damaged_is_made_anew(images, tmp_path, name):
    def keep():
        return cache_on_disk(images, shorter_side=40, root=tmp_path, max_unreadable=0.5)[0].images

    intact = [np.array(image) for image in keep()]
    (file,) = tmp_path.glob(f"*/{name}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for image, expected in zip(keep(), intact, strict=True):
        np.testing.assert_array_equal(image, expected)


def test_an_interrupted_cache_leaves_nothing(images, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_on_disk(images, shorter_side=40, root=tmp_path / "caches", on_progress=interrupt)
    assert [path.suffix for path in (tmp_path / "caches").iterdir()] in ([], [".lock"])


def test_training_images_of_a_catalog_are_cached(images, cache):
    catalog = Catalog("mine", images, None, unlabeled=images, max_unreadable=0.5)
    kept, unreadable = readable_catalog(
        catalog, cache=lambda images, **options: cache(images, shorter_side=40, **options)
    )
    assert kept.train.images[0].shape == kept.unlabeled.images[0].shape == (40, 60, 3)
    assert len(unreadable) == 2


def test_too_little_memory_accuses_no_image(images, monkeypatch):
    def no_memory(source, decoding):
        raise MemoryError("out of memory while decoding photo.png")

    monkeypatch.setattr("stml_tf.data.inspection.read_image", no_memory)
    with pytest.raises(UserError, match=r"Memory ran out .* says nothing about the images"):
        cache_in_memory(images, shorter_side=40)
