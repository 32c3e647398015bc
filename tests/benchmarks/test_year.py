"""The simulated year: traffic, incidents, counts and dates; a short year with all incidents (soak)."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import portfolio, year
from benchmarks.portfolio import START
from benchmarks.year import (
    INCIDENTS,
    LEAST,
    MOST,
    NAMES,
    PARTS,
    WINDOWS,
    Judged,
    Part,
    figures,
    incident_rows,
    judge_part,
    rates,
    reference,
    summary,
    windows,
)
from runner.domain.drift import Level

NONE, INFO, WARNING, FEW = Level.NONE, Level.INFO, Level.WARNING, Level.INSUFFICIENT_DATA
HALF_HOUR = 1800.0


def short(number: int = 0, hours: int = 8) -> Part:
    """Return a part of a few hours; the third and the fourth have an incident, from half past two on."""
    return Part(INCIDENTS[number], 0, hours, 2 * 3600 + HALF_HOUR, 4 * 3600)


def test_traffic_has_a_daily_and_a_weekly_cycle() -> None:
    """From 5 to 5,000 records an hour."""
    of_week = rates(np.arange(168))
    assert (of_week.min(), of_week.max()) == pytest.approx((LEAST, MOST))
    assert of_week[14] > 100 * of_week[3]
    assert of_week[5 * 24 + 14] < of_week[14] / 2
    assert rates(np.arange(168, 336)) == pytest.approx(of_week)


def test_parts_cover_the_year_and_contain_their_incidents() -> None:
    """Each of them far from the ends."""
    parts = [Part.of(0, number) for number in range(PARTS)]
    assert len(INCIDENTS) == PARTS
    assert [part.first for part in parts] == [0, *(part.last for part in parts[:-1])]
    assert parts[-1].last == WINDOWS
    for part in parts:
        assert part.first < part.begin / 3600 < part.end / 3600 < part.last
        inside = [hour for hour in range(part.first, part.last) if part.is_inside(hour)]
        assert len(inside) in {48, 49}


@pytest.mark.parametrize("number", range(PARTS))
def test_incident_changes_only_its_records(number: int) -> None:
    """Records before and after it, and the other features, are those of a year without it."""
    features, second_N = year.drawn(np.random.default_rng(0), 0, 8)
    second_N = np.linspace(0, 8 * 3600, len(second_N), endpoint=False)
    part = short(number)
    changed = part.changed(features, second_N, np.random.default_rng(1))
    inside_N = (second_N >= part.begin) & (second_N < part.end)
    plain = portfolio.explained(features)
    assert changed.features.filter(~inside_N).equals(features.filter(~inside_N))
    others = [name for name in NAMES if name != part.planted.feature]
    assert changed.features[others].equals(features[others])
    phi_ND, plain_ND = (each.attributions.phi_NDL[:, :, 0] for each in (changed, plain))
    assert (phi_ND[~inside_N] == plain_ND[~inside_N]).all()
    assert (phi_ND[inside_N] != plain_ND[inside_N]).any()


def test_windows_have_the_records_of_their_hours() -> None:
    """All hours of a part, in order."""
    found = list(windows(3, Part(INCIDENTS[0], 10, 40, 1e9, 2e9)))
    assert [hour for hour, _ in found] == list(range(10, 40))
    for hour, records in found:
        assert records.events is not None
        hours = (records.events["at"] - START).dt.total_hours()
        assert hours.is_empty() or (hours == hour).all()
    assert sum(len(records.features) for _, records in found) == pytest.approx(rates(np.arange(10, 40)).sum(), rel=0.1)


def test_figures_of_a_part() -> None:
    """Alarms outside the incident, delays from its beginning, and the error of its date."""
    levels = [WARNING, FEW, FEW, WARNING, NONE, INFO, WARNING, WARNING]
    judged = Judged(levels, [True, None, None, True, False, True, True, True], {}, [True] * 8)
    judged.dated = "2026-01-05T03:06:00+00:00"
    found = figures(short(), judged)
    assert (found["windows"], found["outside"], found["judged"]) == (8, 6, 6)
    assert (found["alarms"], found["alarms_episodes"]) == (3, 2)
    assert (found["seen"], found["seen_episodes"], found["loose"], found["ranked"]) == (4, 2, 4, 6)
    assert (found["alarms_delay"], found["seen_delay"]) == (1, 1)
    assert (found["blind"], found["date_error"]) == (0.5, 0.1)
    quiet = figures(short(), Judged([NONE] * 8, [False] * 8, {}, [None] * 8))
    assert (quiet["alarms"], quiet["alarms_delay"], quiet["date_error"], quiet["blind"]) == (0, None, None, 0)


def test_summary_of_parts() -> None:
    """Alarms per year outside the incidents, compared with the promise."""
    part = {"incident": INCIDENTS[0].name, "windows": 1251, "outside": 876, "alarms_delay": 2, "seen_delay": 1}
    part |= {"alarms": 0, "seen": 0, "loose": 9, "alarms_episodes": 0, "seen_episodes": 0, "loose_episodes": 8}
    part |= {"ranked": 30, "ranked_episodes": 30}
    part |= {"blind": 0.25, "date_error": -0.5}
    found = summary([part] * 10)
    assert (found["years"], found["windows"]) == (1.0, 12_510)
    assert (found["alarms"]["per_year"], found["alarms"]["verdict"]) == (0, "within")
    assert (found["loose"]["count"], found["loose"]["episodes"]) == (90, 80)
    assert found["loose"]["interval"][0] < 90 < found["loose"]["interval"][1]
    assert (found["ranked"]["per_year"], found["ranked"]["verdict"]) == (300, "not promised")
    assert summary([part | {"alarms": 1}] * 10)["alarms"]["verdict"] == "above"
    first = next(incident_rows([part, part | {"alarms_delay": None, "date_error": 1.5}]))
    assert (first["planted"], first["alarms"], first["dated_within_1_h"]) == (2, 1, 1)
    assert (first["largest_date_error"], first["median_delay"]) == (1.5, 2)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(PARTS))
def test_days_with_an_incident(number: int) -> None:
    """No alarm before and after it; an alarm within two judged windows, and a date within an hour."""
    begin = (2 * 24 + 9) * 3600 + HALF_HOUR
    part = Part(INCIDENTS[number], 0, 5 * 24, begin, begin + 24 * 3600)
    assert len(reference(7).stored.features) == year.REFERENCE_ROWS
    found = figures(part, judge_part(7, part))
    assert found["alarms"] == 0
    assert found["alarms_delay"] is not None
    assert found["alarms_delay"] <= 4
    assert abs(found["date_error"]) <= 1
