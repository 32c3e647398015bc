"""JSON documents, compared byte for byte with expected files."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, GlobalAttributions
from runner.domain.drift import (
    Canary,
    LabelRanking,
    Level,
    RankingResult,
    RecordSample,
    SampledFeature,
    ScoreGroup,
    ScorePairs,
    SegmentResult,
)
from runner.domain.executions import HistoryPoint, Status
from runner.drift.ranking import ABSOLUTE
from runner.errors import UnusableReference
from runner.results import documents
from runner.results.directory import BASELINE_ROWS, EXPLAINED, LOCAL_ATTRIBUTIONS, amend
from runner.results.documents import (
    FORMER_KEYS,
    DriftDocument,
    dump_analysis,
    dump_drift,
    dump_json,
    dump_violations,
    load_analysis,
    load_drift,
    saved,
    sha256,
)
from runner.results.reference import from_parquet
from tests.builders import WINDOW, baseline, changed, event, monitor, write
from tests.drift.samples import HOUR, POLICY, compared, local_attributions
from tests.formula_models import Formula, additive, interacting
from tests.golden import Golden

EXPECTED = Path(__file__).parents[1] / "expected"

ATTRIBUTIONS = GlobalAttributions(
    names=("Age", 'Hours <per> "week" µ'),
    labels=("label0", "label1"),
    values_DL=np.array([[0.05962069398767555, -0.25], [1e-9, 0.0]]),
    expected_L=np.array([0.250623226165771, 1.0]),
)


def test_analysis_matches_the_expected_file() -> None:
    """The bytes of analysis.json follow the published format."""
    assert dump_analysis(ATTRIBUTIONS) == (EXPECTED / "analysis.json").read_bytes()


def test_analysis_round_trip() -> None:
    """Reading returns the values that were written."""
    back = load_analysis(dump_analysis(ATTRIBUTIONS), "a.json")
    assert (back.names, back.labels) == (ATTRIBUTIONS.names, ATTRIBUTIONS.labels)
    np.testing.assert_array_equal(back.values_DL, ATTRIBUTIONS.values_DL)
    np.testing.assert_array_equal(back.expected_L, ATTRIBUTIONS.expected_L)


def test_violations_match_the_expected_file() -> None:
    """constraint_violations.json lists the labels below the threshold, worded as by SageMaker."""
    drifts = (
        LabelRanking("label0", "label0", 0.7639720923277322, 0.4, 0.6),
        LabelRanking("label1", "label1", 0.9, 0.4, 0.6),
        LabelRanking("label2", "label2", 0.5, 0.4, 0.6, (ABSOLUTE,)),
        LabelRanking("label3", "label3", None, None, None),
    )
    ranking, expected = RankingResult(0.9, drifts), (EXPECTED / "constraint_violations.json").read_bytes()
    assert dump_violations(ranking.violations, 0.9) == expected
    both = orjson.loads(dump_violations(ranking.violations, 0.9, {"label": "label0", "description": "severe"}))[
        "violations"
    ]
    assert both[:-1] == orjson.loads(expected)["violations"]
    assert (both[-1]["constraint_check_type"], both[-1]["description"]) == ("calibrated_drift_check", "severe")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"explanations": {"kernel_shap": {}}}',
        b'{"explanations": {"kernel_shap": {"a": {"global_shap_values": {}, "expected_value": 1}}}}',
        b'{"explanations": {"kernel_shap": {"a": {"global_shap_values": {"x": null}, "expected_value": 1}}}}',
        b'{"explanations": {"kernel_shap": {"a": {"global_shap_values": {"x": 1}}}}}',
        b'{"explanations": {"kernel_shap": {"a": {"global_shap_values": {"x": "nan"}, "expected_value": 1}}}}',
        b'{"explanations": {"kernel_shap": {"a": {"global_shap_values": {"x": 1e308}, "expected_value": 1}}}}',
        b'{"explanations": {"kernel_shap": {"a": {"global_shap_values": {"x": true}, "expected_value": 1}}}}',
        b'{"explanations": {"kernel_shap": {"a": {"global_shap_values": {"x": 1}, "expected_value": 1},'
        b' "b": {"global_shap_values": {"x": 1, "y": 2}, "expected_value": 1}}}}',
    ],
)
def test_other_documents_are_refused(data: bytes) -> None:
    """The error names the file."""
    with pytest.raises(UnusableReference) as caught:
        load_analysis(data, "a.json")
    assert caught.value.path == "a.json"


def test_undefined_figures_are_null_in_drift_json() -> None:
    """For attributions that are all zero, and for a reference without stored records."""
    reference, zero = local_attributions(600, 0), replace(local_attributions(300, 1), phi_NDL=np.zeros((300, 5, 1)))
    verdict = RankingResult(0.9, (LabelRanking("y", "y", None, None, None, ("degenerate",)),))
    against = GlobalAttributions(("x",), ("y",), np.array([[0.5]]), np.array([0.25]))
    document = orjson.loads(
        dump_drift(DriftDocument(verdict, compared(POLICY, reference, zero, "mean_abs", HOUR), against))
    )
    assert document["reference"] == {"y": {"global_shap_values": {"x": 0.5}, "expected_value": 0.25}}
    (label,) = document["finding"]["labels"]
    assert label["attribution_shift"] == {"value": None, "noise": None, "p": None}
    assert (document["finding"]["level"], label["level"], document["ndcg"][0]["ndcg"]) == (
        "violation",
        "violation",
        None,
    )
    assert orjson.loads(dump_drift(DriftDocument(verdict, None, against)))["finding"] is None


def test_drift_round_trip() -> None:
    """Reading returns the values that were written; the notes of the ranking are in the manifest."""
    verdict = RankingResult(0.9, (LabelRanking("label0", "label0", 0.75, 0.4, 0.6, (ABSOLUTE,)),))
    point = HistoryPoint("a", "b", Status.FAILED, Level.NONE, Level.NONE, None, 0.9, 0.5, None, None, None, "ab")
    result = replace(
        compared(POLICY, local_attributions(600, 0), local_attributions(300, 1), "mean_abs", HOUR),
        canary=Canary(9, changed=True, difference=0.5, attribution_shift=None),
    )
    scores = ScorePairs("label0", (0.5, 0.25), (0.5, 0.75), (ScoreGroup("a = 1", 1, 2),))
    data = dump_drift(DriftDocument(verdict, result, ATTRIBUTIONS, (point, point), scores=scores))
    back = load_drift(data)
    assert (back.ranking, back.result, back.history, back.scores) == (verdict, result, (point, point), scores)
    assert dump_drift(back) == data


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"reference": 7}', b'{"version": 2, "finding": 7}'])
def test_damaged_drift_json_is_refused(data: bytes, golden: Golden) -> None:
    """Any structure other than that of a drift.json is an error."""
    with golden.raises(ValueError):
        load_drift(data)


def test_deeply_nested_drift_json_is_refused() -> None:
    """The parser cannot read it."""
    with pytest.raises(ValueError, match=r"drift\.json"):
        load_drift(b"[" * 100_000)


def test_documents_are_strict_json(golden: Golden) -> None:
    """NaN and Infinity are refused."""
    with golden.raises(ValueError):
        dump_json({"value": float("nan")})


def test_version_1_is_read_with_the_keys_of_this_version() -> None:
    """Labels, segments and history are renamed; a feature called mass keeps its name."""
    result = compared(POLICY, local_attributions(600, 0), local_attributions(300, 1), "mean_abs", HOUR)
    result = replace(result, segments=(SegmentResult("a", Level.INFO, 6, 3, result.labels),))
    against = GlobalAttributions(("mass",), ("y",), np.array([[0.5]]), np.array([0.25]))
    point = HistoryPoint("a", "b", Status.COMPLETED, Level.NONE, Level.NONE, None, 0.9, 0.5, 0.1, 0.25, 0.125, None)
    document = DriftDocument(RankingResult(0.9, ()), result, against, (point,))
    data = dump_drift(document).replace(b'"version": 4', b'"version": 1')
    for former, key in FORMER_KEYS.items():
        data = data.replace(f'"{key}"'.encode(), f'"{former}"'.encode())
    assert b"share_moved_noise" in data
    assert dump_drift(load_drift(data)) == dump_drift(document)


def test_version_3_is_read_without_records() -> None:
    """Records for charts, the noise of shares and the means of the history are None."""
    result = compared(POLICY, local_attributions(600, 0), local_attributions(300, 1), "mean_abs", HOUR)
    against = GlobalAttributions(("a",), ("y",), np.array([[0.5]]), np.array([0.25]))
    point = HistoryPoint("a", "b", Status.COMPLETED, Level.NONE, Level.NONE, None, 0.9, 0.5, 0.1, 0.25, 0.125, None)
    document = json.loads(dump_drift(DriftDocument(RankingResult(0.9, ()), result, against, (point,))))
    del document["sample"]
    for key in ("share_changes", "mean_score", "mean_score_reference", "records"):
        del document["history"][0][key]
    for feature in document["finding"]["labels"][0]["features"]:
        del feature["share_noise"]
    read = load_drift(json.dumps(document).encode())
    assert (read.sample, read.history) == (None, (point,))
    assert read.result is not None
    assert read.result.labels[0].features[0].share_noise is None


def test_arrays_of_scalars_are_single_lines() -> None:
    """Strings that look like JSON keep their characters."""
    hostile = "[\n  1,\n 2\n]  \t x"
    features = (SampledFeature(hostile, (0.5, -1e-9), (), (hostile, None), ()),)
    reference = GlobalAttributions(("a",), ("y",), np.array([[0.5]]), np.array([0.25]))
    document = DriftDocument(RankingResult(0.9, ()), None, reference, (), RecordSample("y", features, ()))
    data = dump_drift(document)
    assert b"[ 0.5, -1e-09 ]" in data
    assert load_drift(data).sample == document.sample


def test_sha256_matches_the_standard() -> None:
    """The expected value is the example in FIPS 180-2."""
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


NAMES = ("Age", 'a,"b"\r\nc', "a_b", "a", "ü <i>")
LABELS = ("c", "b_c", "x\ny")
EXTREME = [0.1, -0.0, 5e-324, -1.7976931348623157e308, 1e22, 1 / 3, 1e-7]


def table(data: bytes) -> list[list[str]]:
    """Return the cells of a CSV file."""
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def two_outputs(x: pl.DataFrame) -> NDArray[np.float64]:
    """Return the scores of two outputs."""
    return np.stack([interacting(x), additive(x)], axis=1)


@pytest.mark.parametrize("values", [1, 40, 2**20])
def test_special_names_and_floats_are_read_back(monkeypatch: pytest.MonkeyPatch, values: int) -> None:
    """Features of the first label come first, duplicate columns are preserved, floats keep all bits."""
    monkeypatch.setattr(documents, "VALUES", values)
    phi_NDL = np.random.default_rng(0).normal(size=(7, len(NAMES), len(LABELS)))
    phi_NDL[:, 1, 2] = EXTREME
    attributions = Attributions(NAMES, LABELS, phi_NDL, np.zeros(3), np.zeros((7, 3)), 0)
    columns: list[list[object]] = [
        ["x,\n", None, 'q"', "\r", ""],
        [1, None, 3, 4, 5],
        [0.1, 2.0, 1e300, 5e-324, None],
        [True] * 5,
        ["12"] * 5,
    ]
    background = pl.DataFrame([pl.Series(name, column) for name, column in zip(NAMES, columns, strict=True)])
    with saved(attributions, background[:, ::-1]) as files:
        found = {name: table(file.read()) for name, file in files.items()}
    header, *rows = found[LOCAL_ATTRIBUTIONS]
    assert header == [f"{name}_{label}" for label in LABELS for name in NAMES]
    assert header.count("a_b_c") == 2
    assert np.array(rows, dtype=np.float64).tobytes() == phi_NDL.transpose(0, 2, 1).reshape(7, -1).tobytes()
    header, *rows = found[BASELINE_ROWS]
    assert header == list(NAMES)
    assert rows[0] == ["x,\n", "1", "0.1", "true", "12"]
    assert rows[1] == ["", "", "2.0", "true", "12"]
    assert [row[0] for row in rows] == ["x,\n", "", 'q"', "\r", ""]


def test_baseline_saves_the_attributions_of_the_reference_sample(tmp_path: Path) -> None:
    """One row per record of the dataset, in its order and equal to the reference sample; the mean is the background."""
    model = Formula(two_outputs, label_headers=("no", "yes"))
    assert replace(baseline(tmp_path, model), save_local_shap_values=True).run().succeeded
    reference = tmp_path / "reference"
    header, *rows = table((reference / LOCAL_ATTRIBUTIONS).read_bytes())
    assert header == ["a_no", "b_no", "c_no", "a_yes", "b_yes", "c_yes"]
    records = from_parquet((reference / "reference.parquet").read_bytes(), list("abc"), ("a", "b", "c"), ("no", "yes"))
    expected = records.attributions.phi_NDL.transpose(0, 2, 1).reshape(3, 6)
    assert np.array(rows, dtype=np.float64).tobytes() == expected.tobytes()
    assert (reference / BASELINE_ROWS).read_bytes() == b"a,b,c\n3,1,1\n"
    assert not (reference / EXPLAINED).exists()


def test_explained_csv_links_rows_to_events(tmp_path: Path) -> None:
    """out.csv has the format of AWS; explained.csv names the event and the record of each row."""
    stage = changed(monitor(tmp_path, []), save_local_shap_values=True)
    write(tmp_path, "09/a.jsonl", event([7, 2, 1], [6, 2, 1]) + event([9, 3, 0], clock="09:31:00"))
    target = Path(stage.run(WINDOW).directory)
    header, *rows = table((target / LOCAL_ATTRIBUTIONS).read_bytes())
    assert header == ["a_label0", "b_label0", "c_label0"]
    values_ND = np.array([[7, 2, 1], [6, 2, 1], [9, 3, 0]]) - np.array([3, 1, 1])
    np.testing.assert_allclose(np.array(rows, dtype=float), values_ND * [1, 2, 3])
    assert (target / BASELINE_ROWS).read_bytes() == b"a,b,c\n3,1,1\n"
    header, *rows = table((target / EXPLAINED).read_bytes())
    assert header == ["file", "line", "row", "event_id", "inference_id", "at"]
    assert [row[1:4] for row in rows] == [["1", "0", "id"], ["1", "1", "id"], ["2", "0", "id"]]
    assert [row[-1] for row in rows] == ["2026-01-05T09:30:00Z"] * 2 + ["2026-01-05T09:31:00Z"]
    assert rows[0][0].endswith("a.jsonl")
    before = (target / LOCAL_ATTRIBUTIONS).read_bytes()
    amend(target, {"report.html": b"new"})
    assert (target / LOCAL_ATTRIBUTIONS).read_bytes() == before


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t=", "\r+", "\n@", " -", "＝", "\ufeff="])
def test_cells_of_clients_are_no_formulas(first: str) -> None:
    """An apostrophe precedes strings that a spreadsheet would evaluate; numbers and other strings are unchanged."""
    names = ("=a", "b")
    attributions = Attributions(names, ("l",), np.array([[[-1.5], [2.0]]]), np.array([0.0]), np.array([[0.5]]), 0)
    with saved(attributions, pl.DataFrame({names[0]: [f"{first}cmd|' /C calc'!A0"], "b": ["1=1"]})) as files:
        (header, row), (_, values) = (table(files[name].read()) for name in (BASELINE_ROWS, LOCAL_ATTRIBUTIONS))
    assert header == ["'=a", "b"]
    assert row == [f"'{first}cmd|' /C calc'!A0", "1=1"]
    assert values == ["-1.5", "2.0"]


def test_local_attributions_are_not_saved_by_default(tmp_path: Path) -> None:
    """Neither by baselining nor by an execution; files of a former execution are removed."""
    stage = monitor(tmp_path, [[7, 2, 1]])
    changed(stage, save_local_shap_values=True).run(WINDOW)
    target = Path(stage.run(WINDOW).directory)
    assert not any((folder / "explanations_shap").exists() for folder in (target, tmp_path / "reference"))
    assert not (target / EXPLAINED).exists()
