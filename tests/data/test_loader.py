import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stml_tf.data.catalog import ImageSet
from stml_tf.data.loader import evaluation_batches, training_batches
from stml_tf.data.transforms import evaluation_view, random_view


@pytest.fixture
def images(random):
    return ImageSet(random.integers(0, 256, (13, 20, 16, 3), dtype=np.uint8))


def training(images, epochs, threads=2, seed=0, first_batch=0, labels=None, part=(0, 1)):
    """`epochs` is consumed: a pair of number and batches an iteration."""
    remaining = iter(epochs)
    return training_batches(
        images,
        lambda: next(remaining),
        steps_per_epoch=2,
        batch_size=4,
        num_views=2,
        view=lambda pixels, key: random_view(pixels, key, size=8),
        preprocess=lambda views: views / 255.0,
        seed=seed,
        first_batch=first_batch,
        labels=labels,
        part=part,
        threads=threads,
    )


BATCHES = np.array([[0, 5, 2, 2], [12, 1, 0, 7]])


def test_training_batches_come_as_the_epoch_asks(images):
    batches = list(training(images, [(0, BATCHES)]))
    assert [views.shape for views, _ in batches] == [(4, 2, 8, 8, 3)] * 2
    np.testing.assert_array_equal([ids for _, ids in batches], BATCHES)
    assert float(tf.reduce_max(batches[0][0])) <= 1.0


def test_labels_are_given_along_where_a_method_learns_from_them(images):
    labels = np.arange(13) * 3 - 1
    batches = list(training(images, [(0, BATCHES)], labels=labels))
    np.testing.assert_array_equal([given for _, _, given in batches], labels[BATCHES])


def test_views_depend_on_seed_epoch_and_place_and_not_on_threads(images):
    def views(epoch=0, **options):
        return np.stack([views for views, _ in training(images, [(epoch, BATCHES)], **options)])

    first = views(threads=1)
    np.testing.assert_array_equal(first, views(threads=4))
    assert not np.allclose(first, views(epoch=1))
    assert not np.allclose(first, views(seed=1))
    assert not np.allclose(first[0, 2], first[0, 3])  # the same image twice in a batch
    assert not np.allclose(first[0, 0, 0], first[0, 0, 1])  # two views of an image


def test_each_pass_asks_for_the_next_epoch(images):
    dataset = training(images, [(0, BATCHES), (1, BATCHES[::-1])])
    passes = [[ids.numpy().tolist() for _, ids in dataset] for _ in range(2)]
    assert passes == [BATCHES.tolist(), BATCHES[::-1].tolist()]


def test_the_rest_of_an_epoch_is_as_if_its_beginning_had_not_been_left_out(images):
    whole, rest = (training(images, [(3, BATCHES)], first_batch=first) for first in (0, 1))
    assert (int(whole.cardinality()), int(rest.cardinality())) == (2, 1)
    (_, (views, ids)), [(rest_views, rest_ids)] = whole, rest
    np.testing.assert_array_equal(rest_ids, ids)
    np.testing.assert_array_equal(rest_views, views)


def test_the_parts_of_all_machines_make_the_batch_of_one(images):
    whole = list(training(images, [(0, BATCHES)]))
    parts = [list(training(images, [(0, BATCHES)], part=(number, 2))) for number in (0, 1)]
    for (views, ids), *of_machines in zip(whole, *parts, strict=True):
        assert [len(part_ids) for _, part_ids in of_machines] == [2, 2]
        np.testing.assert_array_equal(np.concatenate([part for part, _ in of_machines]), views)
        np.testing.assert_array_equal(np.concatenate([part_ids for _, part_ids in of_machines]), ids)


def test_a_batch_that_machines_cannot_divide_is_refused(images):
    with pytest.raises(ValueError, match="A batch of 4 images cannot be divided evenly among 3 machines"):
        training(images, [(0, BATCHES)], part=(0, 3))


def test_evaluation_batches_hold_every_image_in_order(images):
    dataset = evaluation_batches(
        images, batch_size=5, view=lambda pixels: evaluation_view(pixels, size=8), preprocess=lambda views: views
    )
    views = np.concatenate(list(dataset))
    expected = [evaluation_view(pixels, size=8) for pixels in images.images]
    np.testing.assert_allclose(views, expected, atol=1e-4)


@pytest.mark.parametrize("suffixes", [[".png"], [".jpg"], [".PNG", ".webp", ""]])
def test_files_are_decoded_whatever_their_names_promise(tmp_path, images, suffixes):
    paths = []
    for index, pixels in enumerate(images.images):
        paths.append(tmp_path / f"{index}{suffixes[index % len(suffixes)]}")
        Image.fromarray(pixels).save(paths[-1], "PNG")
    options = {"batch_size": 13, "view": lambda pixels: evaluation_view(pixels, size=8), "preprocess": lambda v: v}
    from_files = next(iter(evaluation_batches(ImageSet(paths), **options)))
    from_memory = next(iter(evaluation_batches(images, **options)))
    np.testing.assert_array_equal(from_files, from_memory)


def test_no_tuner_makes_an_iterator_wait_at_its_end(images):
    """It may wait for as long as the epoch took, which no test can time; that there is no tuner can be told."""
    evaluation = evaluation_batches(images, batch_size=4, view=lambda pixels: pixels, preprocess=lambda views: views)
    for batches in (training(images, [(0, BATCHES)]), evaluation):
        assert batches.options().autotune.enabled is False
