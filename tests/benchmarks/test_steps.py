"""A step of conv4 on 240 views in bfloat16, beside the same in float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from stml_tf.methods import SelfTaughtModel
from stml_tf.models import build_student, computing_in

pytestmark = pytest.mark.benchmark

SIZE, IMAGES = 32, 120


def step_in(precision):
    with computing_in(precision):
        model = SelfTaughtModel(build_student("conv4", embedding_dim=128, teacher_dim=512), num_neighbors=4)
    model.compile("adam")
    views = np.random.default_rng(0).random((IMAGES, 2, SIZE, SIZE, 3), np.float32)
    batch = tf.constant(views), tf.range(IMAGES)
    step = tf.function(model.train_step)
    return lambda: float(keras.ops.convert_to_numpy(step(batch)["loss"]))


def test_step(benchmarks):
    benchmarks.compare(
        f"a step of conv4, {2 * IMAGES} views of {SIZE} px, mixed_bfloat16",
        step_in("mixed_bfloat16"),
        "float32",
        step_in("float32"),
        reach="0.78",
        rounds=7,
    )
