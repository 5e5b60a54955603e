"""Several devices and several machines compute what one device does.

TensorFlow's devices are made of one processor, in processes of their own: they cannot be made once TensorFlow runs.
"""

import json
import os
import signal
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf

from stml_tf.distribution.devices import require_same, share_of_batch, strategy_for
from tests.ports import free_ports

# Kernels of oneDNN round differently for batches of different sizes, which a ReLU or a maximum now and then magnifies.
ENVIRONMENT = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
CASES = ["clipped", "two_optimizers_frozen_batch_norm", "synchronized_batch_norm", "accumulated"]


def start(module, *arguments, **environment):
    command = [sys.executable, "-m", f"tests.distribution.{module}", *map(str, arguments)]
    return subprocess.Popen(
        command, env={**ENVIRONMENT, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(*processes, timeout=600):
    """Waits for all; none outlives this call, as a worker that TensorFlow has wait for another hears no SIGTERM."""
    try:
        for process in processes:
            output, _ = process.communicate(timeout=timeout)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)


def load(path):
    with np.load(path) as arrays:
        return {key: arrays[key] for key in arrays.files}


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def trained(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("replicas") / "result.npz"
    finish(start("replica_run", request.param, path))
    found = load(path)
    assert found["replicas"] == request.param
    return found


def pairs(found, prefix):
    """What one device computed, and what several did."""
    keys = [key for key in found if key.startswith(f"{prefix}/one/")]
    assert keys
    return {key.split("/")[-1]: (found[key], found[key.replace("/one/", "/all/")]) for key in keys}


@pytest.mark.parametrize("case", CASES)
def test_replicas_train_as_one_device_does(trained, case):
    tolerance = 1e-4 if case == "synchronized_batch_norm" else 1e-5
    for name, (one, several) in pairs(trained, case).items():
        scale = np.abs(one).max()
        atol = 1e-6 if name.startswith("log") else tolerance * scale
        np.testing.assert_allclose(several, one, rtol=tolerance, atol=atol, err_msg=name)


def test_the_training_that_replicas_agree_on_goes_somewhere(trained):
    """Weights that hardly moved would agree whatever the gradients."""
    weights = pairs(trained, "clipped")
    student, teacher = weights["weight0"][0], weights["weight5"][0]  # of the first layer
    assert np.abs(student - teacher).max() > 1e-2 * np.abs(student).max()


def test_gradients_before_and_after_the_gathering_count_once(trained):
    for name, (one, several) in pairs(trained, "gathered").items():
        np.testing.assert_allclose(several, one, rtol=1e-5, atol=1e-6, err_msg=name)


def test_replicas_embed_a_batch_of_any_size_in_its_order(trained):
    one, several = pairs(trained, "embedded")["0"]
    assert several.shape == (7, 10)
    np.testing.assert_allclose(several, one, rtol=1e-5, atol=1e-6)


def test_each_replica_gets_a_contiguous_part_of_the_batch(trained):
    np.testing.assert_array_equal(*pairs(trained, "split")["0"])


@pytest.mark.slow
def test_two_workers_train_as_two_replicas_of_one_process_do(tmp_path):
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    tasks = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}) for index in (0, 1)]
    paths = [tmp_path / f"{name}.npz" for name in ("first", "second", "alone")]
    finish(*(start("distributed_run", path, TF_CONFIG=task) for path, task in zip(paths, tasks, strict=False)))
    finish(start("distributed_run", paths[2]))
    first, second, alone = map(load, paths)
    assert [bool(found.pop("chief")) for found in (first, second, alone)] == [True, False, True]
    assert first["replicas"] == second["replicas"] == alone["replicas"] == 2
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)
        np.testing.assert_allclose(first[key], alone[key], rtol=1e-5, atol=1e-6, err_msg=key)


FEWER = "set training.devices to fewer"


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        (
            30,
            {"num_neighbors": 5},
            r"has 30 images; .* 4 devices: .* times .*num_neighbors, 4 \* 5 = 20, such as 20 or 40",
        ),
        (
            8,
            {"num_neighbors": 5},
            r"has 8 images; .* such as 20\. Change batch.size .*, or set training.devices to fewer",
        ),
        (
            30,
            {},
            r"has 30 images; allowed on 4 devices: a multiple of devices, such as 28 or 32\. Change batch.size \(for s",
        ),
        (
            40,
            {"num_neighbors": 5, "accumulate": 3},
            "accumulate: 3 given; allowed: a divisor of the 10 images of a step",
        ),
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused(batch, options, message):
    with pytest.raises(ValueError, match=message):
        share_of_batch(batch, 4, **{"num_neighbors": 1, "accumulate": 1, **options}, fewer=FEWER)


def test_a_device_gets_its_share():
    assert share_of_batch(40, 4, num_neighbors=5, accumulate=2, fewer=FEWER) == 10
    assert share_of_batch(10, 1, num_neighbors=6, accumulate=2, fewer=FEWER) == 10, "one device takes any batch"


@pytest.mark.parametrize(
    ("options", "devices"),
    [({}, 8), ({"num_neighbors": 5}, 8), ({"num_neighbors": 4}, 6), ({"accumulate": 7}, 1), ({"jit": True}, 1)],
)
def test_of_all_devices_as_many_take_part_as_can_divide_a_batch(monkeypatch, options, devices):
    module = "stml_tf.distribution.devices"
    monkeypatch.setattr(f"{module}._available", lambda: [f"GPU:{number}" for number in range(8)])
    monkeypatch.setattr(f"{module}._mirrored", len)
    chosen = strategy_for("all", 120, **options)
    assert chosen == devices if devices > 1 else chosen is tf.distribute.get_strategy()


def test_devices_that_are_named_or_counted_have_to_divide_a_batch(monkeypatch):
    monkeypatch.setattr("stml_tf.distribution.devices._available", lambda: [f"GPU:{number}" for number in range(8)])
    for devices in (8, ["GPU:0", "GPU:1", "GPU:2", "GPU:3", "GPU:4", "GPU:5", "GPU:6"]):
        with pytest.raises(
            ValueError, match=r"A step has 120 images; allowed on [87] devices: .* training.devices to fewer"
        ):
            strategy_for(devices, 120, num_neighbors=4)


def test_one_device_needs_no_strategy():
    available = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    first = available[0].name.removeprefix("/device:")
    for devices in (1, [first], first):
        assert strategy_for(devices, 8) is tf.distribute.get_strategy()


@pytest.mark.parametrize("devices", [0, 99, ["TPU:7"], [], ["CPU:0", "CPU:0"], "gpu"])
def test_devices_that_do_not_exist_are_refused(devices):
    with pytest.raises(ValueError, match=r'given; allowed: "all", a count from 1 to \d+, or a list of different names'):
        strategy_for(devices, 8)


@pytest.mark.parametrize(("mine", "others"), [([3, 0], [3, 0]), ([3, 0], [3, 1]), (None, ["epoch-0001"])])
def test_workers_that_see_something_else_are_refused(monkeypatch, mine, others):
    module = "stml_tf.distribution.devices"
    monkeypatch.setattr(f"{module}.worker", lambda: (0, 2))
    other = [zlib.crc32(repr("recipe").encode()), zlib.crc32(repr(others).encode()), 0]
    monkeypatch.setattr(
        f"{module}.sum_over_workers", lambda _: lambda own: [a + b for a, b in zip(own, other, strict=True)]
    )
    if mine == others:
        require_same(None, recipe="recipe", run_folder=mine)
        return
    with pytest.raises(ValueError, match=r"The 2 workers do not see the same run folder: .* here\. Give all of them"):
        require_same(None, recipe="recipe", run_folder=mine)


def test_a_worker_alone_agrees_with_itself():
    require_same(tf.distribute.get_strategy(), recipe={"seed": 0}, images=None)


def test_xla_is_refused_on_several_devices(monkeypatch):
    monkeypatch.setattr("stml_tf.distribution.devices._available", lambda: ["GPU:0", "GPU:1"])
    with pytest.raises(
        ValueError, match=r"training.jit: true given; allowed on 2 devices: false, or set .*devices to 1"
    ):
        strategy_for(2, 8, jit=True)
    config = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(ValueError, match=r"training.jit: true given; allowed on 2 workers: false"):
        strategy_for("all", 8, jit=True)


def test_devices_are_not_chosen_where_workers_are(monkeypatch):
    config = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(ValueError, match=r'training.devices: 2 given; allowed on 2 workers: "all"'):
        strategy_for(2, 8)
