"""All that is asked of a window at once: causes by segment, the model's part, and the windows before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Explained
from runner.domain.drift import Canary, DriftResult, Level
from runner.drift.detect import detect_drift
from tests.drift.samples import HOUR, POLICY, SCALES, local
from tests.golden import Golden

STILL, MOVED = Canary(20, changed=False, difference=0.0, moved=0.0), Canary(20, True, 0.5, 0.2)


def records(rows: int, seed: int, broken: int | None = None, times: float = 9.0) -> Explained:
    """Return records in five groups; in one of them the attributions and values of `c` may be broken."""
    phi = local(rows, seed)
    group_N = np.arange(rows) % 5
    values_ND = phi.phi_NDL[:, :, 0].copy()
    if broken is not None:
        phi.phi_NDL[group_N == broken, 2] *= times
        values_ND[group_N == broken, 2] *= times
    features = pl.DataFrame(values_ND, schema=list(phi.names)).with_columns(pl.Series("e", group_N))
    return Explained(features, phi)


def asked(live: Explained, **changes: object) -> DriftResult:
    """Return the finding by segments."""
    return detect_drift(replace(POLICY, segment_by="e", **changes), records(1500, 0), live, "mean_abs", HOUR)  # type: ignore[arg-type]


def test_a_segment_says_what_the_whole_does_not(golden: Golden) -> None:
    """With its own records, movers and causes; the others are quiet."""
    found = asked(records(1000, 1, broken=3, times=10.0))
    whole, loud = found.labels[0], found.segments[3]
    assert [segment.level for segment in found.segments if segment is not loud] == [Level.NONE] * 4
    assert (loud.name, loud.rows_reference, loud.rows_live) == ("e: 3", 300, 200)
    assert loud.level.order > whole.level.order
    assert found.level == loud.level
    assert loud.labels[0].top_changes[0].name == "c"
    golden(loud.labels[0].changed.cause)


def test_all_parts_share_one_level() -> None:
    """A p-value that counts alone counts less beside segments: twice for the family, and times the segments."""
    live = records(1000, 1, broken=3)
    found, alone = asked(live), detect_drift(POLICY, records(1500, 0), live, "mean_abs", HOUR)
    for together, single in zip(found.labels[0].features, alone.labels[0].features, strict=True):
        assert together.p == pytest.approx(min(1.0, 2 * single.p))
    assert found.smallest > alone.smallest
    assert alone.segments == ()


def test_segments_without_enough_records_have_no_figures(golden: Golden) -> None:
    """They have no figures, and no part in the verdict; with none that is large enough there is nothing to divide."""
    found = asked(records(104, 1), min_rows=21)
    assert [segment.name for segment in found.segments] == ["e: 0", "e: 1", "e: 2", "e: 3", "e: all others"]
    assert [segment.level for segment in found.segments] == [Level.NONE] * 4 + [Level.INSUFFICIENT_DATA]
    assert found.segments[4].labels == ()
    none = asked(records(100, 1, broken=3), min_rows=30)
    assert none.segments == ()
    golden("\n".join(none.notes))


@pytest.mark.parametrize("canary", [None, STILL, MOVED], ids=["no canary", "same model", "changed model"])
def test_the_canary_names_the_cause(canary: Canary | None, golden: Golden) -> None:
    """Where a feature's own values are as before."""
    before, now = records(600, 0), records(300, 1)
    now.attributions.phi_NDL[:, 2] *= 9
    found = detect_drift(POLICY, before, now, "mean_abs", HOUR, canary)
    golden("\n".join([found.labels[0].top_changes[0].cause or "", *found.notes]))
    assert len(found.notes) == (canary is MOVED)


@pytest.mark.parametrize(
    ("past", "level"),
    [
        ([], Level.NONE),
        ([Level.NONE, Level.NONE], Level.NONE),
        ([Level.WARNING, Level.NONE], Level.WARNING),
        ([Level.VIOLATION, Level.WARNING], Level.VIOLATION),
        ([Level.VIOLATION, Level.NONE, Level.NONE], Level.NONE),
        ([Level.INSUFFICIENT_DATA, Level.INFO], Level.INFO),
    ],
)
def test_windows_stand_together(past: list[Level], level: Level) -> None:
    """Two of the last three have to reach a level; it then is the one that stands."""
    rule = replace(POLICY, datapoints_to_alert=2, evaluation_period=3)
    live = records(300, 1)
    live.attributions.phi_NDL[:, 3] *= 8
    found = detect_drift(rule, records(600, 0), live, "mean_abs", HOUR, past=past)
    assert (found.alone, found.level) == (Level.VIOLATION, level)


def test_too_few_records_stay_too_few() -> None:
    """Whatever the windows before said."""
    rule = replace(POLICY, datapoints_to_alert=2, evaluation_period=3)
    few = records(10, 1)
    found = detect_drift(rule, records(600, 0), few, "mean_abs", HOUR, past=[Level.VIOLATION] * 2)
    assert (found.alone, found.level) == (Level.INSUFFICIENT_DATA, Level.INSUFFICIENT_DATA)


def test_a_joint_change_is_detected_by_the_classifier_alone() -> None:
    """Its level is that of what is not material."""
    live = records(600, 1)
    live.attributions.phi_NDL[:, 1] = live.attributions.phi_NDL[:, 0] * SCALES[1] / SCALES[0]
    found = detect_drift(replace(POLICY, classifier=True), records(600, 0), live, "mean_abs", HOUR)
    assert found.labels[0].level == Level.NONE
    assert found.level == Level.INFO
    assert found.separability is not None
    assert found.separability.value is not None
    assert found.separability.value > 0.6
