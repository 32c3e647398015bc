"""One record of each event, whatever their number."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from runner.drift.segments import sample_one_per_event


def test_each_event_is_drawn_once_and_each_record_equally_often() -> None:
    """Over many seeds; lines of the same number in two files are two events."""
    events = pl.DataFrame({"file": ["a", "a", "a", "b", "b"], "line": [1, 1, 2, 1, 1]})
    times = np.zeros(5)
    for seed in range(2000):
        places = sample_one_per_event(events, seed)
        assert places.tolist() == sorted(places)
        assert events[places].n_unique() == len(places) == 3
        times[places] += 1
    assert times == pytest.approx(np.array([1000, 1000, 2000, 1000, 1000]), rel=0.1)
