"""Signals, sent for real: counted, never lost, and never in the way of a lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from threading import Thread, Timer

from runner.scheduling.daemon.signals import Signals

HAIL = """
import os, signal, threading, time
from runner.scheduling.daemon.signals import Signals
for _ in range(300):
    with Signals(lambda: None) as signals:
        hail = [threading.Thread(target=os.kill, args=(os.getpid(), number)) for number in (15, 2, 1) * 3]
        for thread in hail:
            thread.start()
        while not signals.wait(0.001):
            pass
        for thread in hail:
            thread.join()
        time.sleep(0.001)
print("alive")
"""


def test_a_signal_wakes_who_waits() -> None:
    """At once, and it stays asked for; what was there before is there again afterwards."""
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


def test_a_hang_up_is_told_of_and_ends_nothing() -> None:
    """Each once, where it can do no harm."""
    told: list[str] = []
    with Signals(lambda: told.append("SIGHUP")) as signals:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        assert not signals.wait(0.01)
        assert told == ["SIGHUP", "SIGHUP"]


def test_anybody_may_ask() -> None:
    """From another thread, without a signal; who is woken finds that it was asked, however the threads take turns."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(500):
            with Signals(lambda: None) as signals:
                Thread(target=signals.request_stop).start()
                assert signals.wait(30)
    finally:
        sys.setswitchinterval(before)


def test_a_hail_of_signals_blocks_nobody() -> None:
    """However they fall: no lock is taken where they are handled."""
    done = subprocess.run([sys.executable, "-c", HAIL], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "alive\n", done.stderr
