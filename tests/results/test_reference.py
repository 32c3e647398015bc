"""The reference and its sample of explained records."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Attributions, Explained
from runner.errors import MissingInput, UnusableReference
from runner.explain import background as backgrounds
from runner.results import reference as reference_samples
from runner.results.manifest import BackgroundRows
from runner.results.manifest_file import as_document
from runner.results.reference import EVENTS, Reference, canaries, draw_sample, from_parquet, to_parquet
from tests.golden import Golden
from tests.results.samples import BASELINE, EXPLANATION

SETTINGS = {"kind": "kernel", "num_samples": 100, "agg_method": "mean_abs", "use_logit": False}
NAMES = ("Age", 'a "b"\n', "kind")
BACKGROUND = pl.DataFrame({"Age": [39], "Rate": [0.5]})


def analysis(**values: float) -> bytes:
    """Return an analysis.json."""
    label = {"global_shap_values": values, "expected_value": 0.25}
    return json.dumps({"version": "1.0", "explanations": {"kernel_shap": {"label0": label}}}).encode()


ANALYSIS = analysis(Age=0.5, Rate=-0.125)


HASHES = {
    "analysis.json": hashlib.sha256(ANALYSIS).hexdigest(),
    "background": backgrounds.identity(BACKGROUND),
    "model": "m",
}
ORIGIN = replace(
    EXPLANATION, estimator=SETTINGS, background=BackgroundRows(("Age", "Rate"), ((39, 0.5),)), hashes=HASHES
)


def manifest(**changes: Any) -> dict[str, Any]:
    """Return the manifest of a baselining, as JSON object."""
    return {**as_document(replace(BASELINE, explanation=ORIGIN)), **changes}


def folder(path: Path, origin: object = None) -> Path:
    """Fill a folder with an analysis and, if given, a manifest."""
    (path / "analysis.json").write_bytes(ANALYSIS)
    if origin is not None:
        (path / "manifest.json").write_text(json.dumps(origin))
    return path


@pytest.mark.parametrize("name", ["", "analysis.json"])
def test_folder_and_analysis_file_are_the_same_reference(tmp_path: Path, name: str) -> None:
    """Both paths give the attributions and their origin."""
    reference = Reference.read(folder(tmp_path, manifest()) / name)
    assert reference.path == tmp_path / "analysis.json"
    assert reference.digest == hashlib.sha256(ANALYSIS).hexdigest()
    assert reference.origin == ORIGIN
    found = reference.attributions
    assert (found.names, found.labels) == (("Age", "Rate"), ("label0",))
    assert (found.values_DL.tolist(), found.expected_L.tolist()) == ([[0.5], [-0.125]], [0.25])


@pytest.mark.parametrize("origin", [None, [], {}, {"stage": "other"}, {"hashes": {}}])
def test_foreign_manifest_is_ignored(tmp_path: Path, origin: object) -> None:
    """Without a manifest of stage=baseline the origin is unknown."""
    assert Reference.read(folder(tmp_path, origin)).origin is None


def test_clarify_analysis_is_read_under_any_name(tmp_path: Path) -> None:
    """A bare analysis.json needs no manifest."""
    (tmp_path / "clarify.json").write_bytes(ANALYSIS)
    assert Reference.read(tmp_path / "clarify.json").attributions.names == ("Age", "Rate")


@pytest.mark.parametrize("name", ["", "absent", "absent.json"])
def test_missing_reference_names_the_remedy(tmp_path: Path, name: str, golden: Golden) -> None:
    """The error names the setting and stage=baseline."""
    with golden.raises(MissingInput):
        Reference.read(tmp_path / name)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"explanations":{"kernel_shap":{}}}', analysis()])
def test_unreadable_reference_is_refused(tmp_path: Path, data: bytes, golden: Golden) -> None:
    """The error names the file."""
    (tmp_path / "analysis.json").write_bytes(data)
    with golden.raises(UnusableReference):
        Reference.read(tmp_path)


def test_background_is_read_from_the_manifest(tmp_path: Path) -> None:
    """The rows keep their names and types."""
    assert Reference.read(folder(tmp_path, manifest())).background().equals(BACKGROUND)


def test_bare_reference_has_no_background(tmp_path: Path, golden: Golden) -> None:
    """Without a manifest, shap.baseline must be set."""
    with golden.raises(UnusableReference):
        Reference.read(folder(tmp_path)).background()


@pytest.mark.parametrize(
    "origin",
    [
        manifest(hashes={**HASHES, "analysis.json": "other"}),
        manifest(hashes=None),
        manifest(background=None),
        manifest(background={"names": None, "rows": []}),
        manifest(estimator=None),
    ],
    ids=["hash", "hashes", "background", "names", "estimator"],
)
def test_damaged_manifest_is_refused(tmp_path: Path, origin: object, golden: Golden) -> None:
    """A damaged manifest never counts as a missing one."""
    with golden.raises(UnusableReference):
        Reference.read(folder(tmp_path, origin))


def test_truncated_manifest_is_refused(tmp_path: Path, golden: Golden) -> None:
    """A manifest that is not JSON is an error."""
    (folder(tmp_path) / "manifest.json").write_text("{")
    with golden.raises(UnusableReference):
        Reference.read(tmp_path)


def test_equal_settings_give_no_notes(tmp_path: Path) -> None:
    """The same settings and background are comparable."""
    assert Reference.read(folder(tmp_path, manifest())).check_comparable(SETTINGS, BACKGROUND) == []


def test_bare_reference_gives_a_note(tmp_path: Path, golden: Golden) -> None:
    """The settings of its estimator are unknown."""
    (note,) = Reference.read(folder(tmp_path)).check_comparable(SETTINGS, BACKGROUND)
    golden(note)


def test_settings_that_change_the_noise_give_notes(tmp_path: Path, golden: Golden) -> None:
    """The sample size, the seed and the explainer change only the noise."""
    live = {"kind": "exact", "num_samples": 200, "seed": 1, "agg_method": "mean_abs", "use_logit": False}
    notes = Reference.read(folder(tmp_path, manifest())).check_comparable(live, BACKGROUND)
    assert len(notes) == 3
    golden("\n".join(notes))


@pytest.mark.parametrize(("key", "value"), [("agg_method", "median"), ("use_logit", True)])
def test_settings_that_change_the_meaning_are_refused(tmp_path: Path, key: str, value: object, golden: Golden) -> None:
    """Aggregation and logit scale make the attributions incomparable."""
    reference = Reference.read(folder(tmp_path, manifest()))
    with golden.raises(UnusableReference):
        reference.check_comparable({**SETTINGS, key: value}, BACKGROUND)


def test_different_background_is_refused(tmp_path: Path, golden: Golden) -> None:
    """A different shap.baseline makes the attributions incomparable."""
    reference = Reference.read(folder(tmp_path, manifest()))
    with golden.raises(UnusableReference):
        reference.check_comparable(SETTINGS, BACKGROUND.with_columns(Age=40))


def sample(rows: int) -> Explained:
    """Return explained records with numbers, strings and nulls, for two labels."""
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
def test_reference_sample_round_trip(rows: int) -> None:
    """Types, nulls, names and all bits of the attributions are preserved; equal records give equal bytes."""
    drawn = draw_sample(sample(rows), 20, 1)
    back = from_parquet(to_parquet(drawn), NAMES, NAMES, ("no", "<yes>"))
    assert back.features.equals(drawn.features)
    assert back.features.schema == drawn.features.schema
    assert back.attributions.phi_NDL.tolist() == drawn.attributions.phi_NDL.tolist()
    assert back.attributions.scores_NL.tolist() == drawn.attributions.scores_NL.tolist()
    assert to_parquet(drawn) == to_parquet(draw_sample(sample(rows), 20, 1))
    assert drawn.features.height == min(rows, 20)


def test_events_of_the_reference_sample_round_trip() -> None:
    """Their times and numbers stay with their records; a sample without events has none."""
    at = pl.Series([datetime(2026, 1, 5, hour, tzinfo=UTC) for hour in range(24)], dtype=EVENTS["at"])
    events = pl.DataFrame({"at": at, "event": pl.Series(range(24), dtype=pl.UInt32)})
    drawn = draw_sample(replace(sample(24), events=events), 20, 1)
    back = from_parquet(to_parquet(drawn), NAMES, NAMES, ("no", "<yes>")).events
    assert back is not None
    assert drawn.events is not None
    assert back.equals(drawn.events)
    assert (back["at"].dt.hour() == back["event"]).all()
    assert from_parquet(to_parquet(sample(4)), NAMES, NAMES, ("no", "<yes>")).events is None


def test_records_with_many_values_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample has at most a number of values, but never less than the smallest number of records."""
    records = sample(40)
    monkeypatch.setattr(reference_samples, "FEWEST_ROWS", 5)
    for values, rows in ((11 * 30, 30), (11 * 30 + 10, 30), (1, 5), (11 * 500, 40)):
        monkeypatch.setattr(reference_samples, "MOST_VALUES", values)
        assert draw_sample(records, 100, 0).features.height == rows


def test_reference_sample_is_uniform() -> None:
    """Over many seeds each record is drawn equally often, together with its attributions."""
    records = sample(10)
    scores_N = records.attributions.scores_NL[:, 0].tolist()
    counts = np.zeros(10)
    for seed in range(2000):
        drawn = draw_sample(records, 5, seed)
        rows_drawn = [scores_N.index(score) for score in drawn.attributions.scores_NL[:, 0]]
        assert rows_drawn == sorted(rows_drawn)
        assert drawn.features.equals(records.features[rows_drawn])
        counts[rows_drawn] += 1
    assert counts == pytest.approx(np.full(10, 1000), rel=0.1)


@pytest.mark.parametrize(
    ("rows", "rows_drawn"), [(0, []), (1, [0]), (4, [0, 2, 5, 7]), (10, [*range(10)]), (99, [*range(10)])]
)
def test_canaries_are_evenly_spaced(rows: int, rows_drawn: list[int]) -> None:
    """They are the same records each time."""
    records = sample(10)
    assert canaries(records, rows).features.equals(records.features[rows_drawn])


@pytest.mark.parametrize("data", [b"", b"PAR1", b"{}"])
def test_other_files_are_no_reference_sample(data: bytes, golden: Golden) -> None:
    """The error names reference.parquet."""
    with golden.raises(ValueError):
        from_parquet(data, NAMES, NAMES, ("no",))


def test_reference_sample_of_other_features_is_refused(golden: Golden) -> None:
    """For example a file copied from another reference."""
    with golden.raises(ValueError):
        from_parquet(to_parquet(sample(4)), (*NAMES, "one more"), NAMES, ("no",))


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table[:0],
        lambda table: table.select(pl.all().repeat_by(300_000).explode()),
        lambda table: table.with_columns(pl.lit(float("nan")).alias("phi0.0")),
        lambda table: table.with_columns(score0=pl.lit(float("inf"))),
        lambda table: table.with_columns(score0=pl.lit(None)),
    ],
    ids=["empty", "many rows", "NaN", "infinite", "null"],
)
def test_reference_sample_with_other_values_is_refused(change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Also if few bytes contain many rows."""
    file = io.BytesIO()
    change(pl.read_parquet(to_parquet(sample(4)))).write_parquet(file)
    with pytest.raises(ValueError, match=r"reference\.parquet"):
        from_parquet(file.getvalue(), NAMES, NAMES, ("no", "<yes>"))
