"""Records with far values, samples that contain them, and stratified estimates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Attributions, Explained
from runner.domain.drift import DriftResult
from runner.drift import strata
from runner.drift.detect import detect_drift
from runner.drift.effects import observed_pair, permuted_pairs
from runner.drift.strata import Sample, Sampling, Strata, WholeWindow, far_records, far_scores
from tests.drift.samples import HOUR, POLICY
from tests.golden import Golden

REFERENCE = pl.DataFrame(
    {
        "number": [float(i % 11) for i in range(100)],
        "gaps": [None if i % 10 == 0 else 1.5 for i in range(100)],
        "kind": ["a", "b"] * 50,
        "customer": [f"c{i}" for i in range(100)],
        "constant": [7] * 100,
    }
)


@pytest.mark.parametrize(
    ("name", "values", "far"),
    [
        ("number", [20.0, 20.1, -10.0, -10.1, None, float("inf")], [0, 1, 0, 1, 1, 1]),
        ("gaps", [1.5, 1.6, None], [0, 1, 0]),
        ("kind", ["a", "c", None], [0, 1, 1]),
        ("customer", ["c1", "new"], [0, 0]),
        ("constant", [7, 8], [0, 1]),
        ("number", ["3", "x"], [0, 0]),
    ],
)
def test_far_values(name: str, values: list[object], far: list[int]) -> None:
    """Numbers far beyond the range, unseen categories, and newly missing values; none if the reference expects them."""
    usual = [values[0]] * 200
    now = pl.Series(name, values + usual, strict=False)
    found_M = far_records(REFERENCE.select(name), now.to_frame())
    assert found_M[: len(values)].tolist() == [bool(each) for each in far]
    assert not found_M[len(values) :].any()


def test_far_values_of_many_records_are_no_stratum() -> None:
    """A random sample represents them well; other features are considered."""
    now = pl.DataFrame({"number": [99.0] * 50 + [1.0] * 50, "kind": ["a"] * 99 + ["c"]})
    assert np.flatnonzero(far_records(REFERENCE.select("number", "kind"), now)).tolist() == [99]
    assert far_records(REFERENCE, REFERENCE).sum() == 0
    assert far_records(REFERENCE, REFERENCE[:0]).tolist() == []


def test_far_scores() -> None:
    """Records without captured scores have none."""
    before_NL, now_ML = np.array([[0.0, 1.0], [1.0, 2.0]]), np.full((40, 2), 0.5)
    now_ML[:3] = [[2.1, 1.5], [2.0, 3.1], [np.nan, np.nan]]
    now_ML[3:, 1] = 1.5
    assert np.flatnonzero(far_scores(before_NL, now_ML)).tolist() == [0, 1]


def sampling(records: int, far: list[int], most: int, in_order: bool = False) -> Sampling:
    """Return the sampling of a window with far records at these places of the random order."""
    order_M = np.random.default_rng(0).permutation(records)
    far_M = np.zeros(records, dtype=bool)
    far_M[order_M[far]] = True
    return Sampling(order_M, far_M, most, in_order)


def test_sample_without_far_records_is_random() -> None:
    """It is the beginning of the random order, or has the original order."""
    plain = sampling(50, [], 50)
    assert plain.order_M is not None
    assert plain.sample(20).rows_X.tolist() == plain.order_M[:20].tolist()  # type: ignore[union-attr]
    assert sampling(50, [], 20, in_order=True).sample(20).rows_X.tolist() == sorted(plain.order_M[:20].tolist())  # type: ignore[union-attr]
    assert Sampling(None, np.zeros(9, dtype=bool), 9, sorted=True).sample(9) == Sample(None, 9)


def test_far_records_are_added_to_the_sample() -> None:
    """The random sample stays; far records that are in it are not repeated."""
    found = sampling(100, [3, 60, 90], 100)
    sample = found.sample(20)
    assert found.order_M is not None
    assert sample.rows_X is not None
    assert sample.rows_X.tolist() == [*found.order_M[:20], found.order_M[60], found.order_M[90]]
    assert sample.random == 20


def test_maximum_number_of_records_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far records take places of random ones, at most half of them."""
    for far, expected in (([3, 60, 90], 18), (list(range(40, 90)), 10)):
        sample = sampling(100, far, 20).sample(20)
        assert sample.rows_X is not None
        assert len(set(sample.rows_X.tolist())) == 20
        assert sample.random == expected
    monkeypatch.setattr(strata, "MOST_FAR", 2)
    limited = sampling(100, list(range(40, 90)), 100).sample(20)
    assert limited.rows_X is not None
    assert (len(limited.rows_X), limited.random) == (22, 20)


def test_stratified_mean_is_unbiased_and_has_its_covariance() -> None:
    """Over many samples, mean and covariance are those of the window."""
    rng = np.random.default_rng(1)
    values_MD = rng.exponential(size=(400, 2))
    values_MD[:12] *= 500
    far_M = np.arange(400) < 12
    means, covariances = [], []
    for _ in range(3000):
        rest = rng.choice(np.arange(12, 400), 60, replace=False)
        rows = np.concatenate([rest, rng.choice(12, 6, replace=False)])
        parts = Strata(far_M[rows], 12, 388)
        means.append(parts.mean(values_MD[rows]))
        covariances.append(parts.covariance(values_MD[rows]))
        assert parts.weight_X.sum() == pytest.approx(400)
    assert np.mean(means, axis=0) == pytest.approx(values_MD.mean(axis=0), rel=0.02)
    variances = np.mean(covariances, axis=0).diagonal()
    assert variances == pytest.approx(np.var(np.array(means), axis=0), rel=0.1)


def test_permutations_of_strata_have_the_distribution_of_the_whole_window() -> None:
    """If all records are explained, divisions in strata and divisions of single records are equally distributed."""
    rng = np.random.default_rng(2)
    reference_ND, live_MD = rng.exponential(size=(60, 2)), rng.exponential(size=(90, 2))
    live_MD[:4] *= 50
    parts = Strata(np.arange(90) < 4, 4, 86)
    assert observed_pair(reference_ND, live_MD, "mean_abs", parts).live == pytest.approx(live_MD.mean(axis=0))
    stratified, plain = (
        permuted_pairs(reference_ND, live_MD, "mean_abs", 4000, np.random.default_rng(3), each)
        for each in (parts, None)
    )
    for ours, truth in zip(stratified, plain, strict=True):
        assert ours.mean(axis=0) == pytest.approx(truth.mean(axis=0), rel=0.03)
        assert np.quantile(ours, [0.05, 0.5, 0.99], axis=0) == pytest.approx(
            np.quantile(truth, [0.05, 0.5, 0.99], axis=0), rel=0.05
        )


def explained(rows: int, seed: int, extreme: int = 0) -> Explained:
    """Return records with two features and their attributions; the first ones have an extreme value."""
    x_ND = np.random.default_rng(seed).normal(size=(rows, 2))
    x_ND[:extreme, 0] = 3000
    phi_NDL = x_ND[:, :, None] * [[[1.0], [2.0]]]
    attributions = Attributions(("x", "y"), ("score",), phi_NDL, np.zeros(1), phi_NDL.sum(axis=1), 0)
    return Explained(pl.DataFrame(x_ND, schema=["x", "y"]), attributions)


def compared(now: Explained, whole: WholeWindow | None = None) -> DriftResult:
    """Return the result of a comparison with 1,000 records."""
    return detect_drift(POLICY, explained(1000, 0), now, "mean_abs", HOUR, whole=whole)


def test_stratified_verdict_equals_that_of_the_whole_window() -> None:
    """Inputs have the same results, effects are close; a random sample alone misses the extreme records."""
    window = explained(20_000, 4, extreme=12)
    far_M = far_records(explained(1000, 0).features, window.features)
    assert far_M.sum() == 12
    order = Sampling(np.random.default_rng(5).permutation(20_000), far_M, 20_000, sorted=False)
    chosen = order.sample(1000)
    whole = order.whole(window.features, chosen)
    assert chosen.rows_X is not None
    assert whole is not None
    full, ours = compared(window), compared(window.rows(chosen.rows_X), whole)
    assert replace(full, inputs=()).level is ours.level
    assert [(each.p, each.distance, each.unseen) for each in ours.inputs] == [
        (each.p, each.distance, each.unseen) for each in full.inputs
    ]
    again = compared(window.rows(chosen.rows_X), replace(whole, inputs=ours.inputs))
    assert replace(again, inputs=()) == replace(ours, inputs=())
    assert [(each.p, each.level, each.cause) for each in again.inputs] == [
        (each.p, each.level, each.cause) for each in ours.inputs
    ]
    assert ours.rows_live == 1000
    for name in ("attribution_shift", "total_log2_change"):
        found, truth = (getattr(each.labels[0], name) for each in (ours, full))
        assert found.value == pytest.approx(truth.value, abs=0.02)
        assert found.noise == pytest.approx(truth.noise, rel=0.2)
    assert ours.outputs[0].mean_now == pytest.approx(full.outputs[0].mean_now, abs=0.2)
    assert (
        ours.outputs[0].change_low
        < full.outputs[0].mean_now - full.outputs[0].mean_before
        < ours.outputs[0].change_high
    )
    missed = compared(window.rows(chosen.rows_X[: chosen.random][~far_M[chosen.rows_X[: chosen.random]]]))
    assert abs(missed.labels[0].total_log2_change.value or 0) < 0.3 < (full.labels[0].total_log2_change.value or 0)


def test_inputs_of_large_windows_are_tested_on_random_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of records of the strata are those of the whole window."""
    monkeypatch.setattr(strata, "MOST_TESTED", 40)
    found, features = sampling(100, [3, 60], 100), pl.DataFrame({"x": np.arange(100)})
    whole = found.whole(features, found.sample(20))
    assert found.order_M is not None
    assert whole is not None
    assert whole.features["x"].to_list() == found.order_M[:40].tolist()
    assert (whole.far, whole.rest, whole.random, int(whole.far_X.sum())) == (2, 98, 20, 2)
    assert found.whole(features, found.sample(100)) is None


def test_repetitions_of_the_window_count_once(golden: Golden) -> None:
    """Of all records, of the random sample and of far records."""
    window = explained(600, 6, extreme=5)
    twice = Explained(pl.concat([window.features] * 2), window.rows(np.tile(np.arange(600), 2)).attributions)
    far_M = np.tile(np.arange(600) < 5, 2)
    rows_X = np.concatenate([np.arange(400, 900), np.arange(5)])
    whole = WholeWindow(twice.features, 10, 1190, far_M[rows_X], 500)
    result = detect_drift(
        replace(POLICY, unit="content"), explained(1000, 0), twice.rows(rows_X), "mean_abs", HOUR, whole=whole
    )
    assert result.rows_live == 500
    chosen = whole.rows(np.arange(600), np.arange(500))
    assert (chosen.far, chosen.rest, chosen.random) == (5, 595, 500)
    golden("\n".join(result.notes))
