"""Content of the page: verdict, facts, health, tables and charts, with names escaped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.domain.attributions import Calls, GlobalAttributions
from runner.domain.drift import (
    Canary,
    Change,
    ChangeKind,
    DriftResult,
    Effect,
    FeatureDrift,
    LabelResult,
    Level,
    Parity,
    Verdict,
)
from runner.domain.executions import Status, Window
from runner.errors import NO_DATA
from runner.report.index import MOST_EXECUTIONS, ExecutionRow, index_page
from runner.results import directory
from runner.results.documents import dump_drift, load_drift
from runner.results.manifest import Effects, ExecutionTime, Manifest, SearchedPlace, StandardErrors
from runner.results.manifest_file import dump_manifest, newest_executions
from tests.cli_runner import Shapwatch
from tests.golden import Golden
from tests.report.samples import (
    BASELINE,
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
    write,
)
from tests.report.visible import details, elements, headings, numbers, order, text_of, verdict_state, visible

LIVE, REFERENCE = attributions(["a", "b"]), attributions(["b", "a"], 1)
RANKED = drift_document(REFERENCE)


def test_the_page_shows_the_manifest(golden: Golden) -> None:
    """Verdict, health, both labels and all notes, with HTML escaped."""
    page = html(EXECUTION, LIVE, RANKED)
    for string in ("a &lt;i&gt;note&lt;/i&gt;", "Title &lt;&amp;&gt;", "ab" * 32):
        assert string in page, string
    assert {"12", "10", "2", "100"} <= set(re.findall(r"\b\d+\b", text_of(page, "health")))
    assert {"0.8000", "0.9"} <= set(re.findall(r"\d+\.\d+", text_of(page, "facts")))
    assert page.count("<strong>0.8000</strong>") == 2
    assert page.count("<figure") == 1
    golden(text_of(page, "verdict", "facts"))
    golden(text_of(page, "health"))
    golden(label_details(page)[0])


def label_details(page: str) -> list[str]:
    """Return the visible text of the folded elements of the labels."""
    return [each for each in details(page) if re.match(r"[^\n]*nDCG \d", each)]


def test_the_page_starts_with_the_verdict_and_what_to_do(golden: Golden) -> None:
    """Then health, inputs, top changes, charts, labels, segments and appendix."""
    page = full_report(["a", "b"], manifest(serving_parity=Parity(0.0, 10)), windows=4)["report.html"].decode()
    sections = ["Top changes", "Inputs and outputs", "Attributions", "Most changed records", "Timeline", "Segments"]
    assert order(page) == ["verdict", "advice", "health", *sections, "Appendix"]
    assert len(headings(page)) == len(sections) + 2
    (open_summary,) = re.findall(r"<details open>\s*<summary>(.*)</summary>", page)
    assert open_summary.split(", ")[:2] == ["yes", "warning"]
    golden("\n".join(headings(page)))
    golden(text_of(page, "facts"))
    golden("\n".join(map(visible, re.findall("<summary>(.*)</summary>", page))))


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
        r"<td[^>]*>25\.0%</td><td[^>]*>[^<]*\b12\.5%</td><td[^>]*>0\.001</td>",
        "<td[^>]*>undefined</td><td[^>]*></td><td[^>]*></td>",
        r"<td[^>]*>0\.8750</td><td[^>]*>[^<]*\b0\.9375</td><td[^>]*>0\.5</td>",
        r"<td[^>]*>0\.50</td><td[^>]*>1e-99</td>",
    ):
        assert re.search(cells, page), cells
    assert re.findall("<dt>(.*)</dt><dd>(.*)</dd>", elements(page, "causes")[0]) == [
        ("&lt;b&gt;b&lt;/b&gt;", "&#39;&amp;&#39;"),
        ("a, c", "&lt;i&gt;"),
    ]
    golden(label_details(page)[0])


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
    assert verdict_state(page) == "failed"
    assert NO_DATA in text_of(page, "verdict")
    assert re.search(r"\b3\b", text_of(page, "health"))
    assert "<code>python -m runner &lt;b&gt;</code>" in page
    assert "<figure" not in page
    assert elements(page, "doubt") == []
    golden(text_of(page, "verdict", "advice", "health"))


def test_execution_without_verdict_says_where_it_looked(tmp_path: Path, golden: Golden) -> None:
    """Page, PDF and notebook name each input with its setting; the command is above the appendix."""
    searched = (SearchedPlace("captures", "s3://<b>/09 to s3://<b>/10", "0 files"), SearchedPlace("model", "m.ubj", ""))
    sentence = "Job inputs had no data: no captured event. Found in s3://<b>: 0 files. Check paths.capture."
    failure = replace(FAILURE, sentence=sentence, searched=searched, command="python -m <b>", history=history(5))
    folder = write(tmp_path, files(failure))
    page, notebook = ((folder / name).read_text() for name in ("report.html", "report.ipynb"))
    assert headings(page) == ["Earlier windows", "Where it looked", "Run it again", "Appendix"]
    assert page.count("python -m &lt;b&gt;") == 1
    golden(text_of(page, "answers"))
    golden(visible(page).partition("\nWhere it looked\n")[2].partition("\nAppendix\n")[0])
    assert "m.ubj" in pdf_text(folder / "report.pdf")
    assert "m.ubj" in notebook.replace("\\", "")


def test_window_without_traffic_has_a_calm_page(golden: Golden) -> None:
    """Nothing on it is red; it shows what was searched, and what to do if traffic was expected."""
    counts = replace(COUNTS, files=0, events=0, outside=3, probes=2, records=0, rejected={})
    sentence = "no captured event in 2026-01-05 09:00–10:00 UTC."
    empty = replace(FAILURE, status=Status.COMPLETED, headline="No data", sentence=sentence, failure_reason=None)
    page = html(replace(empty, counts=counts))
    assert verdict_state(page) == "few"
    assert 'class="bad"' not in page
    assert "<figure" not in page
    golden(text_of(page, "verdict", "advice", "health"))


def test_too_few_records_are_a_warning(golden: Golden) -> None:
    """The page is not red, and the advice names the setting."""
    changes = {"headline": "Too few records", "sentence": "7.", "serving_parity": None}
    page = html(manifest(**changes), attributions(["a"]), drift_document(attributions(["a"], 1)))
    assert verdict_state(page) == "few"
    assert "drift.min_rows" in text_of(page, "advice")
    golden(text_of(page, "advice"))


def test_failed_health_checks_make_the_verdict_doubtful(golden: Golden) -> None:
    """The failed check is below the verdict and in the advice."""
    doubtful, reliable = (html(manifest(serving_parity=Parity(largest, 10)), LIVE, RANKED) for largest in (0.25, 0.0))
    assert (verdict_state(doubtful), verdict_state(reliable)) == ("doubt", "violation")
    assert (len(elements(doubtful, "doubt")), len(elements(reliable, "doubt"))) == (1, 0)
    assert text_of(doubtful, "advice").endswith(text_of(reliable, "advice"))
    assert len(text_of(doubtful, "advice")) > len(text_of(reliable, "advice"))
    golden(text_of(doubtful, "doubt", "advice"))
    golden(text_of(reliable, "advice"))


def test_a_changed_model_is_the_title() -> None:
    """With the largest difference of the scores, and whether the change was intended as the question to answer."""
    result = replace(drift_result(LIVE, REFERENCE), canary=Canary(50, True, 0.125, 0.2))
    execution = manifest(headline="Model changed", serving_parity=Parity(0.0, 10))
    page = html(execution, LIVE, drift_document(REFERENCE, result))
    (title,) = elements(page, "verdict")
    assert re.search(r"<h1>.*model changed.* 0\.12</h1>", title)
    assert "intended" in text_of(page, "advice")


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
    del document["sample"]
    for key in ("level_alone", "segments", "separability", "canary", "families", "changes"):
        del document["finding"][key]
    for output in document["finding"]["outputs"]:
        del output["scores"]
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
    chart = visible(re.findall("<figcaption>(.*)</figcaption>", page)[0])
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


NAMES = [f"feature {i}" for i in range(12)]


def poppler(*command: str | Path) -> str:
    """Return the output of a program of poppler-utils."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed: install poppler-utils")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def pdf_text(path: Path) -> str:
    """Return the text of a PDF."""
    return poppler("pdftotext", "-layout", path, "-")


def test_the_pdf_contains_the_figures_of_the_page(tmp_path: Path) -> None:
    """All numbers in tables, and the headings in the same order."""
    folder = write(tmp_path, full_report(NAMES))
    page, text = (folder / "report.html").read_text(), pdf_text(folder / "report.pdf")
    assert len(numbers(page)) > 150
    assert {number for number in numbers(page) if number not in text} == set()
    headings = re.findall(r"^<h2>(.*)</h2>$", page, re.MULTILINE)
    positions = [re.search(rf"^\f?{heading}", text, re.MULTILINE).start() for heading in headings]  # type: ignore[union-attr]
    assert positions == sorted(positions)
    assert re.search(r"nDCG 0\.8000\D+0\.9\b", text)


def test_the_pdf_of_a_failure_has_the_reason(tmp_path: Path) -> None:
    """There are no charts."""
    assert NO_DATA in pdf_text(write(tmp_path, files(FAILURE)) / "report.pdf")


def test_the_pdf_of_a_reference_has_no_changes(tmp_path: Path) -> None:
    """There is no second analysis to compare with."""
    folder = write(tmp_path, files(BASELINE, attributions(NAMES)))
    assert re.findall(r"[-+]\d+\.\d%", pdf_text(folder / "report.pdf")) == []


def test_the_pdf_is_accessible_and_embeds_its_fonts(tmp_path: Path) -> None:
    """It claims PDF/UA-1, tables and images are tagged, and no font of this machine is used, also not in charts."""
    folder = write(tmp_path, full_report(NAMES))
    assert b"pdfuaid:part" in (folder / "report.pdf").read_bytes()
    tags = poppler("pdfinfo", "-struct", folder / "report.pdf")
    assert re.findall(r"^ *(H1|Figure|TH)", tags, re.MULTILINE)[0] == "H1"
    assert tags.count("Figure") >= 4
    _, _, *fonts = poppler("pdffonts", folder / "report.pdf").splitlines()
    assert {re.split("[+-]", font)[1] for font in fonts} == {"LibertinusSerif"}


def test_the_pdf_of_many_labels_is_small(tmp_path: Path) -> None:
    """It shows the first three labels and counts the others."""
    labels = tuple(f"label {i}" for i in range(100))
    values_DL = np.random.default_rng(0).random((14, 100))
    live = GlobalAttributions(tuple(f"feature {i}" for i in range(14)), labels, values_DL, np.zeros(100))
    folder = write(tmp_path, files(BASELINE, live))
    page = (folder / "report.html").read_text()
    assert (page.count("<figure"), page.count("<summary>label")) == (6, 100)
    assert len(page) < 1_000_000
    assert (folder / "report.pdf").stat().st_size < 300_000
    assert re.search(r"^\s*97 \w", pdf_text(folder / "report.pdf"), re.MULTILINE)


EFFECTS = Effects(Effect(0.25, 0.02, 0.001), Effect(None, None, None))


def write_execution(folder: Path, hour: int, day: int = 5, month: int = 1, **changes: Any) -> None:
    """Write the manifest and a report of the execution over the hour before `hour`."""
    end = datetime(2026, month, day, hour, tzinfo=UTC)
    time = ExecutionTime("e", Window.parse(f"{end.replace(hour=hour - 1):%FT%TZ}"), end)
    document = manifest(**{"level": Level.WARNING, "effects": EFFECTS, "time": time, **changes})
    write_manifest(folder / f"{end:%Y/%m/%d/%H}", document)


def write_manifest(folder: Path, document: Manifest) -> None:
    """Write a manifest and a report."""
    write(folder, {"manifest.json": dump_manifest(document), "report.html": b"page"})


def rows(folder: Path) -> tuple[ExecutionRow, ...]:
    """Return the rows of the page."""
    return index_page("title", folder, newest_executions(folder, MOST_EXECUTIONS)).rows


def test_the_latest_verdict_is_that_of_a_window_with_data(tmp_path: Path) -> None:
    """A night without traffic does not hide the drift before it; without any verdict, the page says so."""
    folder = tmp_path / "e/m"
    empty: dict[str, Any] = {"status": Status.COMPLETED, "headline": "No data", "comparison": None}
    write_execution(folder, 8, **empty)
    assert "<h1>No captured events in this window</h1>" in REPORT.index(folder).decode()
    write_execution(folder, 9)
    write_execution(folder, 10, **empty)
    page = REPORT.index(folder).decode()
    assert f"<h1>{rows(folder)[1].title}</h1>" in page
    assert [row.headline for row in rows(folder)] == ["No data", "Drift", "No data"]


def test_the_newest_execution_is_first_and_links_to_its_report(tmp_path: Path) -> None:
    """Rows show status, level, title and figures; links are relative and lead to files."""
    folder = tmp_path / "e/m"
    words = Verdict("<i>calm</i>", "", "", "")
    calm: dict[str, Any] = {"headline": "No drift", "status": Status.COMPLETED, "level": Level.NONE}
    write_execution(folder, 9)
    write_execution(folder, 10, **calm, words=words, serving_parity=None)
    page = REPORT.index(folder).decode()
    links = re.findall(r'href="([^"]+)"', page)
    assert [*dict.fromkeys(links)] == ["2026/01/05/10/report.html", "2026/01/05/09/report.html"]
    assert all((folder / link).exists() for link in links)
    assert page.index("No drift") < page.index("CompletedWithViolations")
    for string in ("&lt;i&gt;calm", "0.8000", "25.0%", "In doubt", "<p>e / m</p>"):
        assert string in page, string
    assert page.count('role="img"') == 1


def test_consecutive_windows_with_the_same_change_are_an_episode(tmp_path: Path, golden: Golden) -> None:
    """Their start is that of the first window, in whatever order they were executed; failures do not interrupt them."""
    hashes = {"reference": "ab"}
    calm: dict[str, Any] = {"headline": "No drift", "status": Status.COMPLETED, "level": Level.NONE}
    for hour in (9, 5, 8, 6, 3):
        onset = f"2026-01-05T{hour - 1:02}:{'25' if hour == 5 else '00'}:00Z"
        drifted = {
            "changes": (Change(ChangeKind.INPUT, "age", onset, onset),),
            "words": Verdict("age: missing", *"abc"),
        }
        changes = calm if hour == 3 else drifted
        write_execution(tmp_path, hour, serving_parity=None, hashes=hashes, **changes)
    end = datetime(2026, 1, 5, 7, tzinfo=UTC)
    failed = {**vars(FAILURE), "time": ExecutionTime("e", Window.parse("2026-01-05T06"), end)}
    write_manifest(tmp_path / "2026/01/05/07", Manifest(**failed))
    page = index_page("title", tmp_path, newest_executions(tmp_path, 10))
    assert [(each.mark, each.windows) for each in page.episodes] == [("warning", 4), ("failed", 1), ("none", 1)]
    golden("\n".join(f"{each.title}, {each.period}" for each in page.episodes))
    (since,) = {row.since for row in page.rows if row.mark == "warning"}
    golden(since)


def test_gaps_and_failures_are_in_the_timeline(tmp_path: Path) -> None:
    """Windows that do not follow each other, and a failure without figures."""
    for hour in (9, 10, 13):
        write_execution(tmp_path, hour)
    end = datetime(2026, 1, 5, 14, tzinfo=UTC)
    time = ExecutionTime("e", Window.parse("2026-01-05T13"), end)
    write_manifest(tmp_path / "2026/01/05/14", Manifest(**{**vars(FAILURE), "time": time}))
    page = index_page("title", tmp_path, newest_executions(tmp_path, 10))
    points = [asdict(point) for point in page.points]
    assert [(point["start"][11:13], point["end"][11:13], point["ndcg"], point["status"]) for point in points] == [
        ("08", "09", 0.8, "CompletedWithViolations"),
        ("09", "10", 0.8, "CompletedWithViolations"),
        ("12", "13", 0.8, "CompletedWithViolations"),
        ("13", "14", None, "Failed"),
    ]


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"stage": "monitor"}', '{"window": 7, "sentence": 7}', "", "\xff"],
    ids=["torn", "list", "incomplete", "wrong types", "empty", "not UTF-8"],
)
def test_a_damaged_manifest_has_a_row(tmp_path: Path, golden: Golden, content: str) -> None:
    """The row names the file; other rows are not affected."""
    write_execution(tmp_path, 9)
    write_execution(tmp_path, 10)
    (tmp_path / "2026/01/05/10/manifest.json").write_text(content, "latin-1")
    damaged, intact = rows(tmp_path)
    assert (damaged.directory, damaged.mark, damaged.point) == ("2026/01/05/10", "failed", None)
    assert "manifest.json" in damaged.title
    assert intact.headline == "Drift"
    assert damaged.headline in REPORT.index(tmp_path).decode()
    golden(f"{damaged.headline}. {damaged.title}")


def test_other_folders_are_not_listed(tmp_path: Path, golden: Golden) -> None:
    """Hidden folders, folders with other names, folders without a manifest, and files."""
    write_execution(tmp_path, 9)
    for name in (".2026/01/05/09", "2026/01/05/.10~0011aabb/new", "notes/01/05/09", "2026/1/5/9", "2026/01/05/09/old"):
        write(tmp_path / name, {"manifest.json": b"{}"})
    (tmp_path / "2026/01/05/11").mkdir()
    (tmp_path / "2026/01/06").write_text("a file")
    assert [row.directory for row in rows(tmp_path)] == ["2026/01/05/09"]
    empty = REPORT.index(tmp_path / "none").decode()
    assert "<tr" not in empty
    golden(*re.findall("<h1>(.*)</h1>", empty))


def test_a_thousand_executions_stay_small(tmp_path: Path) -> None:
    """The newest are listed, in less than 1.5 MB."""
    for i in range(MOST_EXECUTIONS + 10):
        write_execution(tmp_path, i % 23 + 1, i // 23 % 28 + 1, i // 644 + 1)
    page = REPORT.index(tmp_path)
    assert page.count(b'<th scope="row">') == MOST_EXECUTIONS
    assert len(page) < 1_500_000


def test_concurrent_writers_leave_one_complete_page(tmp_path: Path) -> None:
    """Each writes a hidden file and renames it; no hidden file remains."""
    pages = [bytes([65 + i]) * 100_000 for i in range(8)]
    target = tmp_path / "e/m/index.html"
    threads = [threading.Thread(target=directory.put, args=(target, page)) for page in pages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() in pages
    assert list(target.parent.iterdir()) == [target]


def test_each_execution_writes_the_page(tmp_path: Path, golden: Golden) -> None:
    """A removed execution disappears with the next one; an invalid template is reported."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=quickstart")
    page = shapwatch.find("index.html")
    folder = page.parent
    assert folder == tmp_path / "monitor/breast-cancer/breast-cancer-monitor"
    links = re.findall('<a href="([^"]+)"', page.read_text())
    assert [*dict.fromkeys(links)] == [f"2026/01/05/{hour}/report.html" for hour in (12, 11, 10)]
    assert directory.remove(folder / "2026/01/05/10", tmp_path / "monitor")
    own = tmp_path / "own"
    own.mkdir()
    shapwatch("stage=monitor", "stage.window=2026-01-05T11")
    assert len(set(re.findall('<a href="([^"]+)"', page.read_text()))) == 2
    (own / "index.html.j2").write_text("{{ titel }}")
    printed = shapwatch("stage=monitor", "stage.window=2026-01-05T11", f"report.templates={own}")
    (line,) = (line for line in printed.splitlines() if f"{own}/index.html.j2:1:" in line)
    assert "'titel'" in line
    golden(line)


def test_each_mark_has_the_color_of_its_level() -> None:
    """Also inside a verdict of another level: each level sets both colors."""
    page = html(EXECUTION, LIVE, RANKED)
    states, shapes = (set(re.findall(rf"\.(\w+) {{[^}}]*--{name}:", page)) for name in ("state", "shape"))
    assert states == shapes >= {"violation", "warning", "info", "doubt", "none", "few", "ok", "failed"}
