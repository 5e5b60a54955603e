"""Trainings on one device and on several, for `test_distribution.py` to run in a process of its own.

Run as `python -m tests.distribution.replica_run REPLICAS RESULT.npz`: the devices have to be made before TensorFlow
starts, and a process can hold no two strategies of different sizes.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

from stml_tf.distribution.devices import distribute_batches, on_all_replicas, strategy_for
from stml_tf.distribution.replicas import average_over_replicas, gather_rows
from stml_tf.methods import SelfTaughtModel
from stml_tf.models import build_mlp
from stml_tf.optimizers import AdamP
from tests.methods.tiny_student import batches_of_views, logical_cpus, tiny_student, weights_of

STEPS = 10


def sgd_with_clipping():
    return {"optimizer": keras.optimizers.SGD(0.2, momentum=0.9, global_clipnorm=0.3)}


def adamp_and_heads():
    return {"optimizer": AdamP(1e-3, weight_decay=0.1), "head_optimizer": keras.optimizers.SGD(0.1)}


CASES = {
    "clipped": (sgd_with_clipping, {}, {}),
    "two_optimizers_frozen_batch_norm": (adamp_and_heads, {"batch_norm": "frozen"}, {"teacher_center": True}),
    "synchronized_batch_norm": (sgd_with_clipping, {"batch_norm": "synchronized"}, {}),
    "accumulated": (sgd_with_clipping, {}, {"accumulate": 2}),
}


def train(devices, optimizers, student, options):
    strategy = strategy_for(devices, 8)
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = SelfTaughtModel(tiny_student(**student), num_neighbors=2, momentum=0.9, **options)
        model.compile(**optimizers())
    history = model.fit(distribute_batches(batches_of_views(STEPS), strategy), shuffle=False, verbose=0).history
    return weights_of(model), history


def weights_before_and_after_the_gathering(devices):
    """Gradients of a loss over gathered rows by what makes the rows, and by what follows."""
    strategy = strategy_for(devices, 8)
    replicas = strategy.num_replicas_in_sync
    keras.utils.set_random_seed(1)
    with strategy.scope():
        before, after = build_mlp(3, 4, 5), build_mlp(5, 4, 2)
    variables = [*before.trainable_variables, *after.trainable_variables]
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)

    def step(own):
        with tf.GradientTape() as tape:
            gathered = gather_rows(before(own))
            loss = tf.reduce_sum(after(gathered) ** 2) * tf.math.reduce_std(gathered)
        return loss, average_over_replicas([*tape.gradient(loss, variables), None])[:-1]

    own = strategy.experimental_distribute_values_from_function(
        lambda context: np.split(rows, replicas)[context.replica_id_in_sync_group]
    )
    loss, gradients = strategy.run(tf.function(step), args=(own,))
    return [strategy.experimental_local_results(each)[-1] for each in (loss, *gradients)]


def main(replicas: int, result: str) -> None:
    logical_cpus(replicas)
    found = {}
    for name, (optimizers, student, options) in CASES.items():
        for label, devices in (("one", ["CPU:0"]), ("all", "all")):
            weights, history = train(
                devices, optimizers, student, options if label == "all" else {**options, "accumulate": 1}
            )
            found |= {f"{name}/{label}/weight{number}": weight for number, weight in enumerate(weights)}
            found |= {f"{name}/{label}/log_{key}": np.asarray(values) for key, values in history.items()}
    for label, devices in (("one", ["CPU:0"]), ("all", "all")):
        for number, value in enumerate(weights_before_and_after_the_gathering(devices)):
            found[f"gathered/{label}/{number}"] = np.asarray(value)

    strategy = strategy_for("all", 8)
    images = np.random.default_rng(0).normal(size=(7, 16, 16, 3)).astype(np.float32)
    with strategy.scope():
        student = tiny_student()
    found["embedded/one/0"] = np.asarray(student(images)[1])
    found["embedded/all/0"] = np.asarray(on_all_replicas(lambda batch: student(batch)[1], strategy)(images))
    _, ids = next(iter(distribute_batches(batches_of_views(1), strategy)))
    found["split/one/0"] = next(iter(batches_of_views(1)))[1].numpy()
    found["split/all/0"] = np.concatenate(strategy.experimental_local_results(ids))
    np.savez(result, replicas=strategy.num_replicas_in_sync, **found)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
