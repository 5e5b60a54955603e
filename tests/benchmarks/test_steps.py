"""A step of conv4 on 240 views, in both precisions, beside its multiply-adds at the rate of a large matrix product."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.methods import SelfTaughtModel
from stml_tf.models import build_student, computing_in

pytestmark = pytest.mark.benchmark

SIZE, IMAGES = 32, 120


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_step(benchmarks, precision):
    with computing_in(precision):
        model = SelfTaughtModel(build_student("conv4", embedding_dim=128, teacher_dim=512), num_neighbors=4)
    model.compile("adam")
    views = np.random.default_rng(0).random((IMAGES, 2, SIZE, SIZE, 3), np.float32)
    batch = tf.constant(views), tf.range(IMAGES)
    step = tf.function(model.train_step)

    product = tf.ones((4096, 4096), "bfloat16" if precision == "mixed_bfloat16" else "float32")
    many = tf.function(lambda: tf.matmul(product, product)[0, 0])
    # Forward once in the teacher, and in the student once forward and twice backward.
    products = 4 * 2 * IMAGES * _multiply_adds(model.student) / 4096**3

    def matrix_products():
        for _ in range(max(1, round(products))):
            many().numpy()

    benchmarks.compare(
        f"a step of conv4, {2 * IMAGES} views of {SIZE} px, {precision}",
        lambda: float(keras.ops.convert_to_numpy(step(batch)["loss"])),
        f"{max(1, round(products))} products of 4096 x 4096, as many multiply-adds ({products:.1f})",
        matrix_products,
        reach="1.15",
    )


def _multiply_adds(student):
    shape, total = (1, SIZE, SIZE, 3), 0
    for layer in student._flatten_layers():
        if isinstance(layer, keras.layers.Conv2D):
            _, height, width, channels = layer.compute_output_shape((1, *shape[1:3], layer.kernel.shape[2]))
            total += height * width * channels * int(np.prod(layer.kernel.shape[:3]))
            shape = (1, height, width, channels)
        if isinstance(layer, keras.layers.MaxPooling2D):
            shape = layer.compute_output_shape(shape)
    return total
