"""JSON documents, compared byte for byte with expected files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import Canary, LabelRanking, Level, RankingResult, SegmentResult
from runner.domain.executions import HistoryPoint, Status
from runner.drift.detect import Detector
from runner.drift.ranking import ABSOLUTE
from runner.errors import UnusableReference
from runner.results.documents import (
    DriftDocument,
    dump_analysis,
    dump_drift,
    dump_json,
    dump_violations,
    load_analysis,
    load_drift,
    sha256,
)
from tests.drift.samples import HOUR, POLICY, local_attributions
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
    assert dump_violations(RankingResult(0.9, drifts)) == (EXPECTED / "constraint_violations.json").read_bytes()


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
        dump_drift(DriftDocument(verdict, Detector(POLICY).find(reference, zero, "mean_abs", HOUR), against))
    )
    assert document["reference"] == {"y": {"global_shap_values": {"x": 0.5}, "expected_value": 0.25}}
    (label,) = document["finding"]["labels"]
    assert label["attribution_shift"] == {"value": None, "noise": None, "p": None}
    assert (document["finding"]["level"], label["level"], document["ndcg"][0]["ndcg"]) == ("info", "info", None)
    assert orjson.loads(dump_drift(DriftDocument(verdict, None, against)))["finding"] is None


def test_drift_round_trip() -> None:
    """Reading returns the values that were written; the notes of the ranking are in the manifest."""
    verdict = RankingResult(0.9, (LabelRanking("label0", "label0", 0.75, 0.4, 0.6, (ABSOLUTE,)),))
    point = HistoryPoint("a", "b", Status.FAILED, Level.NONE, Level.NONE, None, 0.9, 0.5, None, None, None, "ab")
    result = replace(
        Detector(POLICY).find(local_attributions(600, 0), local_attributions(300, 1), "mean_abs", HOUR),
        canary=Canary(9, changed=True, difference=0.5, moved=None),
    )
    data = dump_drift(DriftDocument(verdict, result, ATTRIBUTIONS, (point, point)))
    back = load_drift(data)
    assert (back.ranking, back.result, back.history) == (verdict, result, (point, point))
    assert dump_drift(back) == data


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"reference": 7}', b'{"version": 2, "finding": 7}'])
def test_damaged_drift_json_is_refused(data: bytes, golden: Golden) -> None:
    """Any structure other than that of a drift.json is an error."""
    with golden.raises(ValueError):
        load_drift(data)


def test_documents_are_strict_json(golden: Golden) -> None:
    """NaN and Infinity are refused."""
    with golden.raises(ValueError):
        dump_json({"value": float("nan")})


def test_effects_of_version_1_have_the_keys_of_this_version() -> None:
    """Labels, segments and history are renamed; a feature called mass keeps its name."""
    result = Detector(POLICY).find(local_attributions(600, 0), local_attributions(300, 1), "mean_abs", HOUR)
    result = replace(result, segments=(SegmentResult("a", Level.INFO, 6, 3, result.labels),))
    against = GlobalAttributions(("mass",), ("y",), np.array([[0.5]]), np.array([0.25]))
    point = HistoryPoint("a", "b", Status.COMPLETED, Level.NONE, Level.NONE, None, 0.9, 0.5, 0.1, 0.25, 0.125, None)
    document = DriftDocument(RankingResult(0.9, ()), result, against, (point,))
    data = dump_drift(document).replace(b'"version": 2', b'"version": 1')
    for key, former in ((b"attribution_shift", b"share_moved"), (b"total_log2_change", b"mass")):
        data = data.replace(b'"%s' % key, b'"%s' % former)
    assert b"share_moved_noise" in data
    assert dump_drift(load_drift(data)) == dump_drift(document)


def test_sha256_matches_the_standard() -> None:
    """The expected value is the example in FIPS 180-2."""
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
