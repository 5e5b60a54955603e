"""What the tests of distributed training share: a small student, and several devices made of one processor."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def logical_cpus(count):
    """Before TensorFlow starts: divide the processor into this many devices."""
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * count)


def tiny_student(*, batch_norm=None, dropout=0.0):
    """Images `[batch, 16, 16, 3]` to `(f [batch, 6], g [batch, 10])`; `batch_norm` is None, "frozen" or "synchronized".

    There is no bias where it would not matter to the losses: in the heads, as distances do not depend on it, and before
    BatchNorm. Its gradient is rounding error, which no two computations have in common and which Adam makes large.
    """
    images = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(images)
    if batch_norm:
        x = layers.BatchNormalization(momentum=0.9, synchronized=batch_norm == "synchronized")(x)
    x = layers.Dropout(dropout)(layers.Activation("tanh")(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(12, 3, activation="tanh")(x))
    heads = [
        layers.Dense(width, use_bias=False, kernel_initializer="orthogonal", dtype="float32", name=name)(x)
        for name, width in (("f", 6), ("g", 10))
    ]
    student = keras.Model(images, heads)
    for layer in student.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = batch_norm != "frozen"
    return student


def weights_of(model):
    return [np.asarray(weight) for part in (model.student, model.teacher) for weight in part.weights]


def batches_of_views(steps, *, images=8, seed=0):
    """Pairs of views `[images, 2, 16, 16, 3]` and ids, as `training_batches` makes them, alike for an image."""
    random = np.random.default_rng(seed)
    views = random.normal(size=(steps, images, 1, 1, 1, 3)) + random.normal(size=(steps, images, 2, 16, 16, 3)) / 2
    ids = np.stack([random.permutation(images) for _ in range(steps)])
    return tf.data.Dataset.from_tensor_slices((views.astype(np.float32), ids))
