"""Content of the page: verdict, facts, health, tables and charts, with names escaped."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from runner.domain.attributions import Calls, GlobalAttributions
from runner.domain.drift import Canary, DriftResult, Effect, FeatureDrift, LabelResult, Level
from runner.domain.executions import Status
from runner.errors import NO_DATA
from runner.explain.preflight import Parity
from runner.results.documents import dump_drift, load_drift
from runner.results.manifest import StandardErrors
from tests.golden import Golden
from tests.report.samples import (
    COUNTS,
    EXECUTION,
    FAILURE,
    HOSTILE,
    NO_RANKING,
    REPORT,
    attributions,
    drift_document,
    drift_result,
    files,
    full_drift_result,
    full_report,
    history,
    html,
    manifest,
)
from tests.report.visible import details, elements, headings, order, text_of, verdict_state, visible

LIVE, REFERENCE = attributions(["a", "b"]), attributions(["b", "a"], 1)
RANKED = drift_document(REFERENCE)


def test_the_page_shows_the_manifest(golden: Golden) -> None:
    """Verdict, health, both labels and all notes, with HTML escaped."""
    page = html(EXECUTION, LIVE, RANKED)
    for string in ("<h1>Drift</h1>", "a &lt;i&gt;note&lt;/i&gt;", "Title &lt;&amp;&gt;", "ab" * 32):
        assert string in page, string
    assert {"12", "10", "2", "100"} <= set(re.findall(r"\b\d+\b", text_of(page, "health")))
    assert {"0.8000", "0.9"} <= set(re.findall(r"\d+\.\d+", text_of(page, "facts")))
    assert page.count("<strong>0.8000</strong>") == 2
    assert page.count("<figure") == 1
    golden(text_of(page, "verdict", "facts"))
    golden(text_of(page, "health"))
    golden(details(page)[0])


def test_the_page_starts_with_the_verdict_and_what_to_do(golden: Golden) -> None:
    """Then health, top changes, charts, labels, segments and appendix."""
    page = full_report(["a", "b"], windows=4)["report.html"].decode()
    assert order(page)[:5] == ["verdict", "advice", "health", "bar", "figure"]
    assert len(headings(page)) == 11
    assert len(re.findall(r"<details[^>]*>", page)) == 5
    (open_summary,) = re.findall(r"<details open>\s*<summary>(.*)</summary>", page)
    assert open_summary.split(", ")[:2] == ["yes", "warning"]
    golden("\n".join(headings(page)))
    golden(text_of(page, "facts"))
    golden("\n".join(re.findall("<summary>(.*)</summary>", page)))


def test_effects_are_next_to_the_values_expected_by_chance(golden: Golden) -> None:
    """The most significant cause is first, features with the same cause share an entry, and HTML is escaped."""
    features = tuple(
        FeatureDrift(name, 0.5, 0.4, 0.5, 0.4, 1, 1, 0.1, 0.2, distance, p, cause)
        for name, distance, p, cause in (
            ("a", 0.25, 1e-9, "<i>"),
            ("<b>b</b>", 0.5, 1e-99, "'&'"),
            ("c", 0.125, 1e-8, "<i>"),
        )
    )
    shift, undefined = Effect(0.25, 0.125, 0.001), Effect(None, None, None)
    label = LabelResult("yes", "yes", Level.WARNING, 1e-99, shift, undefined, Effect(0.875, 0.9375, 0.5), features)
    result = DriftResult(Level.WARNING, Level.WARNING, 600, 300, 1e-4, 0.17, (label,))
    names = ["a", "<b>b</b>", "c"]
    page = html(EXECUTION, attributions(names), drift_document(attributions(names, 1), result))
    for cells in (
        r"<td>25\.0%</td><td>[^<]*\b12\.5%</td><td>0\.001</td>",
        "<td>undefined</td><td></td><td></td>",
        r"<td>0\.8750</td><td>[^<]*\b0\.9375</td><td>0\.5</td>",
        r"<td>0\.50</td><td>1e-99</td>",
    ):
        assert re.search(cells, page), cells
    assert re.findall("<dt>(.*)</dt><dd>(.*)</dd>", elements(page, "causes")[0]) == [
        ("&lt;b&gt;b&lt;/b&gt;", "&#39;&amp;&#39;"),
        ("a, c", "&lt;i&gt;"),
    ]
    golden(details(page)[0])


@pytest.mark.parametrize(
    ("local", "value"),
    [
        ({}, "standard error unknown"),
        ({"yes": 0.00214, "no": 0.000031}, "local values ± 0.0021"),
        ({"yes": None, "no": None}, "standard error unknown"),
        ({"yes": 0.0, "no": 0.0}, "exact"),
    ],
    ids=["not measured", "measured", "unknown", "exact"],
)
def test_the_page_shows_the_largest_standard_error(local: dict[str, float | None], value: str, golden: Golden) -> None:
    """Also for manifests of versions that did not store it."""
    errors = {label: StandardErrors(error, {}) for label, error in local.items()} or None
    page = html(manifest(standard_errors=errors), LIVE, RANKED)
    (check,) = (line for line in text_of(page, "health").splitlines() if line.startswith("Estimator"))
    assert value in check
    golden(check)


def test_calls_of_a_remote_model_are_on_the_page(golden: Golden) -> None:
    """With retries and the calls that are left out; the hash of the model is unknown."""
    calls = Calls(requests=1234, rows=99, bytes=2_500_000, retries=3, fallbacks=1)
    changes = {"calls": calls, "counts": replace(COUNTS, probes=7), "model_changed": None, "hashes": {"model": None}}
    page = html(manifest(**changes), LIVE, RANKED)
    health = text_of(page, "health")
    for number in ("1,234", "2.5", "3", "7"):
        assert re.search(rf"\b{number}\b", health), number
    golden(health)


def test_null_and_false_are_shown_as_in_json() -> None:
    """Python's None and False are not shown to people."""
    estimator = {**manifest_estimator(), "compat": None, "use_logit": False}
    page = html(manifest(estimator=estimator, hashes={"model": None}), LIVE, RANKED)
    assert not re.search(r"\b(None|False|True)\b", visible(page))
    assert "<code>false</code>" in page


def manifest_estimator() -> dict[str, Any]:
    """Return the estimator settings of the sample manifest."""
    assert EXECUTION.explanation
    return dict(EXECUTION.explanation.estimator)


def test_a_failed_execution_has_a_page(golden: Golden) -> None:
    """It shows the reason, the captured records, and what to do."""
    counts = replace(COUNTS, files=0, events=0, outside=3, records=0, rejected={})
    page = html(replace(FAILURE, counts=counts, command="python -m runner <b>"))
    assert verdict_state(page) == "bad"
    assert NO_DATA in text_of(page, "verdict")
    assert re.search(r"\b3\b", text_of(page, "health"))
    assert "<code>python -m runner &lt;b&gt;</code>" in page
    assert "<svg" not in page
    assert elements(page, "doubt") == []
    golden(text_of(page, "verdict", "advice", "health"))


def test_too_few_records_are_a_warning(golden: Golden) -> None:
    """The page is not red, and the advice names the setting."""
    changes = {"headline": "Too few records", "sentence": "7.", "serving_parity": None}
    page = html(manifest(**changes), attributions(["a"]), drift_document(attributions(["a"], 1)))
    assert verdict_state(page) == "warning"
    assert "drift.min_rows" in text_of(page, "advice")
    golden(text_of(page, "advice"))


def test_failed_health_checks_make_the_verdict_doubtful(golden: Golden) -> None:
    """The failed check is below the verdict and in the advice."""
    doubtful, reliable = (html(manifest(serving_parity=Parity(largest, 10)), LIVE, RANKED) for largest in (0.25, 0.0))
    assert (verdict_state(doubtful), verdict_state(reliable)) == ("doubtful", "bad")
    assert (len(elements(doubtful, "doubt")), len(elements(reliable, "doubt"))) == (1, 0)
    assert len(elements(doubtful, "advice")) == len(elements(reliable, "advice")) + 1
    golden(text_of(doubtful, "doubt", "advice"))
    golden(text_of(reliable, "advice"))


def test_a_changed_model_is_part_of_the_advice() -> None:
    """Only if the canary records show it."""
    pages = []
    for changed in (True, False):
        result = replace(drift_result(LIVE, REFERENCE), canary=Canary(50, changed, 0.1, 0.2))
        pages.append(html(EXECUTION, LIVE, drift_document(REFERENCE, result)))
    assert [len(elements(page, "advice")) for page in pages] == [4, 3]


def test_a_headline_of_another_version_is_a_warning() -> None:
    """Its advice is unknown, so there is none."""
    page = html(manifest(headline="Something else", status=Status.COMPLETED, serving_parity=None), LIVE, RANKED)
    assert verdict_state(page) == "warning"
    assert elements(page, "advice") == []


def test_documents_of_earlier_versions_are_rendered(golden: Golden) -> None:
    """Without history, segments, classifier test, canary, histograms and material change."""
    drift = drift_document(REFERENCE, full_drift_result(LIVE, REFERENCE), history(4))
    document = json.loads(dump_drift(drift))
    del document["history"]
    for key in ("level_alone", "segments", "separability", "canary"):
        del document["finding"][key]
    for label in document["finding"]["labels"]:
        for feature in label["features"]:
            del feature["attributions"], feature["values"]
    page = html(manifest(material=None), LIVE, load_drift(json.dumps(document).encode()))
    assert page.count("<figure") == 2
    golden("\n".join(headings(page)))


def test_the_same_documents_give_the_same_bytes() -> None:
    """No format contains a date or anything random."""
    assert full_report(["a", "b"]) == full_report(["a", "b"])


@pytest.mark.parametrize("count", [1, 30, 1000])
def test_any_number_of_features_can_be_rendered(count: int, golden: Golden) -> None:
    """The chart shows the largest, the tables all that fit, and the page stays small."""
    names = [f"feature {i}" for i in range(count)]
    page = html(EXECUTION, attributions(names), drift_document(attributions(names, 1)))
    assert page.count('<th scope="row">feature') == 2 * count + min(10, count)
    assert len(page) < 1_000_000
    chart = visible(elements(page, "quiet")[0])
    assert re.findall(r"\d+", chart) == [str(count - 20)] * (count > 20)
    golden(chart)


@pytest.mark.parametrize(
    "names", [["one"], [f"feature {i}" for i in range(1000)], HOSTILE], ids=["one", "thousand", "hostile"]
)
def test_reports_are_small(names: list[str]) -> None:
    """A page of at most 1 MB, a PDF of at most 300 KB."""
    reports = full_report(names)
    assert len(reports["report.html"]) < 1_000_000
    assert len(reports["report.pdf"]) < 300_000
    assert reports["report.ipynb"]


def test_rows_of_many_labels_are_limited(golden: Golden) -> None:
    """Of a thousand features of twelve labels, the hidden ones are counted."""
    names, labels = tuple(f"feature {i}" for i in range(1000)), tuple(f"label {i}" for i in range(12))
    live, reference = (
        GlobalAttributions(names, labels, np.random.default_rng(seed).random((1000, 12)), np.zeros(12))
        for seed in (0, 1)
    )
    drift = drift_document(reference, full_drift_result(live, reference), history(48))
    reports = files(manifest(verdict=NO_RANKING), live, drift)
    assert len(reports["report.html"]) < 1_000_000
    assert len(reports["report.pdf"]) < 300_000
    hidden = [visible(each) for each in elements(reports["report.html"].decode(), "quiet") if each.startswith("834 ")]
    assert len(hidden) == len(labels)
    golden(hidden[0])


def test_attempt_returns_all_formats_without_problems() -> None:
    """The same as `render`."""
    assert REPORT.attempt(EXECUTION, LIVE, RANKED) == (REPORT.render(EXECUTION, LIVE, RANKED), [])
