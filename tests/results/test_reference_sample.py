"""Kept records come back as they were, and are drawn without regard to what they hold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Attributions, Explained
from runner.results import reference_sample
from tests.golden import Golden

NAMES = ("Age", 'a "b"\n', "kind")


def made(rows: int) -> Explained:
    """Return records with numbers, texts and nulls, and their attributions for two labels."""
    rng = np.random.default_rng(0)
    features = pl.DataFrame(
        [
            pl.Series(NAMES[0], rng.integers(0, 99, rows)),
            pl.Series(NAMES[1], [None, 0.5] * (rows // 2), dtype=pl.Float64),
            pl.Series(NAMES[2], ["ä", ""] * (rows // 2)),
        ]
    )
    phi_NDL, scores_NL = rng.normal(size=(rows, 3, 2)), rng.normal(size=(rows, 2))
    return Explained(features, Attributions(NAMES, ("no", "<yes>"), phi_NDL, np.array([0.1, 0.2]), scores_NL, 9))


@pytest.mark.parametrize("rows", [4, 40])
def test_what_was_kept_is_read_back(rows: int) -> None:
    """Types, nulls, names and every bit of the attributions; the same records give the same bytes."""
    drawn = reference_sample.draw_sample(made(rows), 20, 1)
    back = reference_sample.from_parquet(reference_sample.to_parquet(drawn), NAMES, NAMES, ("no", "<yes>"))
    assert back.features.equals(drawn.features)
    assert back.features.schema == drawn.features.schema
    assert back.attributions.phi_NDL.tolist() == drawn.attributions.phi_NDL.tolist()
    assert back.attributions.scores_NL.tolist() == drawn.attributions.scores_NL.tolist()
    assert reference_sample.to_parquet(drawn) == reference_sample.to_parquet(
        reference_sample.draw_sample(made(rows), 20, 1)
    )
    assert drawn.features.height == min(rows, 20)


def test_every_record_may_be_kept() -> None:
    """Over many seeds each is drawn equally often, and stays with its attributions."""
    records = made(10)
    scores_N = records.attributions.scores_NL[:, 0].tolist()
    times = np.zeros(10)
    for seed in range(2000):
        drawn = reference_sample.draw_sample(records, 5, seed)
        places = [scores_N.index(score) for score in drawn.attributions.scores_NL[:, 0]]
        assert places == sorted(places)
        assert drawn.features.equals(records.features[places])
        times[places] += 1
    assert times == pytest.approx(np.full(10, 1000), rel=0.1)


@pytest.mark.parametrize(
    ("rows", "places"), [(0, []), (1, [0]), (4, [0, 2, 5, 7]), (10, [*range(10)]), (99, [*range(10)])]
)
def test_the_same_records_are_explained_again_each_time(rows: int, places: list[int]) -> None:
    """Spread over all that are kept."""
    records = made(10)
    assert reference_sample.canaries(records, rows).features.equals(records.features[places])


@pytest.mark.parametrize("data", [b"", b"PAR1", b"{}"])
def test_another_file_is_refused(data: bytes, golden: Golden) -> None:
    """With a sentence."""
    with golden.raises(ValueError):
        reference_sample.from_parquet(data, NAMES, NAMES, ("no",))


def test_a_file_of_other_features_is_refused(golden: Golden) -> None:
    """As when somebody has copied it from elsewhere."""
    with golden.raises(ValueError):
        reference_sample.from_parquet(reference_sample.to_parquet(made(4)), (*NAMES, "one more"), NAMES, ("no",))
