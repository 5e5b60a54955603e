import numpy as np
import pytest

from stml_tf.evaluation import embed, raw_pixels


def batches(images, size):
    return [images[start : start + size] for start in range(0, len(images), size)]


@pytest.fixture
def images():
    return np.random.default_rng(0).random((10, 4, 6, 3)).astype(np.float32)


def mean_color(batch):
    return batch.mean(axis=(1, 2))


@pytest.mark.parametrize("size", [1, 3, 10])
def test_rows_come_in_order_whatever_the_batch_size(images, size):
    seen = []
    embeddings = embed(mean_color, batches(images, size), count=10, normalize=False, on_progress=seen.append)
    np.testing.assert_array_equal(embeddings, images.mean(axis=(1, 2)))
    assert embeddings.dtype == np.float32
    assert seen == sorted(set(seen)) and seen[-1] == 10


def test_normalize_makes_unit_lengths_and_spares_zeros(images):
    images[2] = 0
    embeddings = embed(mean_color, batches(images, 4), count=10, normalize=True)
    lengths = np.linalg.norm(embeddings, axis=1)
    np.testing.assert_allclose(lengths, np.arange(10) != 2, rtol=1e-6)
    plain = embed(mean_color, batches(images, 4), count=10, normalize=False)
    np.testing.assert_allclose(embeddings * np.linalg.norm(plain, axis=1)[:, None], plain, rtol=1e-6)


def test_takes_a_keras_model_and_a_tf_dataset(images):
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.layers.GlobalAveragePooling2D()])
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(4)
    np.testing.assert_allclose(embed(model, dataset, count=10, normalize=False), mean_color(images), rtol=1e-5)


@pytest.mark.parametrize(
    ("count", "message"), [(9, "more than the 9 images"), (11, "holds 10 images, but 11 were expected")]
)
def test_wrong_count(images, count, message):
    with pytest.raises(ValueError, match=message):
        embed(mean_color, batches(images, 3), count=count, normalize=True)


def test_empty_dataset():
    with pytest.raises(ValueError, match="holds 0 images, but 3 were expected"):
        embed(mean_color, [], count=3, normalize=True)


def test_non_finite_embeddings_are_refused_with_their_place(images):
    images[7, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="1 of images 6 to 8 hold NaN or infinity, first image 7"):
        embed(mean_color, batches(images, 3), count=10, normalize=True)


def test_raw_pixels_are_the_pixels(images):
    np.testing.assert_array_equal(raw_pixels(batches(images, 3), count=10), images.reshape(10, -1))


def test_raw_pixels_of_large_images_are_averaged_over_squares(images):
    large = images.repeat(3, axis=1).repeat(3, axis=2)  # 12 x 18
    np.testing.assert_allclose(
        raw_pixels(batches(large, 4), count=10, largest_side=6), images.reshape(10, -1), rtol=1e-6
    )
    assert raw_pixels(batches(large, 4), count=10, largest_side=5).shape == (10, 3 * 4 * 3)
