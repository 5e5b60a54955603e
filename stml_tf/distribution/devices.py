"""Training on several devices, and on several machines: which take part, and what each of them gets.

Where `TF_CONFIG` names several workers, this process is one of them and all of its devices take part. All workers run
the same program on the same data with the same recipe.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import cache, partial
from textwrap import shorten
from typing import Any

import numpy as np
import tensorflow as tf

from stml_tf.distribution.workers import job, wait_for_workers, worker
from stml_tf.errors import UserError
from stml_tf.tensor import Tensor


def strategy_for(
    devices: str | int | Sequence[str],
    batch_size: int,
    *,
    num_neighbors: int = 1,
    accumulate: int = 1,
    jit: bool = False,
) -> tf.distribute.Strategy:
    """Choose the strategy under whose `scope()` a model is built. Of several workers, call it before anything else.

    Args:
        devices: "all" for the GPUs of this machine, or its CPU where it has none: as many of them as can divide a batch
            evenly; a count of them; or their names, such as `["GPU:0", "GPU:2"]`.
        batch_size: Images in the global batch.
        num_neighbors: Images in a group; a group stays on one device.
        accumulate: Pieces in which a device takes its share of the batch.
        jit: Whether the training step is compiled with XLA, which one device alone does.

    Returns:
        For one device TensorFlow's default strategy, or one that is bound to it; for several `MirroredStrategy`; for
        several workers, `MultiWorkerMirroredStrategy`, once all of them are there.

    Raises:
        UserError: If there is no such device, a choice is made where there are several workers, the batch cannot be
            divided evenly, there are several devices and `jit`, or a worker is missing.
    """
    share = partial(share_of_batch, batch_size, num_neighbors=num_neighbors, accumulate=accumulate)
    if (workers := worker()[1]) > 1:
        if devices != "all":
            raise UserError(
                f'training.devices: {devices!r} given; allowed on {workers} workers: "all". Hide devices from a worker '
                "with CUDA_VISIBLE_DEVICES."
            )
        if jit:
            raise UserError(f"training.jit: true given; allowed on {workers} workers: false.")
        strategy = _multi_worker()
        share(strategy.num_replicas_in_sync, fewer="start fewer workers")
        return strategy
    available = _available()
    if devices == "all":
        fitting = (count for count in range(len(available), 1, -1) if not jit and _divides(share, count))
        devices = next(fitting, 1)
    chosen = _choose(devices, available)
    if len(chosen) > 1:
        if jit:
            raise UserError(
                f"training.jit: true given; allowed on {len(chosen)} devices: false, or set training.devices to 1."
            )
        share(len(chosen), fewer="set training.devices to fewer")
        return _mirrored(tuple(chosen))
    if chosen[0] == available[0]:
        return tf.distribute.get_strategy()
    return tf.distribute.OneDeviceStrategy(chosen[0])


def share_of_batch(batch_size: int, devices: int, *, num_neighbors: int, accumulate: int, fewer: str) -> int:
    """Compute how many images of each batch a device gets.

    Args:
        batch_size: Images in the global batch.
        devices: On how many devices.
        num_neighbors: Images in a group; a group stays on one device.
        accumulate: Pieces in which a device takes its share.
        fewer: What to do for fewer devices, to tell who has to choose.

    Raises:
        UserError: If several devices cannot divide the batch evenly.
    """
    if devices == 1:
        return batch_size
    if batch_size % (unit := devices * num_neighbors):
        of_groups = f" times sampling.num_neighbors, {devices} * {num_neighbors} = {unit}" if num_neighbors > 1 else ""
        below = batch_size - batch_size % unit
        nearest = f"{below} or {below + unit}" if below else str(unit)
        raise UserError(
            f"A step has {batch_size} images; allowed on {devices} devices: a multiple of devices{of_groups}, such as "
            f"{nearest}. Change batch.size (for supervised, supervision.classes_per_batch), or {fewer}."
        )
    share = batch_size // devices
    if share % accumulate:
        raise UserError(
            f"training.accumulate: {accumulate} given; allowed: a divisor of the {share} images of a step that each of "
            f"{devices} devices gets; or {fewer}."
        )
    return share


def distribute_batches(dataset: tf.data.Dataset, strategy: tf.distribute.Strategy) -> Any:
    """Divide batches among this machine's replicas, each an equal part that keeps the order.

    Args:
        dataset: Batches of this worker: with several workers, its own part of each global batch.
        strategy: What `strategy_for` gave.

    Returns:
        What `fit` takes.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return strategy.experimental_distribute_dataset(dataset) if strategy.num_replicas_in_sync > 1 else dataset

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        batch = dataset.element_spec[-1].shape[0] * context.num_input_pipelines
        return dataset.rebatch(context.get_per_replica_batch_size(batch), drop_remainder=True)

    batches = strategy.distribute_datasets_from_function(of_worker)
    # Without the number of steps `fit` would read on, and train on an empty batch at the end of each epoch.
    batches._cardinality = int(dataset.cardinality())
    return batches


def on_all_replicas(function: Callable[[Tensor], Tensor], strategy: tf.distribute.Strategy) -> Callable[[Any], Tensor]:
    """Let all replicas of all workers share the work of a function of a batch.

    Args:
        function: From `[batch, ...]` to `[batch, ...]`, row by row.
        strategy: Under whose scope the function's variables were made. All workers must call with the same batch.

    Returns:
        A compiled function that gives what `function` does, on every worker.
    """
    if (replicas := strategy.num_replicas_in_sync) == 1:
        on_its_device = isinstance(strategy, tf.distribute.OneDeviceStrategy)
        place = (lambda batch: strategy.run(function, args=(batch,))) if on_its_device else function
        return tf.function(place, autograph=False, reduce_retracing=True)

    @tf.function(autograph=False, reduce_retracing=True)
    def run(parts: Any) -> Tensor:
        return strategy.gather(strategy.run(function, args=(parts,)), axis=0)

    def shared(batch: Any) -> Tensor:
        rows = len(batch)
        padding = [[0, -rows % replicas]] + [[0, 0]] * (len(batch.shape) - 1)
        parts = tf.split(tf.pad(batch, padding), replicas)
        mine = strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )
        return run(mine)[:rows]

    return shared


def sum_over_workers(strategy: tf.distribute.Strategy) -> Callable[[list[int]], list[int]]:
    """Make a function from whole numbers to their sums over all workers, one by one. All must call it together."""
    if worker()[1] == 1:
        return list
    replicas_of_worker = strategy.num_replicas_in_sync // worker()[1]
    gather = tf.function(lambda rows: strategy.gather(rows, axis=0))

    def sums(numbers: list[int]) -> list[int]:
        rows = strategy.experimental_distribute_values_from_function(lambda _: tf.constant([numbers], tf.int64))
        return (gather(rows).numpy().sum(axis=0) // replicas_of_worker).tolist()

    return sums


def of_chief(strategy: tf.distribute.Strategy, array: np.ndarray) -> np.ndarray:
    """Return the array that the first worker calls this with, on every worker. All must call it together.

    What is computed alike on every worker still differs by rounding where their processors differ, and an eigenvector
    then by its sign.

    Args:
        strategy: What `strategy_for` gave.
        array: This worker's own, of numbers.

    Raises:
        UserError: If another worker's array has another shape.
    """
    if worker()[1] == 1:
        return array
    require_same(strategy, shape_of_a_result=array.shape)
    rows = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(array[None]))
    return tf.function(lambda rows: strategy.gather(rows, axis=0))(rows)[0].numpy()


def require_same(strategy: tf.distribute.Strategy, **seen: Any) -> None:
    """Let the workers wait for each other, and go on only if they see the same. All workers must call it together.

    Workers that differ, in the checkpoint they go on from say, would train on without a word, or wait for ever.

    Args:
        strategy: What `strategy_for` gave.
        seen: What is seen, under its name; `repr` tells whether it is the same.

    Raises:
        UserError: If another worker sees something else.
    """
    workers = worker()[1]
    own = [zlib.crc32(repr(value).encode()) for value in seen.values()]
    for (name, value), number, total in zip(seen.items(), own, sum_over_workers(strategy)([*own, 0]), strict=False):
        if total != workers * number:
            shown = shorten(repr(value), 200)
            raise UserError(
                f"The {workers} workers do not see the same {name.replace('_', ' ')}: {shown} here. Give all of them "
                "the same recipe and data, and a --run-dir on storage that all of them see."
            )


# Each strategy numbers its exchanges between devices from the start, and those of a second one in the same process are
# taken for the first one's: hence one strategy for all models of a process.
@cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(devices)


@cache
def _multi_worker() -> tf.distribute.Strategy:
    found = job()
    wait_for_workers(found)
    role, index = found.task
    return tf.distribute.MultiWorkerMirroredStrategy(
        tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(found.cluster), task_type=role, task_id=index, rpc_layer="grpc"
        )
    )


def _divides(share: Callable[..., int], devices: int) -> bool:
    try:
        share(devices, fewer="")
    except UserError:
        return False
    return True


def _available() -> list[str]:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name.removeprefix("/device:") for device in devices]


def _choose(devices: str | int | Sequence[str], available: list[str]) -> list[str]:
    if isinstance(devices, int):
        chosen = available[:devices]
        fits = len(chosen) == devices >= 1
    else:
        chosen = [devices] if isinstance(devices, str) else list(devices)
        known = {*available, "CPU:0"}
        fits = bool(chosen) and set(chosen) <= known and len(set(chosen)) == len(chosen)
    if not fits:
        raise UserError(
            f'training.devices: {devices!r} given; allowed: "all", a count from 1 to {len(available)}, or a list of '
            f"different names of {', '.join(available)}."
        )
    return chosen
