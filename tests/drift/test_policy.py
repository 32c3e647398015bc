"""Significance level of a window from the accepted number of false alarms per year."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runner.domain.drift import Level
from runner.drift.policy import AlertPolicy, Limit

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (2, 3), (3, 3), (3, 5)])
@pytest.mark.parametrize("accepted", [0.1, 1.0, 50.0])
def test_windows_that_share_a_reference_keep_the_promise(k: int, n: int, accepted: float) -> None:
    """The bound holds for windows that are significant together, and is exact in this case."""
    rule = AlertPolicy(accepted, k, n)
    together = n / k * rule.significance(HOUR)
    assert together * 365 * 24 == pytest.approx(accepted, rel=1e-9)


def test_significance_is_at_most_1() -> None:
    """More accepted alarms than windows have the significance level 1."""
    assert AlertPolicy(1e9).significance(HOUR) == pytest.approx(1)


def test_limits_assign_levels() -> None:
    """A size at a limit reaches its level; the sign does not matter."""
    limit = Limit(0.1, 0.25)
    assert [limit.level(size) for size in (0.0, -0.1, 0.25)] == [Level.INFO, Level.WARNING, Level.VIOLATION]
    with pytest.raises(ValueError, match="violation"):
        Limit(0.2, 0.1)
