"""Two epochs of training, for `test_distribution.py` to run in processes of its own: alone, or as one of two workers.

Run as `python -m tests.distribution.distributed_run RESULT.npz`. With TF_CONFIG this is a worker with one replica;
without, two replicas in one process.
"""

import sys
from functools import partial

import keras
import numpy as np

from stml_tf.data.batches.neighbor_batches import NeighborBatches
from stml_tf.data.catalog import ImageSet
from stml_tf.data.loader import evaluation_batches, training_batches
from stml_tf.data.transforms import evaluation_view, random_view
from stml_tf.distribution.devices import distribute_batches, on_all_replicas, strategy_for
from stml_tf.distribution.workers import is_chief, worker
from stml_tf.evaluation import embed
from stml_tf.fitting.callbacks import NeighborBatchesCallback
from stml_tf.methods import SelfTaughtModel
from stml_tf.models import build_student
from tests.methods.tiny_student import logical_cpus, weights_of


def main(result: str) -> None:
    number, count = worker()
    logical_cpus(2 // count)
    strategy = strategy_for("all", 8)
    keras.utils.set_random_seed(3)
    with strategy.scope():
        student = build_student("conv4", embedding_dim=4, teacher_dim=6, synchronize_batch_norm=True)
        model = SelfTaughtModel(student, num_neighbors=2, momentum=0.9)
        # Not AdamP: two processes add up in another order than one, and where a gradient all but vanishes, as that of a
        # bias in front of BatchNorm, it would make of the last digit a share of a step.
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), head_optimizer=keras.optimizers.SGD(0.1))
    images = ImageSet(np.random.default_rng(0).integers(0, 256, (27, 20, 20, 3), np.uint8))
    preprocess = lambda views: views / 127.5 - 1.0  # noqa: E731
    fixed = evaluation_batches(
        images, batch_size=10, view=partial(evaluation_view, size=16), preprocess=preprocess, threads=1
    )
    embed_g = on_all_replicas(lambda batch: student(batch, training=False)[1], strategy)
    batches = NeighborBatches(len(images), batch_size=8, num_neighbors=2)
    neighbors = NeighborBatchesCallback(
        lambda: embed(embed_g, fixed, count=len(images), normalize=False), batches.batches, num_neighbors=2
    )
    dataset = training_batches(
        images,
        neighbors.current,
        steps_per_epoch=batches.steps_per_epoch,
        batch_size=8,
        num_views=2,
        view=partial(random_view, size=16),
        preprocess=preprocess,
        seed=0,
        part=(number, count),
        threads=1,
    )
    history = model.fit(
        distribute_batches(dataset, strategy), epochs=2, shuffle=False, verbose=0, callbacks=[neighbors]
    ).history
    logs = {f"log_{name}": np.ravel(values) for name, values in history.items()}
    np.savez(
        result,
        *weights_of(model),
        **logs,
        replicas=strategy.num_replicas_in_sync,
        chief=is_chief(),
        embeddings=embed(embed_g, fixed, count=len(images), normalize=False),
        order=neighbors.current()[1],
    )


if __name__ == "__main__":
    main(sys.argv[1])
