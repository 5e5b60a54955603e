"""From image references to batches of network inputs, with tf.data."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from stml_tf.data.catalog import ImageSet
from stml_tf.data.decoding import decode_with_python, read_image
from stml_tf.data.formats.signatures import FORMAT_OF_SUFFIX, HEAD, format_of
from stml_tf.tensor import Tensor

_SMALL = 128 * 128  # Pixels; larger ones would make a batch of decoded images large, and gain little.


def training_batches(
    images: ImageSet,
    epoch_indices: Callable[[], tuple[int, np.ndarray]],
    *,
    steps_per_epoch: int,
    batch_size: int,
    num_views: int,
    view: Callable[[Tensor, Tensor], Tensor],
    preprocess: Callable[[Tensor], Tensor],
    seed: int,
    first_batch: int = 0,
    part: tuple[int, int] = (0, 1),
    labels: np.ndarray | None = None,
    threads: int | None = None,
) -> tf.data.Dataset:
    """Make batches of random views of the images that an epoch asks for, in its order.

    Args:
        images: The training images.
        epoch_indices: Called at the start of each epoch; returns the epoch's number and its batches,
            `[steps_per_epoch, batch_size]` image indices.
        steps_per_epoch: Batches in an epoch.
        batch_size: Images in a batch.
        num_views: Views of each image.
        view: From pixels `[height, width, 3]` and a seed `[2]` to a view `[size, size, 3]` of 0 to 255.
        preprocess: From views of 0 to 255, of any number, to network inputs.
        seed: Seed of the views.
        first_batch: Batches at the beginning of an epoch to leave out, below `steps_per_epoch`. The others stay as
            they are.
        part: This machine's number, from 0, and how many there are: each reads its equal, contiguous part of every
            batch, the views as they are in the whole. The parts of all make the batch of one machine.
        labels: `[num_images]` int64 to give along, if a method learns from them.
        threads: Images read at once, one for each processor by default; the views do not depend on it.

    Returns:
        Pairs of views `[batch_size, num_views, size, size, 3]` float32 and image ids `[batch_size]` int64; of several
        machines, the part of the batch. With `labels`, there are those of the images as a third, `[batch_size]`.

    Raises:
        ValueError: If the batch cannot be divided among the machines.
    """
    number, machines = part
    if batch_size % machines:
        raise ValueError(f"A batch of {batch_size} images cannot be divided evenly among {machines} machines.")
    size_of_part = batch_size // machines
    fold_in = tf.random.experimental.stateless_fold_in

    def own_parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        epoch, batches = epoch_indices()
        positions = np.arange(steps_per_epoch * batch_size).reshape(steps_per_epoch, batch_size)
        own = slice(number * size_of_part, (number + 1) * size_of_part)
        for part in positions[first_batch:, own]:
            keys = np.stack([np.full_like(part, seed), np.full_like(part, epoch), part], axis=1)
            yield batches.flat[part], keys.astype(np.int32)

    read, shape = _reader(images), _small_shape(images)

    @tf.autograph.experimental.do_not_convert  # No branch in it depends on a tensor; converting takes a second.
    def load(index: Tensor, key: Tensor, pixels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pixels = read(index) if pixels is None else pixels
        row_seed = fold_in(key[:2], key[2])
        views = tf.stack([view(pixels, fold_in(row_seed, number)) for number in range(num_views)])
        return views if shape else preprocess(views), index

    @tf.autograph.experimental.do_not_convert
    def finish(views: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        views = preprocess(views) if shape else views
        return views, index, *(() if labels is None else (tf.gather(labels, index),))

    signature = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, 3], tf.int32))
    parts = tf.data.Dataset.from_generator(own_parts, output_signature=signature)
    if shape:
        read_all = _batch_reader(images, shape)
        parts = parts.map(lambda indices, keys: (indices, keys, read_all(indices)))
    return (
        parts.unbatch()
        .map(load, num_parallel_calls=threads or _processors(), deterministic=True)
        .batch(size_of_part, drop_remainder=True)
        .map(finish)
        .apply(tf.data.experimental.assert_cardinality(steps_per_epoch - first_batch))
        .prefetch(2)
        .with_options(_untuned())
    )


def evaluation_batches(
    images: ImageSet,
    *,
    batch_size: int,
    view: Callable[[Tensor], Tensor],
    preprocess: Callable[[Tensor], Tensor],
    threads: int | None = None,
) -> tf.data.Dataset:
    """Make batches of one fixed view of every image, in order.

    Args:
        images: Images, with or without labels.
        batch_size: Images in a batch; the last batch may be smaller.
        view: From pixels `[height, width, 3]` to a view `[size, size, 3]` of 0 to 255; or from several images of one
            size, `[images, height, width, 3]`, to several views.
        preprocess: From views of 0 to 255, of any number, to network inputs.
        threads: Images read at once, one for each processor by default.

    Returns:
        Batches `[batch, size, size, 3]` float32.
    """
    threads = threads or _processors()
    indices = tf.data.Dataset.range(len(images))
    if shape := _small_shape(images):
        # One view of a small image is as much work for TensorFlow's scheduler as for its arithmetic.
        read, indices = _batch_reader(images, shape), indices.batch(batch_size)
    else:
        read = _reader(images)

    @tf.autograph.experimental.do_not_convert
    def load(index: Tensor) -> Tensor:
        return preprocess(view(read(index)))

    views = indices.map(load, num_parallel_calls=threads, deterministic=True)
    return (views if shape else views.batch(batch_size)).prefetch(2).with_options(_untuned())


def pixels_of(images: ImageSet, index: int) -> np.ndarray:
    """Decode the image at `index`, uint8 `[height, width, 3]`."""
    image = images.images[int(index)]
    return image if isinstance(image, np.ndarray) else read_image(image, images.decoding)


def _processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _untuned() -> tf.data.Options:
    """Return options without tf.data's tuner, and with one thread for each image.

    The tuner sleeps for twice as long each time, and an iterator that ends waits until it wakes up: after an epoch of
    20 seconds, for up to 20 seconds more. Images are read at once already, so that threads within one only wait for
    each other.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.max_intra_op_parallelism = 1
    return options


def _small_shape(images: ImageSet) -> tuple[int, ...] | None:
    """Return the shape of images that are all small, of one shape and in memory; else None."""
    shapes = {image.shape if isinstance(image, np.ndarray) else None for image in images.images}
    shape = shapes.pop() if len(shapes) == 1 else None
    return shape if shape and shape[0] * shape[1] <= _SMALL else None


def _batch_reader(images: ImageSet, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """Make a function for the graph, from the indices of images to their pixels, uint8 `[indices, *shape]`."""

    def pixels_of_all(indices: np.ndarray) -> np.ndarray:
        return np.stack([images.images[index] for index in indices.tolist()])

    def look_up(indices: Tensor) -> Tensor:
        pixels = tf.numpy_function(pixels_of_all, [indices], tf.uint8, stateful=False)
        return tf.ensure_shape(pixels, [None, *shape])

    return look_up


def _reader(images: ImageSet) -> Callable[[Tensor], Tensor]:
    """Make a function for the graph, from the index of an image to its pixels, uint8 `[height, width, 3]`."""

    if not all(isinstance(image, Path) for image in images.images):

        def look_up(index: Tensor) -> Tensor:
            pixels = tf.numpy_function(lambda index: pixels_of(images, index), [index], tf.uint8, stateful=False)
            return tf.ensure_shape(pixels, [None, None, 3])

        return look_up

    # Files are decoded in the graph, without Python and its lock, but for the formats that TensorFlow does not know.
    paths = tf.constant([os.fsencode(path) for path in images.images])
    expected = {FORMAT_OF_SUFFIX.get(path.suffix.lower()) or _format_within(path) for path in images.images}
    return lambda index: decode_with_python(tf.io.read_file(paths[index]), images.decoding, expected=expected)


def _format_within(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return format_of(file.read(HEAD))
    except OSError:  # Whoever reads the whole of it says so.
        return None
