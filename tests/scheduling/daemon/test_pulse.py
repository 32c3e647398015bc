"""Who is gone, told by a heartbeat that stands still."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

from runner.scheduling.daemon.pulse import HeartbeatMonitor
from tests.scheduling.daemon.execution_samples import NOON, entry


def test_an_owner_is_gone_when_its_heartbeat_stands_still_for_the_lease() -> None:
    """Not a moment before, and whatever time the heartbeat itself tells."""
    seconds = iter([0.0, 9.9, 10.0])
    pulse = HeartbeatMonitor(10, lambda: next(seconds))
    far_away = entry(heartbeat=NOON + timedelta(days=1000))
    assert pulse.silent([far_away]) == []
    assert pulse.silent([far_away]) == []
    assert pulse.silent([far_away]) == [far_away]


def test_a_beating_owner_is_there_even_when_its_clock_goes_backwards() -> None:
    """Any change is a sign of life."""
    stopwatch = count(0, 9.0)
    pulse = HeartbeatMonitor(10, lambda: next(stopwatch))
    for minutes in (0, -60, 5, 4, -1):
        assert pulse.silent([entry(heartbeat=NOON + timedelta(minutes=minutes))]) == []


def test_what_has_ended_is_forgotten() -> None:
    """An execution that comes back has its whole lease again."""
    seconds = iter([0.0, 5.0, 20.0, 29.0])
    pulse = HeartbeatMonitor(10, lambda: next(seconds))
    assert pulse.silent([entry()]) == []
    assert pulse.silent([]) == []
    assert pulse.silent([entry()]) == []
    assert pulse.silent([entry()]) == []
