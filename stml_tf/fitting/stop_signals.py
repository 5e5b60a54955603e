"""SIGTERM and Ctrl-C, handled between two steps rather than in the middle of one."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_HEARD = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Defer the first SIGTERM or SIGINT within a `with` block, until `received` is called between two steps.

    A second signal terminates at once. Outside the main thread, where Python handles no signals, nothing is deferred.

    Args:
        share: How several workers learn of each other's signals, see `sum_over_workers`.
    """

    def __init__(self, share: Callable[[list[int]], list[int]] = list) -> None:
        self._received: signal.Signals | None = None
        self._share = share
        self._usual: dict[int, Callable[..., Any] | int | None] = {}

    def received(self) -> signal.Signals | None:
        """Return the signal that came, or None: the same on all workers, which must ask at the same steps."""
        counts = self._share([int(self._received is each) for each in _HEARD])
        return next((each for each, count in zip(_HEARD, counts, strict=True) if count), None)

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._usual = {number: signal.signal(number, self._hear) for number in _HEARD}
        return self

    def __exit__(self, *exception: object) -> None:
        self._as_usual()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._received = signal.Signals(number)
        self._as_usual()

    def _as_usual(self) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)
        self._usual = {}
