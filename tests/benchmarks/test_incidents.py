"""The catalogue of incidents: pure changes, their truth, the judgement of verdicts, and the other detectors."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import jensenshannon

from benchmarks import rivals
from benchmarks.catalogue import (
    CREDIT,
    NOTEBOOK,
    SITUATIONS,
    Cause,
    Incident,
    looped,
    none,
    on,
    on_feature,
    shuffled,
    skewed,
    times,
)
from benchmarks.credit import FEATURES, applications, risk, scorecard, sigmoid
from benchmarks.incidents import (
    HOUR,
    POLICY,
    Stated,
    Verdict,
    corrupt,
    events,
    incident_window,
    ours,
    outcome,
    situation_row,
    truth,
    visible,
)
from benchmarks.rates import within
from benchmarks.worlds import World, middle
from runner.domain.drift import Level

SIZES = (300, 120)
CENTS = on("income", "in cents", Cause.SCALE, times(100), factor=100)
SPARSE = on("income", "missing", Cause.MISSING, none, share=0.5)


@cache
def small() -> World:
    """Return a small credit portfolio with a rough scorecard."""
    rng = np.random.default_rng(0)
    records = applications(1500, rng)
    features = records.select(FEATURES)
    model = scorecard(features, rng.random(1500) < sigmoid(risk(records)), iterations=15)
    return World(records, model, middle(features))


def verdict(*stated: Stated, level: Level = Level.WARNING) -> Verdict:
    """Return a verdict with these causes."""
    return Verdict(level, level, ("income",), stated, None)


def test_catalogue_is_large_and_its_names_differ() -> None:
    """There are more incidents and situations than the benchmark promises, and each has its own name."""
    incidents = [*CREDIT, *NOTEBOOK]
    assert len({incident.name for incident in incidents}) == len(incidents) >= 60
    assert len({situation.name for situation in SITUATIONS}) == len(SITUATIONS) >= 15


@pytest.mark.parametrize("incident", CREDIT, ids=lambda incident: incident.name)
def test_incident_is_a_pure_change_of_what_it_names(incident: Incident) -> None:
    """The same random numbers give the same records, and only the altered features change."""
    records = small().records[:200]
    changed, again = (incident.change(records, np.random.default_rng(1)) for _ in range(2))
    assert changed.equals(again)
    assert changed.columns == records.columns
    if incident.mixes:
        return
    assert changed.height == records.height
    differing = {name for name in records.columns if not records[name].equals(changed[name], check_dtypes=True)}
    unaltered = incident.reference(records, np.random.default_rng(1)) is not records
    assert differing == set(() if unaltered else incident.altered)


def test_truth_of_an_incident() -> None:
    """The score of the same people moves, and the corrupt records are counted."""
    shift, share = truth(small(), CENTS, np.random.default_rng(0))
    assert shift < 0
    assert share > 0.9
    _, share = truth(small(), SPARSE, np.random.default_rng(0))
    assert 0.4 < share < 0.6
    younger = next(incident for incident in CREDIT if incident.mixes)
    assert truth(small(), younger, np.random.default_rng(0))[1] == 0


@pytest.mark.parametrize(
    ("before", "now", "share"),
    [
        ([1.0, 2.0, None, 4.0], [1.0, 2.0, 3.0, None], 0.5),
        (["a", "b", "c", None], ["a", "b", " c", None], 0.25),
        ([1.0, 2.0, 3.0, None], ["1.0", "2.0", "3.0", None], 0.75),
        ([float(n) for n in range(100)], [n + 10.0 for n in range(100)], 0.0),
        ([float(n) for n in range(100)], [n + 30.0 for n in range(100)], 1.0),
        ([n % 3 for n in range(100)], [n % 3 + 1 for n in range(100)], 1.0),
    ],
)
def test_corrupt_values(before: list[object], now: list[object], share: float) -> None:
    """A value is corrupt if it is missing, another category, code or type, or far from the true one."""
    assert corrupt(pl.Series(before), pl.Series(now)) == share


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([], ""),
        ([Stated("income", Cause.SCALE, (99.5, 99.5))], "right"),
        ([Stated("income", Cause.SCALE, (95.0, 98.0))], "wrong"),
        ([Stated("income", Cause.SIGN)], "wrong"),
        ([Stated("income", Cause.MOVED)], "general"),
        ([Stated("income", Cause.UNCHANGED)], "misleading"),
        ([Stated("income", Cause.SCALE, (90.0, 120.0)), Stated("age", Cause.UNCHANGED)], "right"),
        ([Stated("income", Cause.SCALE, (90.0, 120.0)), Stated("age", Cause.CONSTANT)], "wrong"),
        ([Stated("income", Cause.OFFSET), Stated("income", Cause.SCALE, (99.0, 101.0))], "right"),
        ([Stated("", Cause.MODEL)], "wrong"),
    ],
)
def test_outcome_of_stated_causes(stated: list[Stated], expected: str) -> None:
    """A cause is right with the right kind and factor; every wrong statement counts."""
    assert outcome(CENTS, verdict(*stated)) == expected


def test_incident_is_seen_by_all_and_no_incident_by_none() -> None:
    """A factor of 100 is seen by shapwatch and by each test; records of the same population by none."""
    detectors = rivals.Rivals.calibrated(small(), SIZES, POLICY.significance(HOUR), 500, 0)
    for incident, expected in ((CENTS, True), (Incident("nothing", (), Cause.POPULATION), False)):
        window = incident_window(small(), incident, SIZES, np.random.default_rng(2))
        assert ours(POLICY, window).seen == expected
        seen = detectors.seen(window.reference, window.live, 0)
        assert {name: each.matched for name, each in seen.items() if name != "nDCG"} == dict.fromkeys(
            rivals.NAMES[1:], expected
        )


def test_indices_of_stability_and_divergence() -> None:
    """PSI and JS are those of the definition and of scipy, for the worst feature of each window."""
    before = np.array([0.5, 0.5, 0.2, 0.3, 0.5])
    now = np.array([[0.4, 0.6, 0.5, 0.3, 0.2], [0.5, 0.5, 0.2, 0.3, 0.5]])
    starts = np.array([0, 2])
    expected = sum((q - p) * np.log(q / p) for p, q in zip(before[2:], now[0, 2:], strict=True))
    assert rivals.psi(before, now, starts) == pytest.approx([expected, 0])
    assert rivals.js(before, now, starts) == pytest.approx([jensenshannon(before[2:], now[0, 2:], base=2), 0])


def test_draws_with_repeats() -> None:
    """A loop repeats its records equally often; Zipf's law does not."""
    records, free, rng = small().records, np.arange(1000), np.random.default_rng(3)
    assert np.unique(looped(20)(records, free, 100, rng), return_counts=True)[1].tolist() == [5] * 20
    assert np.unique(skewed(records, free, 100, rng), return_counts=True)[1].max() > 20


def test_alarms_beyond_the_promise() -> None:
    """Alarms are compared with the binomial limit; those of one reference depend on each other."""
    assert within(np.array([0, 1, 2, 1]), 100, 0.01)
    assert not within(np.array([5, 4, 6, 5]), 100, 0.01)
    assert within(np.array([10, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 10, 0.05)
    row = situation_row(SITUATIONS[0], [["none"], ["info"], ["warning"], ["none"]], 0.01)
    assert (row["alarms"], row["any_level"], row["windows"]) == (0.25, 0.5, 4)


def test_events_are_no_features() -> None:
    """Customers and times accompany records, and the model does not see them."""
    assert events(small().records).columns == ["customer", "time"]
    assert not {"customer", "time"} & set(small().features)


def test_a_test_that_knows_the_incident_bounds_all_tests() -> None:
    """It sees a join with wrong records, which no test of single features sees, but nothing without an incident."""
    joined = Incident("joined", ("loan_amount",), Cause.JOIN, on_feature("loan_amount", shuffled))
    for incident, expected in ((joined, True), (Incident("nothing", (), Cause.POPULATION), False)):
        window = incident_window(small(), incident, SIZES, np.random.default_rng(4))
        assert visible(small(), incident, [window], 0) == expected
        assert rivals.marginal(rivals.columns(window.reference.features, window.live.features)) > POLICY.significance(
            HOUR
        )
