import os
import signal
import threading

import pytest

from stml_tf.fitting.stop_signals import StopSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_held_back_and_the_second_does_as_usual(number):
    heard = []
    usual = signal.signal(number, lambda *_: heard.append("usual"))
    try:
        with StopSignals() as stop:
            assert stop.received() is None
            os.kill(os.getpid(), number)
            assert (stop.received(), heard) == (number, [])
            os.kill(os.getpid(), number)
            assert heard == ["usual"]
        os.kill(os.getpid(), number)
        assert heard == ["usual", "usual"]
    finally:
        signal.signal(number, usual)


def test_without_a_signal_all_is_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        assert signal.getsignal(signal.SIGTERM) != before
    assert stop.received() is None
    assert signal.getsignal(signal.SIGTERM) == before


def test_beside_the_main_thread_nothing_is_held_back():
    before, inside = signal.getsignal(signal.SIGTERM), []

    def run():
        with StopSignals():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert inside == [before]


@pytest.mark.parametrize(("counts", "received"), [([1, 0], signal.SIGTERM), ([0, 2], signal.SIGINT), ([0, 0], None)])
def test_a_signal_that_another_worker_heard_counts_too(counts, received):
    told = []
    stop = StopSignals(lambda own: told.append(own) or counts)
    assert stop.received() is received
    assert told == [[0, 0]]
