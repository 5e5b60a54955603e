"""The workers of one job, as `TF_CONFIG` names them: which of them this process is, and whether the others are there.

TensorFlow describes the variable at https://www.tensorflow.org/guide/distributed_training. Importing this module loads
no TensorFlow, so that a wrong `TF_CONFIG` is refused at once.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from stml_tf.errors import UserError

EXAMPLE = '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}'
WAIT_VARIABLE = "STML_TF_WAIT_SECONDS"
WAIT_SECONDS = 600.0
_ROLES = ("chief", "worker")  # the chief comes first
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_BETWEEN_NOTICES = 30.0
_SECONDS_TO_CONNECT = 2.0


@dataclass(frozen=True)
class Job:
    """All processes that train together, and which of them this one is.

    Attributes:
        addresses: "host:port" of each, in the order of their numbers; empty for a process that trains alone.
        number: This process's place among them.
        num_chiefs: How many of the first are called chief in `TF_CONFIG`, not worker: 0 or 1.
    """

    addresses: tuple[str, ...] = ()
    number: int = 0
    num_chiefs: int = 0

    @property
    def cluster(self) -> dict[str, list[str]]:
        """Return addresses by role, without the roles that nobody has."""
        chiefs, workers = self.addresses[: self.num_chiefs], self.addresses[self.num_chiefs :]
        return {role: list(found) for role, found in zip(_ROLES, (chiefs, workers), strict=True) if found}

    @property
    def task(self) -> tuple[str, int]:
        """Return the role of this process and its index there."""
        if self.number < self.num_chiefs:
            return "chief", self.number
        return "worker", self.number - self.num_chiefs


def job() -> Job:
    """Read `TF_CONFIG`.

    Returns:
        A job of several processes; or one of this process alone, where the variable is not set, names no cluster, or
        names nobody but this process. An evaluator that the cluster names beside the others takes no part.

    Raises:
        UserError: If `TF_CONFIG` cannot be understood, contradicts itself, or gives this process a role that it cannot
            have.
    """
    config = _section(_parsed(os.environ.get("TF_CONFIG", "")), "TF_CONFIG")
    cluster, task = (_section(config.get(key), key) for key in ("cluster", "task"))
    for role in cluster:
        if role not in (*_ROLES, "evaluator") and cluster[role]:
            raise _refused(f"cluster.{role}", cluster[role], "only chief and worker, as there are no parameter servers")
    chiefs, workers = (_addresses(cluster.get(role), f"cluster.{role}") for role in _ROLES)
    if len(chiefs) > 1:
        raise _refused("cluster.chief", chiefs, "one address")
    addresses = (*chiefs, *workers)
    for address in addresses:
        if addresses.count(address) > 1:
            raise _refused("cluster", address, "an address of its own for each process, but this one is there twice")
    number = _number(task, {"chief": range(len(chiefs)), "worker": range(len(chiefs), len(addresses))})
    return Job(addresses, number, len(chiefs)) if len(addresses) > 1 else Job()


def worker() -> tuple[int, int]:
    """Return this process's number, 0 for the chief, and how many there are; (0, 1) for one that trains alone."""
    found = job()
    return found.number, max(1, len(found.addresses))


def is_chief() -> bool:
    """Tell whether this process writes checkpoints, logs and exports: the only one, or the first of its job."""
    return worker()[0] == 0


def wait_for_workers(found: Job, *, seconds: float | None = None, tell: Callable[[str], None] | None = None) -> None:
    """Wait until all processes of a job are there.

    TensorFlow would wait by itself, but in silence, deaf to signals, and for as long as it likes. Here each process
    opens the port that TensorFlow will use, and looks for those of the others, until all are open at once.

    Args:
        found: A job of several.
        seconds: How long to wait at most; by default what the environment's `STML_TF_WAIT_SECONDS` says, or 600.
        tell: Called with whom this process waits for, at once and every 30 seconds; prints to standard error by
            default.

    Raises:
        UserError: If this process cannot open its port, or somebody is missing when the time is up.
    """
    seconds = _wait_seconds() if seconds is None else seconds
    tell = tell or (lambda message: print(message, file=sys.stderr, flush=True))
    give_up = time.monotonic() + seconds
    notice = time.monotonic() + _SECONDS_BETWEEN_LOOKS  # most jobs are complete by then
    others = [address for address in found.addresses if address != found.addresses[found.number]]
    with closing(_open_port(found.addresses[found.number])) as own:
        while missing := [address for address in others if not _answers(address)]:
            now = time.monotonic()
            names = ", ".join(missing)
            if now >= give_up:
                raise UserError(
                    f"{names} of TF_CONFIG did not answer within {seconds:g} seconds: start all {len(found.addresses)} "
                    f"workers, see that they can reach each other, or allow more time with {WAIT_VARIABLE}."
                )
            if now >= notice:
                tell(f"Waiting for {names} of TF_CONFIG, for {give_up - now:.0f} seconds at most.")
                notice = now + _SECONDS_BETWEEN_NOTICES
            _let_go(own)
            time.sleep(min(_SECONDS_BETWEEN_LOOKS, max(0.0, give_up - now)))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else None
    except (ValueError, RecursionError) as error:
        raise UserError(f"TF_CONFIG is not JSON ({error}): give {EXAMPLE}, or unset it to train alone.") from None


def _section(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _refused(name, value, "an object")
    return value


def _addresses(value: Any, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(address, str) for address in value):
        raise _refused(name, value, "a list of addresses")
    for address in value:
        host, _, port = address.rpartition(":")
        if not (host.strip() == host != "" and port.isascii() and port.isdecimal() and 0 < _whole(port) < 2**16):
            raise _refused(name, address, "host:port")
    return tuple(value)


def _number(task: dict[str, Any], numbers: dict[str, range]) -> int:
    """Find the number of the process that `task` describes, of those that the cluster has in each role."""
    role, index, anyone = task.get("type"), task.get("index"), any(numbers.values())
    if role == "evaluator":
        raise _refused("task.type", role, "chief or worker; training measures by itself, so start no evaluator")
    if role not in (*_ROLES, None) or (role is None and sum(map(len, numbers.values())) > 1):
        raise _refused("task.type", role, "chief or worker, whichever this process is")
    if isinstance(index, str) and index.isascii() and index.isdecimal():
        index = _whole(index)
    of_role = numbers[role] if role else next(filter(None, numbers.values()), range(0))
    if index is None and len(of_role) < 2:
        index = 0
    if not anyone and index == 0 and not isinstance(index, bool):
        return 0
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(of_role):
        role = role or "worker"
        allowed = f"0 to {len(of_role) - 1}" if of_role else f"nothing, as the cluster names no {role}"
        raise _refused("task.index", task.get("index"), f"{allowed}, which {role} this process is")
    return of_role[index]


def _whole(digits: str) -> int:
    return int(digits) if len(digits) < 10 else sys.maxsize


def _refused(name: str, given: Any, allowed: str) -> UserError:
    try:
        shown = json.dumps(given)
    except RecursionError:
        shown = f"a {type(given).__name__} nested too deeply"
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    where = "TF_CONFIG" if name == "TF_CONFIG" else f"TF_CONFIG, {name}"
    return UserError(f"{where}: {shown} given; allowed: {allowed}. Give {EXAMPLE}, or unset it to train alone.")


def _wait_seconds() -> float:
    given = os.environ.get(WAIT_VARIABLE, "")
    with suppress(ValueError):
        seconds = float(given or WAIT_SECONDS)
        if 0 <= seconds < float("inf"):
            return seconds
    raise UserError(f"{WAIT_VARIABLE}: {given!r} given; allowed: a number of seconds, such as 600.")


def _open_port(address: str) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    try:
        own = socket.create_server(
            ("", int(address.rpartition(":")[2])),
            family=socket.AF_INET6 if both else socket.AF_INET,
            dualstack_ipv6=both,
        )
    except OSError as error:
        raise UserError(
            f"This process is {address} of TF_CONFIG, but cannot open that port ({os.strerror(error.errno)}): end what "
            "has it, which may be another worker with the same task.index, or name another port."
        ) from error
    own.setblocking(False)
    return own


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_CONNECT).close()
    except (OSError, UnicodeError):  # UnicodeError: a name that no host can have
        return False
    return True


def _let_go(own: socket.socket) -> None:
    """Close the connections with which others have looked for this process: only so many can wait to be accepted."""
    with suppress(BlockingIOError, ConnectionError):
        while True:
            own.accept()[0].close()
