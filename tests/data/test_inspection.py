import threading
import weakref
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
from PIL import Image

from stml_tf.data.cache import cache_in_memory
from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.inspection import Unreadable, find_unreadable, inspect_images, leave_out, readable_catalog
from stml_tf.data.loader import pixels_of


@pytest.fixture
def images(tmp_path):
    """Eight files; numbers 2 and 5 cannot be read."""
    paths = [tmp_path / f"{index}.png" for index in range(8)]
    for index, path in enumerate(paths):
        Image.new("RGB", (4 + index, 4), (index, 0, 0)).save(path)
    paths[2].write_bytes(b"")
    paths[5].write_bytes(paths[5].read_bytes()[:45])
    return ImageSet(paths, np.arange(8) % 2, ("even", "odd"))


@pytest.mark.parametrize("workers", [1, 4])
def test_unreadable_files_are_found_in_order(images, workers):
    found = find_unreadable(images, workers=workers)
    assert [(bad.index, bad.path) for bad in found] == [(2, images.images[2]), (5, images.images[5])]
    assert found[0].reason == "it is empty"
    assert found[1].reason


def test_kept_pixels_belong_to_the_images_that_are_left(images):
    inspection = inspect_images(images, keep=True)
    left = leave_out(images, inspection.unreadable, max_share=0.5)
    assert [pixels[0, 0, 0] for pixels in inspection.decoded] == [0, 1, 3, 4, 6, 7]
    assert [path.stem for path in left.images] == ["0", "1", "3", "4", "6", "7"]
    assert left.labels.tolist() == [0, 1, 1, 0, 0, 1]
    assert inspection.decoded[2].shape == (4, 7, 3)


def test_pixels_are_not_kept_unasked(images):
    assert inspect_images(images).decoded is None


def test_pixels_are_kept_while_they_fit(images):
    count = sum(4 * (4 + index) * 3 for index in (0, 1, 3, 4, 6, 7))
    assert len(inspect_images(images, keep=True, max_decoded=count).decoded) == 6
    beyond = inspect_images(images, keep=True, max_decoded=count - 1, workers=2)
    assert beyond.decoded is None
    assert [bad.index for bad in beyond.unreadable] == [2, 5]


def test_pixels_that_do_not_fit_are_let_go_at_once(monkeypatch):
    turn, made, alive = threading.Semaphore(1), [], []

    def decode(source, decoding):
        turn.acquire()  # one image ahead of those that were counted, no more
        pixels = np.zeros((10, 10, 3), np.uint8)
        made.append(weakref.ref(pixels))
        return pixels

    def count(done, total):
        alive.append(sum(pixels() is not None for pixels in made))
        turn.release()

    monkeypatch.setattr("stml_tf.data.inspection.read_image", decode)
    inspect_images(ImageSet(range(40)), keep=True, max_decoded=20 * 300, workers=1, on_progress=count)
    assert alive[19] >= 20
    assert max(alive[22:]) <= 2


def test_progress_is_told_image_by_image(images):
    told = []
    find_unreadable(images, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 8) for done in range(1, 9)]


def test_an_interruption_does_not_wait_for_the_rest(monkeypatch):
    started = []
    monkeypatch.setattr("stml_tf.data.inspection.read_image", lambda source, decoding: started.append(source))

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_unreadable(ImageSet(range(20_000)), workers=1, on_progress=interrupt)
    assert len(started) < 20_000


def test_images_in_memory_are_readable():
    pixels = np.arange(2 * 3 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 3)
    inspection = inspect_images(ImageSet(pixels), keep=True)
    assert inspection.unreadable == []
    np.testing.assert_array_equal(inspection.decoded, pixels)


def test_nothing_to_leave_out(images):
    assert leave_out(images, []) is images


def test_too_many_unreadable_images_stop_the_run(images):
    with pytest.raises(ValueError, match=r"2 of 8 images cannot be read; at most 0\.01 .*\n.*2\.png: it is empty\n"):
        leave_out(images, find_unreadable(images))


def test_a_long_list_is_cut(images):
    bad = [Unreadable(index, images.images[index], "damaged") for index in range(7)]
    with pytest.raises(ValueError, match=r"4\.png: damaged\n  and 2 more$"):
        leave_out(images, bad)


def test_the_share_is_inclusive(images):
    assert len(leave_out(images, find_unreadable(images), max_share=0.25)) == 6


def test_no_image_left_is_an_error(images):
    bad = [Unreadable(index, path, "damaged") for index, path in enumerate(images.images)]
    with pytest.raises(ValueError, match="8 of 8 images cannot be read"):
        leave_out(images, bad, max_share=1.0)


def test_a_catalog_is_left_with_what_can_be_read_the_test_images_decoded(images):
    many = ImageSet([*images.images[:2], *[images.images[0]] * 198])
    spoilt = ImageSet([*images.images[:3], *[images.images[0]] * 197])
    totals = []

    @contextmanager
    def progress(total):
        totals.append(total)
        yield lambda done, of: None

    catalog, unreadable = readable_catalog(Catalog("mine", spoilt, many, spoilt), progress=progress)
    assert totals == [200, 200, 200]
    assert [bad.index for bad in unreadable] == [2, 2]
    assert (len(catalog.train), len(catalog.test), len(catalog.gallery)) == (199, 200, 199)
    assert catalog.train.images[1] == images.images[1]
    assert [pixels.shape for pixels in catalog.gallery.images[:2]] == [(4, 4, 3), (4, 5, 3)]
    kept, _ = readable_catalog(Catalog("mine", spoilt, None), cache=partial(cache_in_memory, shorter_side=99))
    assert (kept.train.images[1].shape, kept.test, kept.gallery) == ((4, 5, 3), None, None)


def test_test_images_and_gallery_that_do_not_fit_stay_files(images):
    readable = images.take([0, 1, 3, 4])
    one_set = sum(4 * (4 + index) * 3 for index in (0, 1, 3, 4))
    decoded = []
    for room in (2 * one_set, 2 * one_set - 1, one_set - 1):
        catalog, _ = readable_catalog(Catalog("mine", readable, readable, readable), max_decoded=room)
        assert (len(catalog.test), len(catalog.gallery)) == (4, 4)
        assert catalog.test.labels.tolist() == catalog.gallery.labels.tolist() == readable.labels.tolist()
        decoded.append([isinstance(part.images[0], np.ndarray) for part in (catalog.test, catalog.gallery)])
    assert decoded == [[True, True], [True, False], [False, False]]
    cache = partial(cache_in_memory, shorter_side=99)
    kept, _ = readable_catalog(Catalog("mine", readable, readable), cache=cache, max_decoded=0)
    assert isinstance(kept.train.images[0], np.ndarray)
    assert kept.test.images == readable.images


def test_where_only_one_part_is_decoded_all_images_are_seen(images):
    """As evaluation sees them: queries and gallery as one set."""
    readable = images.take([0, 1, 3, 4])
    room = 2 * sum(4 * (4 + index) * 3 for index in (0, 1, 3, 4)) - 1
    catalog, _ = readable_catalog(Catalog("mine", readable, readable, readable), max_decoded=room)
    joined, num_queries = catalog.test_set()
    assert num_queries == 4
    assert [pixels_of(joined, index)[0, 0, 0] for index in range(8)] == [0, 1, 3, 4] * 2
