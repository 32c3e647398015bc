"""Records for the charts of a report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Explained
from runner.domain.drift import ScoreGroup
from runner.drift.record_sample import (
    MOST_CHANGED,
    MOST_CONTRIBUTIONS,
    MOST_FEATURES,
    MOST_RECORDS,
    record_sample,
    score_pairs,
)
from tests.drift.samples import POLICY, compared, local_attributions

SCALES = np.linspace(3, 1, 10)
MOVED = local_attributions(300, 1, SCALES)
MOVED = replace(MOVED, phi_NDL=MOVED.phi_NDL + np.array([0.0] * 9 + [5.0])[:, None])
SIDES = local_attributions(600, 0, SCALES), MOVED


def explained(side: int, **columns: pl.Series) -> Explained:
    """Return the records of a side, whose values are their attributions; some columns may be replaced."""
    attributions = SIDES[side]
    features = pl.DataFrame(attributions.phi_NDL[:, :, 0], schema=list(attributions.names))
    return Explained(features.with_columns(**columns), attributions)


def test_sample_is_random_and_bounded() -> None:
    """The same seed draws the same records; values and attributions belong together."""
    result = compared(POLICY, *SIDES)
    sample = record_sample(result, explained(0), explained(1), 7)
    assert sample is not None
    assert sample == record_sample(result, explained(0), explained(1), 7)
    assert sample != record_sample(result, explained(0), explained(1), 8)
    assert sample.features[0].name == "j"
    for each in sample.features:
        assert len(each.reference_phi) == len(each.live_phi) == MOST_RECORDS
        assert each.live_phi == pytest.approx(each.live_values, rel=1e-3)
        assert each.is_numeric


def test_most_features_are_those_with_large_shares_or_changes() -> None:
    """A significant change of a small share is included."""
    result = compared(POLICY, *SIDES)
    (label,) = result.labels
    (changed,) = [each for each in label.features if each.name == "j"]
    others = [replace(changed, name=f"a{i}", p=1.0, share_now=0.01, share_before=0.01) for i in range(50)]
    small = replace(changed, share_now=1e-6, share_before=1e-6)
    many = replace(result, labels=(replace(label, features=(*others, small)),))
    phi_NDL = np.ones((1, 51, 1))
    values = pl.DataFrame({each.name: [1.0] for each in (*others, small)})
    wide = Explained(values, replace(SIDES[0], names=tuple(values.columns), phi_NDL=phi_NDL, scores_NL=np.ones((1, 1))))
    sample = record_sample(many, wide, wide, 0)
    assert sample is not None
    assert len(sample.features) == MOST_FEATURES
    assert sample.features[-1].name == "j"


def test_most_changed_records_are_farthest_from_the_reference() -> None:
    """Contributions and the expected score add up to the score."""
    sample = record_sample(compared(POLICY, *SIDES), explained(0), explained(1), 0)
    assert sample is not None
    assert len(sample.changed) == MOST_CHANGED
    first = sample.changed[0]
    assert first.row == int(abs(MOVED.phi_NDL[:, 9, 0] - np.median(SIDES[0].phi_NDL[:, 9, 0])).argmax())
    assert (len(first.contributions), first.others) == (MOST_CONTRIBUTIONS, 10 - MOST_CONTRIBUTIONS)
    sizes = [abs(each.phi) for each in first.contributions]
    assert sizes == sorted(sizes, reverse=True)
    for each in sample.changed:
        total = each.expected + each.others_phi + sum(part.phi for part in each.contributions)
        assert total == pytest.approx(MOVED.phi_NDL[each.row, :, 0].sum(), abs=1e-4)


def test_repeated_record_is_listed_once() -> None:
    """Also without a change of any attribution, no record is listed."""
    same = replace(MOVED, phi_NDL=np.repeat(MOVED.phi_NDL[:3], 100, axis=0), scores_NL=np.zeros((300, 1)))
    live = Explained(pl.DataFrame({name: np.zeros(300) for name in MOVED.names}), same)
    sample = record_sample(compared(POLICY, SIDES[0], same), explained(0), live, 0)
    assert sample is not None
    assert sorted(each.row for each in sample.changed) == [0, 100, 200]
    still = record_sample(compared(POLICY, SIDES[0], SIDES[0]), explained(0), explained(0), 0)
    assert still is not None
    assert still.changed == ()


def test_categories_missing_values_and_groups() -> None:
    """Numbers that are not finite are missing; a group has no values; without tested labels there is no sample."""
    names = pl.Series(["x" * 500, None] * 150)
    numbers = pl.Series([float("nan"), float("inf"), 2**60, 1.5] * 75)
    live = explained(1, j=names, a=numbers)
    live = replace(live, features=live.features.drop("b"))
    result = compared(POLICY, *SIDES)
    sample = record_sample(result, explained(0), live, 0)
    assert sample is not None
    by_name = {each.name: each for each in sample.features}
    assert not by_name["j"].is_numeric
    assert None in by_name["j"].live_values
    assert max(len(value) for value in by_name["j"].live_values if isinstance(value, str)) < 200
    assert set(by_name["a"].live_values) == {None, 1.5, 1.15292e18}
    assert by_name["b"].live_values == ()
    assert record_sample(replace(result, labels=()), explained(0), live, 0) is None


def test_records_outside_the_random_sample_may_be_the_most_changed() -> None:
    """The random records are the first ones."""
    sample = record_sample(compared(POLICY, *SIDES), explained(0), explained(1), 0, 40)
    assert sample is not None
    everything = record_sample(compared(POLICY, *SIDES), explained(0), explained(1), 0)
    assert everything is not None
    assert sample.changed == everything.changed
    assert max(each.row for each in sample.changed) >= 40
    assert {len(each.live_phi) for each in sample.features} == {40}
    first = SIDES[1].phi_NDL[:40, "abcdefghij".index(sample.features[0].name), 0]
    assert sample.features[0].live_phi == pytest.approx(first.tolist(), rel=1e-3)


CHANNELS = pl.DataFrame(
    {"age": [float(i) for i in range(1000)], "channel": ["online", "branch", None, "partner"] * 250}
)


def test_differing_scores_are_counted_by_the_feature_that_separates_them() -> None:
    """A record without captured scores is left out; both kinds of records are sampled, also if one is rare."""
    scores_ML = np.stack([np.linspace(0, 1, 1000), np.full(1000, 0.5)], axis=1)
    captured_ML = scores_ML.copy()
    captured_ML[:200:4, 1] += 0.25
    captured_ML[999, 0] = np.nan
    pairs = score_pairs(CHANNELS, captured_ML, scores_ML, ["no", "yes"], 1e-6, 0)
    assert pairs is not None
    assert (pairs.label, len(pairs.captured), pairs.captured.count(0.75)) == ("yes", MOST_RECORDS + 50, 50)
    assert set(pairs.recomputed) == {0.5}
    first, *others = pairs.groups
    assert (first, first.share) == (ScoreGroup("channel = online", 50, 250), 0.2)
    assert {(each.name, each.differing) for each in others} == {
        ("channel = branch", 0),
        ("channel = missing", 0),
        ("channel = partner", 0),
    }
    assert sum(each.records for each in pairs.groups) == 999


def test_scores_that_differ_at_random_depend_on_no_feature() -> None:
    """And equal scores have no pairs."""
    scores_ML = np.linspace(0, 1, 1000)[:, None]
    captured_ML = scores_ML + (np.random.default_rng(1).random((1000, 1)) < 0.3)
    pairs = score_pairs(CHANNELS, captured_ML, scores_ML, ["yes"], 1e-6, 0)
    assert pairs is not None
    assert (pairs.groups, len(pairs.captured)) == ((), 2 * MOST_RECORDS)
    assert score_pairs(CHANNELS, scores_ML, scores_ML, ["yes"], 1e-6, 0) is None
