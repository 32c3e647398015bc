"""Durations of steps."""

from __future__ import annotations

from runner.results.provenance import Stopwatch


def test_stopwatch_measures_steps() -> None:
    """Steps are measured with the given clock."""
    ticks = iter([1.0, 3.5, 10.0, 10.00004])
    watch = Stopwatch(lambda: next(ticks))
    for name in ("read", "explain"):
        with watch.step(name):
            pass
    assert watch.seconds == {"read": 2.5, "explain": 0.0}
