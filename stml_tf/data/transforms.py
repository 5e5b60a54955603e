"""Images to network inputs: random views for training, one fixed view for everything else.

Random views are a pure function of the pixels and a seed, so they do not depend on the number of threads.
"""

import tensorflow as tf

from stml_tf.data.colors import random_colors
from stml_tf.data.resizing import resize, scale_and_translate
from stml_tf.tensor import Tensor


def random_view(
    pixels: Tensor,
    seed: Tensor,
    *,
    size: int,
    crop_scale: tuple[float, float] = (0.16, 1.0),
    crop_ratio: tuple[float, float] = (0.75, 4 / 3),
    rotation: float = 0.0,
    shift: float = 0.0,
    flip: bool = False,
    **colors: float,
) -> Tensor:
    """Rotate, shift, crop, resize and flip an image by chance, and change its colours.

    Args:
        pixels: `[height, width, 3]`, 0 to 255, any numeric dtype.
        seed: `[2]` integers; the same seed gives the same view.
        size: Side of the view in pixels.
        crop_scale: Smallest and largest share of the area that a crop keeps.
        crop_ratio: Smallest and largest width divided by height of a crop.
        rotation: Largest angle in degrees, either way.
        shift: Largest shift as a share of the sides, either way.
        flip: Whether to mirror left and right half of the time.
        **colors: What `random_colors` takes: `brightness`, `contrast`, `saturation`, `hue`, `greyscale`, `blur`.

    Returns:
        `[size, size, 3]` float32, 0 to 255.
    """
    draws = tf.random.stateless_uniform([8], seed)
    if rotation or shift:
        pixels = _rotate_and_shift(pixels, draws[:3] * 2.0 - 1.0, rotation=rotation, shift=shift)
    crop = _random_crop(pixels, draws[3:7], scale=crop_scale, ratio=crop_ratio)
    view = resize(crop, (size, size))
    if flip:
        # The axes to reverse, one or none: a slice backwards and `tf.where` take ten times as long.
        view = tf.reverse(view, tf.range(1, 1 + tf.cast(draws[7] < 0.5, tf.int32)))
    view.set_shape([size, size, 3])
    # A seed of its own: crops stay the same whatever happens to colours.
    return (
        random_colors(view, tf.random.experimental.stateless_fold_in(seed, 1), **colors)
        if any(colors.values())
        else view
    )


def evaluation_view(pixels: Tensor, *, size: int, resize: int | None = None) -> Tensor:
    """Resize the shorter side to `resize` and cut `size` x `size` from the centre.

    Args:
        pixels: `[height, width, 3]`, or several images of one size, `[images, height, width, 3]`; 0 to 255, any numeric
            dtype.
        size: Side of the view in pixels.
        resize: Length of the shorter side before the cut, at least `size`; `size` by default.

    Returns:
        `[size, size, 3]`, or `[images, size, size, 3]`, float32, 0 to 255.
    """
    resize = resize or size
    sides = tf.cast(tf.shape(pixels)[-3:-1], tf.int64)
    # Whole numbers throughout: the longer side is cut off to an integer, as PIL-based pipelines do.
    resized = sides * resize // tf.reduce_min(sides)
    first = tf.round(tf.cast(resized - size, tf.float64) / 2.0)
    scale = tf.cast(resized, tf.float64) / tf.cast(sides, tf.float64)
    # Only what the centre is made of is resized: the longer side of a thin image would become as long as memory.
    reach = tf.maximum(1.0 / scale, 1.0) + 1.0
    start = tf.maximum(tf.cast(tf.floor(first / scale - reach), tf.int64), 0)
    stop = tf.minimum(tf.cast(tf.math.ceil((first + size) / scale + reach), tf.int64), sides)
    seen = pixels[..., start[0] : stop[0], start[1] : stop[1], :]
    return scale_and_translate(
        seen,
        size=(size, size),
        scale=tf.cast(scale, tf.float32),
        translation=tf.cast(tf.cast(start, tf.float64) * scale - first, tf.float32),
    )


def _rotate_and_shift(pixels: Tensor, draws: Tensor, *, rotation: float, shift: float) -> Tensor:
    """Turn about the centre and move, `draws` in [-1, 1]; the border's pixels fill what comes in from outside."""
    height = tf.cast(tf.shape(pixels)[0], tf.float32)
    width = tf.cast(tf.shape(pixels)[1], tf.float32)
    angle = draws[0] * (rotation * 3.141592653589793 / 180.0)
    cos, sin = tf.cos(angle), tf.sin(angle)
    center_x, center_y = (width - 1.0) / 2.0, (height - 1.0) / 2.0
    to_x = center_x + draws[1] * shift * width
    to_y = center_y + draws[2] * shift * height
    # Maps an output point to the input point whose pixel it takes.
    transform = [cos, -sin, center_x - cos * to_x + sin * to_y, sin, cos, center_y - sin * to_x - cos * to_y, 0.0, 0.0]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels[None],
        transforms=tf.stack(transform)[None],
        output_shape=tf.shape(pixels)[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )[0]


def _random_crop(pixels: Tensor, draws: Tensor, *, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Cut a box of random area, shape and place; a box that would stick out is cut down to the image."""
    # `tf.image.stateless_sample_distorted_bounding_box` draws other boxes: on 64 x 96 pixels, for shares of 0.16 to 1,
    # they cover 0.40 of the image on average and these 0.54; for 0.9 to 1 it finds none and returns the whole image.
    height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
    area = tf.cast(height * width, tf.float32) * (scale[0] + draws[0] * (scale[1] - scale[0]))
    aspect = ratio[0] * (ratio[1] / ratio[0]) ** draws[1]
    crop_width = tf.clip_by_value(tf.cast(tf.round(tf.sqrt(area * aspect)), tf.int32), 1, width)
    crop_height = tf.clip_by_value(tf.cast(tf.round(tf.sqrt(area / aspect)), tf.int32), 1, height)
    top = tf.cast(draws[2] * tf.cast(height - crop_height + 1, tf.float32), tf.int32)
    left = tf.cast(draws[3] * tf.cast(width - crop_width + 1, tf.float32), tf.int32)
    return tf.slice(pixels, [top, left, 0], [crop_height, crop_width, 3])
