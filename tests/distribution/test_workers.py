import copy
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter

import pytest

from stml_tf.distribution.workers import Job, is_chief, job, wait_for_workers, worker
from stml_tf.errors import UserError
from tests.ports import free_ports

TWO = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}


def with_chief(role, index):
    return {"cluster": {"chief": ["c:1"], "worker": ["a:1", "b:1"]}, "task": {"type": role, "index": index}}


@pytest.fixture
def tf_config(monkeypatch):
    def set_to(config):
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))

    return set_to


@pytest.mark.parametrize(
    ("config", "number", "count"),
    [
        (TWO, 1, 2),
        ({**TWO, "task": {"type": "worker", "index": 0}}, 0, 2),
        ({**TWO, "task": {"type": "worker", "index": "1"}}, 1, 2),
        ({**TWO, "environment": "cloud", "rpc_layer": "grpc"}, 1, 2),
        (with_chief("chief", 0), 0, 3),
        (with_chief("worker", 0), 1, 3),
        (with_chief("worker", 1), 2, 3),
        ({"cluster": {"chief": ["c:1"], "worker": ["a:1"]}, "task": {"type": "worker"}}, 1, 2),
        ({"cluster": {"worker": ["[::1]:1", "b:1"], "evaluator": ["e:1"], "ps": []}, "task": TWO["task"]}, 1, 2),
    ],
)
def test_tf_config_says_who_a_process_is(tf_config, config, number, count):
    tf_config(config)
    assert worker() == (number, count)
    assert is_chief() == (number == 0)


@pytest.mark.parametrize(
    "config",
    [
        *("", " ", "null", {}, {"environment": "cloud"}, {"cluster": None}, {"cluster": {}, "task": None}),
        {"cluster": {"worker": None, "chief": []}, "task": {}},
        {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": ["a:1"]}, "task": None},
        {"cluster": {"worker": ["a:1"], "evaluator": ["e:1"]}, "task": {"type": "worker", "index": "0"}},
        {"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}},
        {"cluster": {}, "task": {"type": "worker", "index": 0}},
        {"task": {"type": "chief", "index": 0}, "environment": "cloud"},
    ],
)
def test_a_process_that_has_nobody_beside_it_trains_alone(tf_config, config):
    tf_config(config)
    assert job() == Job()
    assert worker() == (0, 1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{'cluster'", r"^TF_CONFIG is not JSON \(Expecting property name .*\): give .*, or unset it to train alone"),
        ("[" * 100_000, r"^TF_CONFIG is not JSON \(maximum recursion depth"),
        ("1" * 5_000, r"^TF_CONFIG is not JSON"),
        ([], r"^TF_CONFIG: \[\] given; allowed: an object\. Give \{"),
        ({"cluster": ["a:1"]}, r'cluster: \["a:1"\] given; allowed: an object'),
        ({"cluster": {"worker": "a:1"}}, r'cluster\.worker: "a:1" given; allowed: a list of addresses'),
        ({"cluster": {"worker": ["a"]}}, r'cluster\.worker: "a" given; allowed: host:port'),
        ({"cluster": {"worker": ["a:65536"]}}, r'cluster\.worker: "a:65536" given; allowed: host:port'),
        ({"cluster": {"worker": ["a:1", "a:1"]}}, r'cluster: "a:1" given; .* this one is there twice'),
        ({"cluster": {"chief": ["a:1", "b:1"]}}, r"cluster\.chief: .* given; allowed: one address"),
        ({"cluster": {"ps": ["a:1"]}}, r"cluster\.ps: .* only chief and worker, as there are no parameter servers"),
        ({**TWO, "task": {"type": "evaluator", "index": 0}}, r'task\.type: "evaluator" given; .* start no evaluator'),
        ({"task": {"type": "evaluator", "index": 0}}, r'task\.type: "evaluator" given; .* start no evaluator'),
        ({**TWO, "task": None}, r"task\.type: null given; allowed: chief or worker, whichever this process is"),
        (
            {**TWO, "task": {"type": "worker"}},
            r"task\.index: null given; allowed: 0 to 1, which worker this",
        ),
        ({**TWO, "task": {"type": "worker", "index": 2}}, r"task\.index: 2 given; allowed: 0 to 1"),
        ({**TWO, "task": {"type": "worker", "index": "one"}}, r'task\.index: "one" given; allowed: 0 to 1'),
        ({**TWO, "task": {"type": "worker", "index": True}}, r"task\.index: true given"),
        ({**TWO, "task": {"type": "chief", "index": 0}}, r"task\.index: 0 given; allowed: nothing, .* names no chief"),
        ({"task": {"type": "worker", "index": 1}}, r"task\.index: 1 given; allowed: nothing, .* names no worker"),
    ],
)
def test_a_tf_config_that_cannot_be_followed_is_refused_by_its_field(tf_config, config, message):
    tf_config(config)
    with pytest.raises(UserError, match=message):
        job()


ODD = (
    *(None, True, False, 0, 1, 2, -1, 1.0, 1.5, 10**30, float("nan"), float("inf")),
    *("", "0", "1", "x", "worker", "chief", "evaluator", "ps", "a:1", "a:b", ":1", "a:0", "\ud800:1", "٣", "9" * 5_000),
    *([], [None], [[]], ["a:1"], ["a:1", "a:1"], ["x" * 10_000 + ":1"], {}, {"a": 1}, {"0": "a:1"}, [{}] * 100),
    json.loads("[" * 300 + "]" * 300),
)
LEFT_OUT = object()


def fields(value, path=()):
    """The path of every field, list items and the whole included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from fields(inner, (*path, key))


def changed(config, path, value):
    if not path:
        return {} if value is LEFT_OUT else value
    config = copy.deepcopy(config)
    section = config
    for key in path[:-1]:
        section = section[key]
    if value is LEFT_OUT:
        del section[path[-1]]
    else:
        section[path[-1]] = value
    return config


def test_whatever_a_field_of_tf_config_holds_the_process_knows_its_number_or_says_what_is_wrong(tf_config, capsys):
    outcomes = Counter()
    alone = {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}
    full = {**with_chief("worker", 1), "environment": "cloud"}
    full["cluster"]["evaluator"] = ["e:1"]
    for config in (
        changed(base, path, value) for base in (alone, TWO, full) for path in fields(base) for value in (LEFT_OUT, *ODD)
    ):
        tf_config(json.dumps(config))
        try:
            number, count = worker()
        except UserError as error:
            assert str(error).startswith("TF_CONFIG") and len(str(error)) < 500
            outcomes["refused"] += 1
        else:
            assert 0 <= number < count
            outcomes["alone" if count == 1 else "one of several"] += 1
    with capsys.disabled():
        print(f"\nTF_CONFIG mutated {outcomes.total()} times: {dict(outcomes)}")
    assert outcomes["refused"] > 500 and outcomes["alone"] > 30 and outcomes["one of several"] > 50


def two_on_this_machine(number=0):
    return Job(tuple(f"localhost:{port}" for port in free_ports(2)), number)


# Opens the port again afterwards, as TensorFlow does, until standard input ends.
WAIT = """
import socket, sys
from stml_tf.distribution.workers import job, wait_for_workers
wait_for_workers(job())
with socket.create_server(("", int(job().addresses[job().number].split(":")[1]))):
    print("all are there", flush=True)
    sys.stdin.read()
"""


def start(found, number, **environment):
    task = {"cluster": found.cluster, "task": {"type": "worker", "index": number}}
    return subprocess.Popen(
        [sys.executable, "-c", WAIT],
        env={**os.environ, "TF_CONFIG": json.dumps(task), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore SIGINT, and what they start does so, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_workers_go_on_once_all_are_there():
    found = two_on_this_machine()
    first = start(found, 0)
    told = first.stderr.readline()
    assert re.fullmatch(rf"Waiting for {found.addresses[1]} of TF_CONFIG, for 5\d\d seconds at most\.\n", told), told
    second = start(found, 1)
    assert [each.stdout.readline() for each in (first, second)] == ["all are there\n"] * 2
    for each in (first, second):
        each.communicate(timeout=600)
        assert each.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_waits_stops_at_a_signal(number):
    waiting = start(two_on_this_machine(), 0)
    waiting.stderr.readline()
    waiting.send_signal(number)
    waiting.communicate(timeout=600)
    assert waiting.returncode == -number


def test_a_worker_that_stays_alone_gives_up_and_says_who_is_missing(monkeypatch):
    found, told = two_on_this_machine(), []
    monkeypatch.setenv("STML_TF_WAIT_SECONDS", "0.7")
    with pytest.raises(UserError, match=rf"^{found.addresses[1]} of TF_CONFIG did not answer within 0\.7 seconds: st"):
        wait_for_workers(found, tell=told.append)
    # None where the machine was held up until the time was over.
    assert set(told) <= {f"Waiting for {found.addresses[1]} of TF_CONFIG, for 0 seconds at most."}


@pytest.mark.parametrize("given", ["soon", "-1", "nan", "inf"])
def test_how_long_to_wait_is_a_number_of_seconds(monkeypatch, given):
    monkeypatch.setenv("STML_TF_WAIT_SECONDS", given)
    with pytest.raises(UserError, match=rf"STML_TF_WAIT_SECONDS: '{given}' given; allowed: a number of seconds"):
        wait_for_workers(two_on_this_machine())


def test_a_port_that_is_taken_is_named():
    found = two_on_this_machine()
    with (
        socket.create_server(("", int(found.addresses[0].split(":")[1]))),
        pytest.raises(UserError, match=r"cannot open that port \(Address already in use\): .* the same task\.index"),
    ):
        wait_for_workers(found, seconds=0)


def test_a_host_that_does_not_exist_does_not_answer():
    found = Job((two_on_this_machine().addresses[0], "no such host:1"))
    with pytest.raises(UserError, match="no such host:1 of TF_CONFIG did not answer"):
        wait_for_workers(found, seconds=0)
