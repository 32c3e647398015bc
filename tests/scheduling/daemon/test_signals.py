"""Real signals: counted, never lost, and without deadlocks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from threading import Thread, Timer

from runner.scheduling.daemon.signals import Signals

MANY_SIGNALS = """
import os, signal, threading, time
from runner.scheduling.daemon.signals import Signals
for _ in range(100):
    with Signals(lambda: None) as signals:
        senders = [threading.Thread(target=os.kill, args=(os.getpid(), number)) for number in (15, 2, 1) * 3]
        for sender in senders:
            sender.start()
        while not signals.wait(0.001):
            pass
        for sender in senders:
            sender.join()
        time.sleep(0.001)
print("alive")
"""


def test_a_signal_ends_the_wait() -> None:
    """Later waits end immediately, and the previous handlers are restored."""
    before = signal.getsignal(signal.SIGTERM)
    with Signals(lambda: None) as signals:
        assert not signals.wait(0.001)
        Timer(0.05, os.kill, [os.getpid(), signal.SIGTERM]).start()
        start = time.monotonic()
        assert signals.wait(30)
        assert time.monotonic() - start < 10
        assert signals.wait(30)
        assert signals.stop_requests == 1
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.stop_requests == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_sighup_calls_its_function_and_requests_no_stop() -> None:
    """Each signal counts."""
    calls: list[str] = []
    with Signals(lambda: calls.append("SIGHUP")) as signals:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        assert not signals.wait(0.01)
        assert calls == ["SIGHUP", "SIGHUP"]


def test_any_thread_may_request_a_stop() -> None:
    """The woken thread finds the request, whatever the order of the threads."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            with Signals(lambda: None) as signals:
                Thread(target=signals.request_stop).start()
                assert signals.wait(30)
    finally:
        sys.setswitchinterval(before)


def test_many_signals_cause_no_deadlock() -> None:
    """No lock is taken in a handler."""
    done = subprocess.run([sys.executable, "-c", MANY_SIGNALS], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "alive\n", done.stderr
