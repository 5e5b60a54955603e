"""A step of conv4 on 240 views: beside one matrix product of as many multiply-adds, and in bfloat16."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.methods import SelfTaughtModel
from stml_tf.models import build_student, computing_in

pytestmark = pytest.mark.benchmark

SIZE, IMAGES, VIEWS = 48, 120, 2
# Of a view, forward: convolutions of 9 x inputs x outputs for each pixel, and the heads.
MULTIPLY_ADDS = sum(
    9 * inputs * outputs * (SIZE >> halved) ** 2
    for halved, (inputs, outputs) in enumerate([(3, 32), (32, 64), (64, 128), (128, 256)])
) + 256 * (128 + 512)
# The student forward, and twice as much backward; the teacher forward.
OF_A_STEP = 4 * MULTIPLY_ADDS * IMAGES * VIEWS


def step_in(precision):
    with computing_in(precision):
        model = SelfTaughtModel(build_student("conv4", embedding_dim=128, teacher_dim=512), num_neighbors=4)
    model.compile("adam")
    views = np.random.default_rng(0).random((IMAGES, VIEWS, SIZE, SIZE, 3), np.float32)
    batch = tf.constant(views), tf.range(IMAGES)
    step = tf.function(model.train_step)
    return lambda: float(keras.ops.convert_to_numpy(step(batch)["loss"]))


def product_in(dtype):
    side = round(OF_A_STEP ** (1 / 3))
    factor = tf.cast(tf.random.stateless_normal((side, side), (0, 0)), dtype)
    return lambda: float(tf.cast(tf.matmul(factor, factor)[0, 0], tf.float32))


def test_step(benchmarks):
    what = f"a step of conv4, {VIEWS * IMAGES} views of {SIZE} px"
    full, half = step_in("float32"), step_in("mixed_bfloat16")
    product = f"a product of its {OF_A_STEP / 1e9:.1f}e9 multiply-adds"
    benchmarks.compare(f"{what}, float32", full, f"{product}, float32", product_in("float32"), reach="1.15", rounds=9)
    benchmarks.compare(
        f"{what}, mixed_bfloat16", half, f"{product}, float32", product_in("float32"), reach="1.15", rounds=9
    )
    benchmarks.compare(f"{what}, mixed_bfloat16", half, "float32", full, reach="0.78", rounds=9)
