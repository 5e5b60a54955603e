"""What a training step does across replicas, so that many devices compute what one computes.

Each replica embeds its share of the batch's rows. The rows are then gathered, and every replica computes the same loss
over the whole batch. Its gradient reaches the weights in two ways, and both have to be counted once:

- Through the rows a replica embedded itself. The gradient of each row is known on every replica, but only the one that
  embedded it can take it further, so `gather_rows` counts it once for every replica.
- Directly, where weights come after the gathering, as proxies of classes do. Every replica knows this gradient whole.

The mean over replicas, `average_over_replicas`, is then exact for both. It must be the only reduction: an optimizer of
Keras sums gradients over replicas once more, after clipping them one by one; `reduce_no_further` takes that away.
Outside of a replica, and on a single one, all of this does nothing.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from stml_tf.errors import UserError
from stml_tf.tensor import Tensor


def gather_rows(rows: Tensor) -> Tensor:
    """Gather the rows of all replicas, in the order of the replicas, on each of them.

    Args:
        rows: `[batch_of_replica, ...]`, any numbers, the same shape on every replica; or a list of such tensors.

    Returns:
        `[batch, ...]`, of the same type. See this module on its gradient.
    """
    replica, count = _replica()
    if count == 1:
        return rows
    slots = tf.range(count) == replica.replica_id_in_sync_group

    def in_own_slot(own: Tensor, others: Tensor) -> Tensor:
        """`[replicas, batch_of_replica, ...]`"""
        return tf.where(tf.reshape(slots, [count] + [1] * len(own.shape)), own[None], others)

    def with_gradient(own: Tensor, everyone: Tensor) -> Tensor:
        joined = in_own_slot(_count_gradient(own, count), everyone)
        return tf.reshape(joined, tf.concat([[-1], tf.shape(own)[1:]], axis=0))

    # A sum in which each slot has one summand: the order is certain, whichever way the devices talk to each other.
    padded = tf.nest.map_structure(lambda own: in_own_slot(tf.stop_gradient(own), tf.zeros_like(own)[None]), rows)
    everyone = replica.all_reduce(tf.distribute.ReduceOp.SUM, padded)
    return tf.nest.map_structure(with_gradient, rows, everyone)


def average_over_replicas(gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Compute the gradients of the whole batch, on every replica; None stays None."""
    replica, count = _replica()
    if count == 1:
        return list(gradients)
    known = [gradient for gradient in gradients if gradient is not None]
    averages = iter(replica.all_reduce(tf.distribute.ReduceOp.MEAN, known))
    return [None if gradient is None else next(averages) for gradient in gradients]


def reduce_no_further(optimizer: keras.optimizers.Optimizer) -> None:
    """Let an optimizer take gradients as they are, where it would sum them over replicas.

    Raises:
        UserError: If this version of Keras sums them in some other way.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    if not hasattr(optimizer, "_all_reduce_sum_gradients"):
        raise UserError(f"Keras {keras.__version__} cannot train on several devices here: use 3.10 to 3.15.")
    optimizer._all_reduce_sum_gradients = list


@keras.saving.register_keras_serializable("stml_tf")
class SharedMean(keras.metrics.Mean):
    """A mean of values that all replicas agree on. It is read from the first, where Keras would ask all machines."""

    def add_variable(self, *args: Any, **kwargs: Any) -> keras.Variable:
        return super().add_variable(*args, **{**kwargs, "aggregation": "only_first_replica"})


def per_replica_log(value: Tensor) -> Tensor:
    """Shape a scalar so that `fit` can average it over replicas: across machines it averages along the first axis."""
    across_machines = isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy)
    return tf.reshape(value, [1]) if across_machines else value


def _replica() -> tuple[Any, int]:
    replica = tf.distribute.get_replica_context()
    return replica, replica.num_replicas_in_sync if replica else 1


def _count_gradient(value: Tensor, times: int) -> Tensor:
    @tf.custom_gradient
    def counted(value: Tensor) -> tuple[Tensor, Any]:
        return tf.identity(value), lambda upstream: upstream * tf.cast(times, upstream.dtype)

    return counted(value)
