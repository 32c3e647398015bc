"""Executions of a monitor built without configuration."""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
import pytest

from runner.domain.drift import Level
from runner.domain.executions import (
    HOUR,
    AlertHistory,
    Execution,
    ExecutionState,
    Publication,
    Status,
    Window,
    utc,
)
from runner.domain.schedules import ExecutionRecord
from runner.drift.sequential import SequentialStopping
from runner.errors import NO_DATA, ClaimLost, os_error_message
from runner.monitors.attributions import NO_STORED_RECORDS
from runner.publish import metrics
from runner.publish.notify import message
from runner.records.fields import Fields
from runner.results import directory
from runner.results.directory import ANALYSIS, MANIFEST, execution_directory
from runner.scheduling.ledger import Ledger
from runner.scheduling.ledger.fence import Fence
from runner.sources.dataset import Dataset
from tests.builders import DATA, MODEL_EXPLAINER, WINDOW, baseline, changed, event, manifest, monitor, write
from tests.cli_runner import CHECKOUT, HANG_SECONDS
from tests.drift.samples import POLICY
from tests.formula_models import Formula, additive, interacting
from tests.golden import Golden
from tests.models.servers import ReceivedRequest, Reply, http, scoring, serving
from tests.scheduling.ledger.ledger_samples import BUSY, NOON, planned


def notes(execution: Execution) -> list[str]:
    """Return the notes in an execution's manifest."""
    found: list[str] = orjson.loads((Path(execution.directory) / "manifest.json").read_bytes())["notes"]
    return found


class Publications(list[Publication]):
    """Publications, in the order in which a monitor published them."""

    def __call__(self, publication: Publication) -> Sequence[str]:
        """Store a publication."""
        self.append(publication)
        return ()


def test_scheduled_time_names_the_directory(tmp_path: Path) -> None:
    """Without a scheduled time, it is the first full hour after the window."""
    stage = monitor(tmp_path, [[7, 2, 1]])
    for scheduled, folder in ((None, "10"), ("2026-01-05T10:15:00Z", "10-15"), ("2026-01-05T10:15:07Z", "10-15-07")):
        execution = stage.run(WINDOW, utc(scheduled) if scheduled else None)
        assert execution.directory == str(tmp_path / "monitor/e/m/2026/01/05" / folder)
        stored = orjson.loads((Path(execution.directory) / "manifest.json").read_bytes())
        assert stored["scheduled"] == (scheduled or "2026-01-05T10:00:00Z")
        assert stored["window"]["text"] == str(WINDOW)


def test_execution_over_another_window_is_not_replaced(tmp_path: Path, golden: Golden) -> None:
    """A second execution with the same scheduled time and another window fails and changes nothing."""
    stage = monitor(tmp_path, [[7, 2, 1]])
    stage.run(WINDOW)
    execution = stage.run(Window.parse("2026-01-05T08"), utc("2026-01-05T10:00:00Z"))
    assert execution.status is Status.FAILED
    assert execution.directory == str(tmp_path / "monitor/e/m/2026/01/05/10")
    golden(execution.message)
    assert manifest(tmp_path)["window"]["text"] == str(WINDOW)


def test_background_is_that_of_the_reference(tmp_path: Path) -> None:
    """With shap.baseline=mean, the background is the reference's mean, not the window's."""
    execution = monitor(tmp_path, [[7, 2, 1], [5, 3, 0]]).run(WINDOW)
    assert execution.status is Status.COMPLETED
    assert manifest(tmp_path)["background"] == {"names": ["a", "b", "c"], "rows": [[3, 1, 1]]}


def test_local_attributions_are_compared_with_stored_records(tmp_path: Path, golden: Golden) -> None:
    """drift.json contains the statistical tests; without stored records a note gives the reason."""
    stage = monitor(tmp_path, [[7, 2, 1]] * 3)
    few = changed(stage, policy=replace(POLICY, min_rows=2))
    found = orjson.loads((Path(few.run(WINDOW).directory) / "drift.json").read_bytes())["finding"]
    assert (found["rows_reference"], found["rows_live"]) == (3, 3)
    assert [feature["name"] for feature in found["labels"][0]["features"]] == ["a", "b", "c"]
    bare = tmp_path / "bare.json"
    bare.write_bytes((tmp_path / "reference/analysis.json").read_bytes())
    execution = changed(stage, reference=bare, background_rows=lambda: [[0, 0, 0]]).run(WINDOW)
    assert NO_STORED_RECORDS in notes(execution)
    golden(NO_STORED_RECORDS)
    assert orjson.loads((Path(execution.directory) / "drift.json").read_bytes())["finding"] is None


def test_messages_link_to_the_report_below_the_address(tmp_path: Path) -> None:
    """Without an address the message contains the path; a failed execution has a report, too."""
    published = Publications()
    stage = monitor(tmp_path, [[7, 2, 1]], publish=published)
    linked = changed(stage, base_url="https://host/reports")
    stage.run(WINDOW)
    linked.run(WINDOW)
    linked.run(Window.parse("2026-01-05T11"))
    assert [each.report for each in published] == [
        str(tmp_path / "monitor/e/m/2026/01/05/10/report.html"),
        "https://host/reports/e/m/2026/01/05/10/report.html",
        "https://host/reports/e/m/2026/01/05/12/report.html",
    ]


def test_window_without_traffic_completes_on_request(tmp_path: Path, golden: Golden) -> None:
    """It has a report, sends no message, and neither ends nor repeats an alert or a failure before it."""
    published = Publications()
    stage = monitor(tmp_path, [], publish=published, skips_empty=True)
    execution = stage.run(WINDOW)
    assert (execution.status, execution.succeeded, execution.failure_reason) == (Status.COMPLETED, True, NO_DATA)
    golden(execution.message)
    stored = manifest(tmp_path)
    assert (stored["status"], stored["headline"], stored["counts"]["events"]) == (Status.COMPLETED, "No data", 0)
    assert stored["history"] == []
    later = orjson.loads((Path(stage.run(Window.parse("2026-01-05T11")).directory) / "manifest.json").read_bytes())
    assert [each["start"] for each in later["history"]] == ["2026-01-05T09:00:00Z"]
    published.pop()
    assert not {"failure_reason", "verdict", "level"} & set(stored)
    report = (Path(execution.directory) / "report.html").read_text()
    assert "No data" in report
    (publication,) = published
    alert, failing = ExecutionState(Status.COMPLETED, Level.VIOLATION), ExecutionState(Status.FAILED)
    for history in (AlertHistory(), AlertHistory(alert), AlertHistory(alert, failing=True)):
        assert message(replace(publication, history=history), Level.INFO) is None
        assert history.preceded_by(publication.state) == history
    assert AlertHistory.from_executions([(publication.state, ()), (failing, ()), (alert, ())]).failing
    assert {metric.name for metric in metrics(publication, 20, 10)} == {
        "execution_status",
        "execution_scheduled_timestamp_seconds",
    }


def test_invalid_captures_fail_also_if_empty_windows_complete(tmp_path: Path) -> None:
    """Lines that are no captures are not the same as no traffic."""
    write(tmp_path, "09/00-00-000-x.jsonl", b"garbage\n")
    execution = monitor(tmp_path, [], skips_empty=True).run(WINDOW)
    assert execution.status is Status.FAILED
    assert manifest(tmp_path)["status"] == Status.FAILED


def test_record_that_the_model_rejects_is_rejected_alone(tmp_path: Path, golden: Golden) -> None:
    """The result is that of the other records; the record is counted, listed and stored with its reason."""
    rows = [[i, 2, 1] for i in range(30)]
    (tmp_path / "usual").mkdir()
    usual = monitor(tmp_path / "usual", rows).run(WINDOW)
    assert "rejected.jsonl" not in {path.name for path in Path(usual.directory).iterdir()}
    execution = monitor(tmp_path, [*rows[:20], [7, None, 1], *rows[20:]]).run(WINDOW)
    assert execution.status is usual.status
    for name in (ANALYSIS, "drift.json"):
        assert (Path(execution.directory) / name).read_bytes() == (Path(usual.directory) / name).read_bytes()
    counts = manifest(tmp_path)["counts"]
    assert (counts["records"], counts["rejected"], counts["events"]) == (30, {"model_input": 1}, 1)
    stored = orjson.loads((Path(execution.directory) / "rejected.jsonl").read_bytes())
    assert (stored["line"], stored["kind"], stored["text"]) == (1, "model_input", "[7,null,1]")
    golden(stored["problem"])
    assert len([note for note in notes(execution) if "model_input" in note]) == 1


@pytest.mark.parametrize("share", [0.05, 0.9])
def test_rejections_by_the_model_count_for_the_limit(tmp_path: Path, share: float, golden: Golden) -> None:
    """Invalid lines and rejected records together are at most the limit; a failure counts and stores both."""
    for i in range(100):
        row = [7, None, 1] if i < 4 else [7, 2, 1]
        write(tmp_path, f"09/{i:02}-00-000-x.jsonl", b"garbage\n" if i in {50, 51} else event(row))
    execution = monitor(tmp_path, [], share=share).run(WINDOW)
    assert execution.succeeded is (share == 0.9)
    assert manifest(tmp_path)["counts"]["rejected"] == {"model_input": 4, "not_json": 2}
    assert len((Path(execution.directory) / "rejected.jsonl").read_bytes().splitlines()) == 6
    golden(execution.message.splitlines()[0], (str(tmp_path), "{folder}"))


def test_model_that_rejects_everything_fails_with_its_error(tmp_path: Path, golden: Golden) -> None:
    """The message is that of the model, after few calls."""
    model = Formula(additive)
    execution = monitor(tmp_path, [[7, None, 1]] * 5_000, model=model).run(WINDOW)
    assert execution.status is Status.FAILED
    assert len(model.batches) < 50
    golden(execution.message.splitlines()[0])


@pytest.mark.parametrize("status", [400, 503])
def test_record_that_an_endpoint_rejects_is_rejected_alone(tmp_path: Path, status: int) -> None:
    """A 400 for one record is a rejection; a 503 for one record is a failure of the execution."""
    answer = scoring(Formula(additive), ["a", "b", "c"], Fields("features", None))

    def respond(seen: ReceivedRequest) -> Reply:
        return Reply(status, "unknown category") if b"[77," in seen.body else answer(seen)

    with serving(respond) as server:
        rows = [[i, 2, 1] for i in range(30)]
        stage = monitor(tmp_path, [*rows, [77, 2, 1]], model=http(server.url, attempts=2, concurrency=1))
        execution = stage.run(WINDOW)
    rejected = manifest(tmp_path)["counts"]["rejected"]
    assert (execution.succeeded, rejected) == ((True, {"model_input": 1}) if status == 400 else (False, {}))
    assert "503" in execution.message or max(seen.body.count(b"\n") for seen in server.seen) > 50


def test_window_without_traffic_replaces_no_verdict(tmp_path: Path) -> None:
    """It replaces a failure, and a verdict replaces it, as does a failure."""
    skipping = monitor(tmp_path, [], skips_empty=True)
    failing = replace(skipping, skips_empty=False)
    headlines = []
    for each, captures in [(failing, []), (skipping, []), (failing, []), (skipping, []), (skipping, [[7, 2, 1]])]:
        if captures:
            write(tmp_path, "09/00-00-000-x.jsonl", event(*captures))
        assert each.run(WINDOW).status is (Status.FAILED if each is failing else Status.COMPLETED)
        headlines.append(manifest(tmp_path)["headline"])
    assert headlines[:4] == ["Failed", "No data", "Failed", "No data"]
    shutil.rmtree(tmp_path / "captures")
    published = Publications()
    execution = changed(skipping, publish=published).run(WINDOW)
    assert (execution.status, published) == (Status.COMPLETED, [])
    assert manifest(tmp_path)["headline"] == headlines[4]
    assert manifest(tmp_path)["counts"]["records"] == 1


def test_windows_without_traffic_count_for_no_alert(tmp_path: Path) -> None:
    """With two of two windows, an alert needs the two last windows with a verdict."""
    rule = replace(POLICY, false_alarms_per_year=1e5, datapoints_to_alert=2, evaluation_period=2, min_rows=2)
    stage = changed(monitor(tmp_path, [], skips_empty=True), policy=rule)
    executed = []
    for hour in (9, 10, 11):
        if hour != 10:
            write(tmp_path, f"{hour:02}/00-00-000-x.jsonl", event(*[[90, 2, 1]] * 8, clock=f"{hour:02}:30:00"))
        start = utc(f"2026-01-05T{hour:02}:00Z")
        executed.append(stage.run(Window(start, start + HOUR)))
    assert found(executed[0])["level"] == "none"
    assert (executed[1].failure_reason, found(executed[2])["level"]) == (NO_DATA, "violation")


def found(execution: Execution) -> dict[str, Any]:
    """Return the statistical tests in drift.json."""
    finding: dict[str, Any] = orjson.loads((Path(execution.directory) / "drift.json").read_bytes())["finding"]
    return finding


def test_canary_records_detect_a_changed_model(tmp_path: Path, golden: Golden) -> None:
    """Attributions of canary records change with the model, not with the inputs of the window."""
    stage = changed(monitor(tmp_path, [[70, 2, 1]] * 3), policy=replace(POLICY, min_rows=2))
    same = found(stage.run(WINDOW))["canary"]
    assert (same["records"], same["changed"], same["difference"], same["attribution_shift"]) == (3, False, 0, 0)
    other_model = changed(stage, model=Formula(interacting)).run(WINDOW)
    other = found(other_model)["canary"]
    assert other["changed"]
    assert other["attribution_shift"] > 0
    golden("\n".join(notes(other_model)))
    without = changed(stage, policy=replace(POLICY, min_rows=2, canary_rows=0)).run(WINDOW)
    assert found(without)["canary"] is None


def test_unit_event_compares_one_record_per_event(tmp_path: Path) -> None:
    """The tests use one random record of each event."""
    stage = changed(monitor(tmp_path, [[7, 2, 1]] * 5), policy=replace(POLICY, min_rows=2))
    write(tmp_path, "09/01-00-000-y.jsonl", event([5, 3, 0], [5, 3, 1]))
    assert found(stage.run(WINDOW))["rows_live"] == 7
    assert found(changed(stage, policy=replace(POLICY, min_rows=2, unit="event")).run(WINDOW))["rows_live"] == 2
    assert manifest(tmp_path)["counts"]["records"] == 7


def test_alert_needs_enough_windows(tmp_path: Path, golden: Golden) -> None:
    """With two of three windows, the first raises no alert, the second does, and a quiet third keeps it."""
    usual = monitor(tmp_path, [])
    rule = replace(
        POLICY,
        false_alarms_per_year=1e5,
        datapoints_to_alert=2,
        evaluation_period=3,
        min_rows=2,
    )
    stage = changed(usual, policy=rule)
    rows = {9: [90, 2, 1], 10: [90, 2, 1], 11: [6, 2, 1]}
    executed = []
    for hour, row in rows.items():
        sent = event(*[row] * 8, clock=f"{hour:02}:30:00")
        write(tmp_path, f"{hour:02}/00-00-000-x.jsonl", sent)
        start = utc(f"2026-01-05T{hour:02}:00Z")
        executed.append(stage.run(Window(start, start + HOUR)))
    levels = [(found(each)["level"], found(each)["level_alone"]) for each in executed]
    assert levels[0] == ("none", "violation")
    assert levels[1] == ("violation", "violation")
    assert levels[2][0] == "violation"
    assert levels[2][1] in {"none", "info"}
    assert [len(notes(each)) for each in executed] == [1, 0, 1]
    golden("\n".join(note for each in executed for note in notes(each)))
    history = orjson.loads((Path(executed[2].directory) / "drift.json").read_bytes())["history"]
    assert [point["level_alone"] for point in history] == ["violation", "violation"]


def test_drift_is_dated_to_its_first_record(tmp_path: Path) -> None:
    """A window that is executed later, before the others, is dated in the same way when it is executed again."""
    dataset = tmp_path / "many.jsonl"
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 9, (400, 3)).tolist()
    dataset.write_bytes(b"".join(orjson.dumps({"features": row}) + b"\n" for row in rows))
    stage = monitor(tmp_path, [])
    baseline(tmp_path, MODEL_EXPLAINER.model, dataset=Dataset(str(dataset), DATA, "data.dataset")).run()
    for hour in range(9, 12):
        for minute in range(60):
            scale = 100 if hour > 9 or minute >= 37 else 1
            sent = event(*(rng.integers(0, 9, (4, 3)) * [1, scale, 1]).tolist(), clock=f"{hour:02}:{minute:02}:00")
            write(tmp_path, f"{hour:02}/{minute:02}-00-000-x.jsonl", sent)
    windows = [Window(utc(f"2026-01-05T{hour:02}:00Z"), utc(f"2026-01-05T{hour + 1:02}:00Z")) for hour in (9, 10, 11)]
    first = {each["name"]: each for each in found(stage.run(windows[2]))["changes"] if each["kind"] == "input"}
    assert first["b"]["since"] == first["b"]["onset"] == "2026-01-05T11:00:00Z"
    for window in windows[:2]:
        stage.run(window)
    last = stage.run(windows[2])
    change = found(last)["changes"][0]
    assert (change["kind"], change["name"]) == ("input", "b")
    assert "2026-01-05T09:36" <= change["since"] <= "2026-01-05T09:38"
    assert change["onset"] == "2026-01-05T11:00:00Z"
    stored = orjson.loads((Path(last.directory) / "manifest.json").read_bytes())
    assert stored["changes"][0] == change
    assert f"{utc(change['since']):%H:%M} UTC" in stored["sentence"]


def test_path_of_the_reference_may_contain_date_codes(tmp_path: Path, golden: Golden) -> None:
    """Date codes are replaced by the start of the window."""
    stage = monitor(tmp_path, [[7, 2, 1]] * 3, reference=tmp_path / "reference-%a-%H")
    shutil.move(tmp_path / "reference", tmp_path / "reference-Mon-09")
    assert stage.run(WINDOW).status is Status.COMPLETED
    later = stage.run(Window(WINDOW.end, WINDOW.end + HOUR))
    assert later.status is Status.FAILED
    assert f"{tmp_path}/reference-Mon-10/" in str(later.failure_reason)
    golden(later.message)


def test_wrong_segment_by_fails_the_execution(tmp_path: Path, golden: Golden) -> None:
    """The failure reason quotes the setting and the expected value."""
    stage = changed(monitor(tmp_path, [[7, 2, 1]] * 3), policy=replace(POLICY, segment_by="Sex"))
    execution = stage.run(WINDOW)
    assert execution.status is Status.FAILED
    assert "drift.segment_by=Sex" in str(execution.failure_reason)
    golden(execution.message)


def test_stored_records_of_another_baselining_are_refused(tmp_path: Path, golden: Golden) -> None:
    """This happens if analysis.json was copied without its reference.parquet."""
    stage = monitor(tmp_path, [[7, 2, 1]])
    (tmp_path / "reference/reference.parquet").write_bytes(b"PAR1")
    execution = stage.run(WINDOW)
    assert execution.status is Status.FAILED
    assert "reference.parquet" in str(execution.failure_reason)
    golden(execution.message)


def test_changed_ranking_is_a_violation(tmp_path: Path) -> None:
    """The status is CompletedWithViolations, and constraint_violations.json exists."""
    execution = monitor(tmp_path, [[3, 1, 9], [3, 1, 8]], policy=replace(POLICY, violations="ranking")).run(WINDOW)
    assert execution.status is Status.COMPLETED_WITH_VIOLATIONS
    violations = orjson.loads((Path(execution.directory) / "constraint_violations.json").read_bytes())
    assert [violation["label"] for violation in violations["violations"]] == ["label0"]


def test_ranking_of_few_records_is_not_judged(tmp_path: Path, golden: Golden) -> None:
    """With `both`, the default, the nDCG is below its threshold, but no violation; the manifest says so."""
    execution = monitor(tmp_path, [[3, 1, 9], [3, 1, 8]]).run(WINDOW)
    assert execution.status is Status.COMPLETED
    assert not (Path(execution.directory) / "constraint_violations.json").exists()
    (label,) = manifest(tmp_path)["verdict"]["labels"]
    assert label["ndcg"] < 0.9
    assert not label["judged"]
    assert not label["violated"]
    golden(execution.message)


@pytest.mark.parametrize(
    ("scores", "parity"),
    [(None, None), ([14.0, 11.0], (0.0, 2, 0)), ([14.0, 11.5], (0.5, 2, 1))],
)
def test_serving_parity_compares_captured_scores(
    tmp_path: Path, scores: list[float] | None, parity: tuple[float, int, int] | None
) -> None:
    """Captured scores are compared with those of the model, if there are any."""
    execution = monitor(tmp_path, [[7, 2, 1], [5, 3, 0]], scores).run(WINDOW)
    found = manifest(tmp_path)["serving_parity"]
    assert (found and (found["largest"], found["records"], found["differing"])) == parity
    pairs = orjson.loads((Path(execution.directory) / "drift.json").read_bytes()).get("scores")
    assert (pairs and pairs["captured"]) == (scores if parity and parity[2] else None)


def test_without_ground_truth_there_is_no_performance(tmp_path: Path, golden: Golden) -> None:
    """Neither manifest nor report mention the performance of the model."""
    execution = monitor(tmp_path, [[7, 2, 1]]).run(WINDOW)
    assert manifest(tmp_path)["quality"] is None
    report = (Path(execution.directory) / "report.html").read_text()
    golden("\n".join(re.findall(r'<div class="name">(.*?)</div>', report)))


def test_changed_model_is_in_the_manifest(tmp_path: Path) -> None:
    """The hash of the model is compared with that of the reference."""
    monitor(tmp_path, [[7, 2, 1]], model=Formula(additive, identity="another")).run(WINDOW)
    assert manifest(tmp_path)["model_changed"] is True


def test_execution_can_be_a_reference(tmp_path: Path) -> None:
    """The result of an earlier hour is a reference like that of a baselining."""
    first = monitor(tmp_path, [[7, 2, 1], [5, 3, 0]]).run(WINDOW)
    again = monitor(tmp_path, [[7, 2, 1], [5, 3, 0]], reference=Path(first.directory)).run(WINDOW)
    assert again.succeeded
    assert manifest(tmp_path)["verdict"]["labels"][0]["ndcg"] == 1


def test_broken_link_is_ignored(tmp_path: Path) -> None:
    """A dangling symbolic link among the captures does not stop an execution."""
    stage = monitor(tmp_path, [[7, 2, 1]])
    (tmp_path / "captures/2026/01/05/09/01-00-000-y.jsonl").symlink_to("nowhere.jsonl")
    execution = stage.run(WINDOW)
    assert execution.status is Status.COMPLETED


def test_strings_instead_of_numbers_fail_the_execution(tmp_path: Path, golden: Golden) -> None:
    """The feature is numeric in the reference and a string in all records."""
    execution = monitor(tmp_path, [["x", 2, 1], ["y", 3, 0]]).run(WINDOW)
    assert execution.status is Status.FAILED
    assert manifest(tmp_path)["failure_reason"] == execution.failure_reason
    golden(execution.failure_reason)


FULL = """
import json, pathlib, resource, sys
from tests.builders import WINDOW, monitor

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def contents(target):
    return {path.name: path.read_bytes() for path in target.glob("*")}

for number, (before, size) in enumerate([("nothing", 0), ("nothing", 3000), ("Failed", 0), ("Completed", 3000)]):
    root = pathlib.Path(sys.argv[1]) / str(number)
    root.mkdir()
    stage, target = monitor(root, [[7, 2, 1]] * 8), root / "monitor/e/m/2026/01/05/10"
    if before == "Failed":
        (root / "reference").rename(root / "elsewhere")
    if before != "nothing":
        stage.run(WINDOW)
    if before == "Failed":
        (root / "elsewhere").rename(root / "reference")
    held = contents(target)
    status = json.loads(held["manifest.json"])["status"] if held else "nothing"
    limit(size)
    execution = stage.run(WINDOW)
    limit(resource.RLIM_INFINITY)
    unchanged = held == contents(target) and not list(root.rglob(".*"))
    repeated = stage.run(WINDOW).status
    ended = [execution.status, execution.failure_reason, execution.directory == str(target)]
    print(json.dumps([status, unchanged, *ended, repeated]))
"""


@pytest.mark.soak
def test_full_disk_fails_the_execution(tmp_path: Path) -> None:
    """If neither result nor failure can be written, the existing files stay unchanged."""
    command = [sys.executable, "-W", "error", "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=CHECKOUT, timeout=HANG_SECONDS)
    assert not done.stderr, done.stderr.decode()
    reason = os_error_message(OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
    assert [orjson.loads(line) for line in done.stdout.splitlines()] == [
        ["nothing", True, "Failed", reason, False, "Completed"],
        ["nothing", True, "Failed", reason, False, "Completed"],
        ["Failed", True, "Failed", reason, False, "Completed"],
        ["Completed", True, "Failed", reason, True, "Completed"],
    ]


def test_failure_contains_all_rejections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the result cannot be written but the failure can, it contains every rejected line."""
    stage = monitor(tmp_path, [[7, 2, 1]] * 8, share=0.5)
    write(tmp_path, "09/z.jsonl", b"torn\n")
    commit = directory.commit

    def once(target: Path, files: Mapping[str, bytes | IO[bytes]], _check: None) -> None:
        monkeypatch.undo()
        with pytest.raises(IsADirectoryError):
            commit(target, {**files, ".": b""})
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(directory, "commit", once)
    execution = stage.run(WINDOW)
    assert execution.failure_reason == manifest(tmp_path)["failure_reason"]
    assert execution.failure_reason == os_error_message(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert len(rejected_lines(execution)) == 1


def test_foreign_file_fails_the_execution(tmp_path: Path, golden: Golden) -> None:
    """A directory with other files is not replaced; the failure reason names one."""
    (tmp_path / "monitor/e/m/2026/01/05/10/notes").mkdir(parents=True)
    execution = monitor(tmp_path, [[7, 2, 1]]).run(WINDOW)
    assert (execution.status, execution.directory) == (Status.FAILED, "")
    golden(execution.message)
    assert [path.name for path in (tmp_path / "monitor").rglob("*")][-1] == "notes"


BAD: list[tuple[str, bytes]] = [
    ("not_json", b'{"captureData":{"endpointInp'),
    ("not_json", b"\xff\xfe"),
    ("not_a_capture", b"[1,2,3]"),
    ("not_a_capture", b"42"),
    ("no_input", event([1, 2, 3]).replace(b"endpointInput", b"endpointOther")),
    ("row_count", event([1, 2, 3], [4, 5, 6], scores=[0.5])),
    ("not_finite", event(body='{"features":[1,2,NaN]}')),
    ("not_finite", event([1, 2, 3], scores=[float("inf")]).replace(b":inf", b":Infinity")),
    ("features_not_found", event(body='{"other":1}')),
    ("payload", event(body='{"features":[1,2')),
    ("feature_count", event([1, 2])),
    ("feature_type", event([1, "x", 3])),
    ("feature_type", event([1, [], 3])),
    ("score_not_found", event([1, 2, 3], scores=[0.5]).replace(b"score", b"other")),
]
"""Lines that cannot be used, with the reason."""


def rejected_lines(execution: Execution) -> list[dict[str, Any]]:
    """Return the content of rejected.jsonl."""
    return [orjson.loads(line) for line in (Path(execution.directory) / "rejected.jsonl").read_bytes().splitlines()]


def test_each_line_is_a_record_or_a_rejection(tmp_path: Path, golden: Golden) -> None:
    """Records and rejections add up to the counts in the manifest."""
    stage = monitor(tmp_path, [], share=0.9)
    good = event([7, 2, 1], scores=[14.0])
    lines = [line.rstrip(b"\n") for _, line in BAD]
    write(tmp_path, "09/a.jsonl", b"\xef\xbb\xbf" + good + b"\n \n" + good.replace(b"\n", b"\r\n") + b"\n".join(lines))
    write(tmp_path, "09/b.jsonl.gz", gzip.compress(good + b"torn\n"))
    write(
        tmp_path, "08/late.jsonl", b"torn\n" + event([5, 3, 0], clock="09:00:00") + event([1, 1, 1], clock="08:59:59")
    )
    write(tmp_path, "10/early.jsonl", event([5, 3, 1], clock="09:59:59") + event([1, 1, 1], clock="10:00:00") + b"{}\n")
    execution = stage.run(WINDOW)
    assert execution.succeeded, execution.message
    found = rejected_lines(execution)
    expected = [("2026/01/05/09/a.jsonl", 5 + i, kind) for i, (kind, _) in enumerate(BAD)]
    places = sorted((each["file"], each["line"], each["kind"]) for each in found)
    assert places == [*expected, ("2026/01/05/09/b.jsonl.gz", 2, "not_json")]
    for each in found:
        assert set(each) == {"file", "line", "kind", "problem", "text"}
        assert each["problem"]
        assert each["text"]
    counts = manifest(tmp_path)["counts"]
    assert (counts["files"], counts["events"], counts["outside"], counts["records"]) == (4, 20, 4, 5)
    assert counts["records"] + sum(counts["rejected"].values()) == counts["events"]
    assert sum(counts["rejected"].values()) == len(found) == len(BAD) + 1
    assert counts["rejected"]["feature_type"] == 2
    golden("\n".join(notes(execution)))


def test_too_many_rejections_fail_the_execution(tmp_path: Path, golden: Golden) -> None:
    """The failure names the most frequent reasons, and rejected.jsonl exists."""
    stage = monitor(tmp_path, [[7, 2, 1]] * 8, share=0.2)
    write(tmp_path, "09/z.jsonl", b"torn\n" * 2)
    assert stage.run(WINDOW).status is Status.COMPLETED
    write(tmp_path, "09/z.jsonl", b"torn\n" * 2 + b"{}\n")
    (tmp_path / "monitor/e/m/2026/01/05/10").rename(tmp_path / "aside")
    execution = stage.run(WINDOW)
    assert execution.status is Status.FAILED
    assert len(rejected_lines(execution)) == 3
    found = manifest(tmp_path)
    assert found["counts"] == {
        "files": 2,
        "events": 4,
        "outside": 0,
        "probes": 0,
        "records": 8,
        "sample": None,
        "random": None,
        "rejected": {"not_json": 2, "not_a_capture": 1},
    }
    golden(found["failure_reason"])


def test_window_without_valid_record_fails(tmp_path: Path, golden: Golden) -> None:
    """rejected.jsonl contains all lines, whatever the limit."""
    stage = monitor(tmp_path, [], share=1.0)
    write(tmp_path, "09/a.jsonl", b"torn\n" * 3)
    execution = stage.run(WINDOW)
    assert execution.status is Status.FAILED
    assert manifest(tmp_path)["counts"]["rejected"] == {"not_json": 3}
    captures, reference, model = manifest(tmp_path)["searched"]
    assert captures["place"].endswith("captures/2026/01/05/09")
    assert captures["found"].startswith("1 file, 3 events")
    assert (reference["place"], reference["found"]) == (str(tmp_path / "reference"), "present")
    assert model["name"] == "model"
    golden(manifest(tmp_path)["failure_reason"])
    assert len(rejected_lines(execution)) == 3


def test_without_rejections_there_is_no_rejected_file(tmp_path: Path) -> None:
    """A second execution removes the file of the first one."""
    stage = monitor(tmp_path, [[7, 2, 1]] * 30)
    write(tmp_path, "09/z.jsonl", b"torn\n")
    assert rejected_lines(stage.run(WINDOW))
    write(tmp_path, "09/z.jsonl", b"")
    execution = stage.run(WINDOW)
    assert execution.succeeded
    assert not (Path(execution.directory) / "rejected.jsonl").exists()


def test_order_of_files_and_events_changes_no_byte(tmp_path: Path) -> None:
    """The same events in other files, orders and hours give the same analysis.json."""
    stage = monitor(tmp_path, [])
    rows = [[i % 7, i / 3, -i] for i in range(40)]
    lines = [event(row, [i, 0.1, 2], scores=[0.5, i]) for i, row in enumerate(rows)]
    layouts = [
        {"09/a.jsonl": lines},
        {"09/a.jsonl": lines[::-1]},
        {"09/z.jsonl": lines[:7], "09/b.jsonl": lines[7:30], "08/q.jsonl": lines[30:39], "10/c.jsonl": lines[39:]},
        {f"09/{(i * 17) % 40:02}.jsonl": [line] for i, line in enumerate(lines)},
    ]
    analyses = set()
    for layout in layouts:
        for old in (tmp_path / "captures").rglob("*.jsonl"):
            old.unlink()
        for name, part in layout.items():
            write(tmp_path, name, b"".join(part))
        execution = stage.run(WINDOW)
        assert execution.succeeded
        assert manifest(tmp_path)["counts"]["records"] == 80
        analyses.add((Path(execution.directory) / "analysis.json").read_bytes())
    assert len(analyses) == 1


def test_precision_explains_a_sample(tmp_path: Path, golden: Golden) -> None:
    """A thousand similar records are enough; the manifest has both numbers."""
    rows = [[i % 7, 2 + i % 3, i % 5] for i in range(2_500)]
    stage = monitor(tmp_path, rows, stopping=SequentialStopping(0.9, POLICY))
    assert stage.run(WINDOW).succeeded
    found = manifest(tmp_path)
    assert found["counts"]["records"] == 2_500
    assert found["counts"]["sample"] == 1_000
    (note,) = (note for note in found["notes"] if "Explained" in note)
    golden(note)


def far_window() -> list[list[int]]:
    """Return records; three of them are far outside the reference's range."""
    rows = [[i % 7, 2 + i % 3, i % 2] for i in range(2_500)]
    rows[500][0], rows[1200][0], rows[2400][0] = 400, -900, 700
    return rows


@pytest.mark.parametrize("settings", [{"stopping": SequentialStopping(0.9, POLICY)}, {"max_records": 1_000}])
def test_far_records_are_explained_in_any_sample(tmp_path: Path, settings: dict[str, Any], golden: Golden) -> None:
    """Global attributions are stratified estimates; the files of local attributions contain the far records."""
    stage = monitor(tmp_path, far_window(), save_local_shap_values=True, **settings)
    execution = stage.run(WINDOW)
    assert execution.succeeded
    found = manifest(tmp_path)
    sample, random = found["counts"]["sample"], found["counts"]["random"]
    assert found["counts"]["records"] == 2_500
    assert 1_000 <= sample <= 1_003
    assert sample - 3 <= random < sample
    golden("\n".join(note for note in found["notes"] if "xplained" in note))
    whole = changed(stage, stopping=SequentialStopping(None, POLICY), max_records=None, root=tmp_path / "whole")
    other = whole.run(WINDOW)
    values = []
    for result in (execution, other):
        content = orjson.loads((Path(result.directory) / "analysis.json").read_bytes())
        (label,) = content["explanations"]["kernel_shap"].values()
        values.append(list(label["global_shap_values"].values()))
    assert values[0] == pytest.approx(values[1], rel=0.1)
    lines = (Path(execution.directory) / "explanations_shap/out.csv").read_text().splitlines()
    assert len(lines) == sample + 1


def test_precision_explains_all_records_if_the_verdict_is_uncertain(tmp_path: Path, golden: Golden) -> None:
    """Two features have equal attributions, so their order is random."""
    rng = np.random.default_rng(1)
    rows = np.stack([3 + 3 * rng.integers(-2, 3, 1_500), np.full(1_500, 2), 1 + rng.integers(-2, 3, 1_500)], axis=1)
    close = replace(POLICY, threshold=0.92)
    stage = monitor(tmp_path, rows.tolist(), policy=close, stopping=SequentialStopping(0.999, close))
    assert stage.run(WINDOW).succeeded
    found = manifest(tmp_path)
    assert found["counts"]["sample"] == 1_500
    (note,) = (note for note in found["notes"] if "Explained" in note)
    golden(note)


@pytest.fixture
def fence(tmp_path: Path) -> Iterator[Fence]:
    """The fence of a claimed execution."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", BUSY) as ledger:
        (execution,) = planned(ledger, 1)
        claim = ledger.executions.claim(execution.id, "a", NOON)
        assert claim
        yield Fence(ledger, claim)


@pytest.mark.parametrize("rows", [[[7, 2, 1]], []])
def test_result_is_in_the_ledger_before_it_is_published(tmp_path: Path, rows: list[list[int]], fence: Fence) -> None:
    """This applies to failures as well."""
    recorded = list[Status]()

    def publish(_: Publication) -> list[str]:
        recorded.append(fence.ledger.executions.get(fence.claim.execution_id).status)
        return ["not published to x"]

    execution = monitor(tmp_path, rows, publish=publish, fence=fence).run(WINDOW)
    assert recorded == [execution.status]
    assert execution.message.endswith("not published to x")
    assert execution.status == (Status.COMPLETED if rows else Status.FAILED)


@pytest.mark.parametrize("rows", [[[7, 2, 1]], []])
def test_overtaken_execution_writes_and_publishes_nothing(tmp_path: Path, rows: list[list[int]], fence: Fence) -> None:
    """Another process has claimed the execution meanwhile."""
    published = list[Publication]()
    assert fence.ledger.executions.release(fence.claim, NOON, lost=True)

    def publish(publication: Publication) -> list[str]:
        published.append(publication)
        return []

    with pytest.raises(ClaimLost):
        monitor(tmp_path, rows, publish=publish, fence=fence).run(WINDOW)
    assert (published, list((tmp_path / "monitor").rglob("*.*"))) == ([], [])


def recorded(fence: Fence) -> ExecutionRecord:
    """Return the recorded execution, over the window of the tests."""
    return replace(fence.recorded(), window=WINDOW, scheduled=WINDOW.scheduled)


@pytest.mark.parametrize("damage", [None, ANALYSIS, MANIFEST])
def test_verdict_is_published_again_from_its_documents(tmp_path: Path, fence: Fence, damage: str | None) -> None:
    """Sinks receive the same metrics; if the documents are damaged, the message says so."""
    published = list[Publication]()

    def publish(publication: Publication) -> list[str]:
        published.append(publication)
        return []

    execution = monitor(tmp_path, [[7, 2, 1]] * 3, publish=publish, fence=fence).run(WINDOW)
    if damage:
        (Path(execution.directory) / damage).write_text("{")
    again = monitor(tmp_path, [], publish=publish, fence=replace(fence, is_recorded=True))
    result = again.publish_recorded(recorded(fence))
    assert (result.status, result.directory) == (execution.status, execution.directory)
    if damage:
        assert result.message.startswith(f"{execution.message}\n  not published: ")
        return
    assert result.message == execution.message
    first, second = published
    assert list(metrics(first, 20, 10)) == list(metrics(second, 20, 10))
    assert replace(first, attributions=None) == replace(second, attributions=None)


@pytest.mark.parametrize("later", [False, True])
def test_window_without_traffic_is_published_again(tmp_path: Path, fence: Fence, later: bool) -> None:
    """Unless its directory contains another result by now."""
    published = Publications()
    stage = monitor(tmp_path, [], publish=published, fence=fence, skips_empty=True)
    execution = stage.run(WINDOW)
    if later:
        write(tmp_path, "09/00-00-000-x.jsonl", event([7, 2, 1]))
        replace(stage, fence=None, publish=lambda _: ()).run(WINDOW)
    result = replace(stage, fence=replace(fence, is_recorded=True)).publish_recorded(recorded(fence))
    assert (result.status, result.directory) == (Status.COMPLETED, execution.directory)
    assert published == published[:1] * (1 if later else 2)
    assert ("not published" in result.message) == later


@pytest.mark.parametrize("earlier", [[], [[7, 2, 1]]])
@pytest.mark.parametrize("result", [Execution.failed("ended by SIGKILL"), Execution.stopped("ended by SIGKILL")])
def test_failure_of_a_process_is_published_only_under_its_claim(
    result: Execution, earlier: list[list[int]], tmp_path: Path, fence: Fence
) -> None:
    """It failed, or was stopped after its maximum duration; sinks receive a failure in both cases.

    An earlier failure does not suppress the message, and problems of sinks are returned. The failure is written, so
    that the next execution can report that the monitor works again. An earlier result is unchanged.
    """
    published = list[Publication]()

    def publish(publication: Publication) -> list[str]:
        published.append(publication)
        return ["not published to x"]

    for rows, window in (([], Window.parse("2026-01-05T08")), (earlier, WINDOW)):
        monitor(tmp_path, rows, publish=lambda _: []).run(window)
    before = manifest(tmp_path)
    failing = monitor(tmp_path, [[7, 2, 1]], publish=publish, fence=replace(fence, is_recorded=True))
    with pytest.raises(ClaimLost):
        failing.publish_recorded(recorded(fence))
    assert fence.ledger.executions.record_once(fence.claim, result, NOON)
    assert not fence.ledger.executions.record_once(fence.claim, Execution.failed("again"), NOON)
    execution = failing.publish_recorded(recorded(fence))
    assert (execution.status, execution.message.splitlines()[1:]) == (result.status, ["  not published to x"])
    (publication,) = published
    target = execution_directory(tmp_path / "monitor", publication.endpoint, publication.monitor, WINDOW.scheduled)
    assert (publication.status, publication.sentence, publication.died) == (Status.FAILED, "ended by SIGKILL", True)
    assert (publication.directory, execution.directory) == ((None, "") if earlier else (target, str(target)))
    written = manifest(tmp_path)
    assert written == before if earlier else (written["failure_reason"], written["died"]) == ("ended by SIGKILL", True)
    published.clear()
    monitor(tmp_path, [], publish=publish).run(Window(WINDOW.end, WINDOW.end + HOUR))
    assert published[0].history.died is not bool(earlier)


@pytest.mark.parametrize("rows", [[[7, 2, 1]], []])
@pytest.mark.parametrize("death", [Execution.failed("ended by SIGKILL"), Execution.stopped("too long")])
def test_result_of_a_process_that_died_after_it_wrote_it_is_recorded(
    death: Execution, rows: list[list[int]], tmp_path: Path, fence: Fence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died before it recorded the result in the ledger; the result is published like any other."""
    published = list[Publication]()

    def publish(publication: Publication) -> list[str]:
        published.append(publication)
        return []

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    dying = monitor(tmp_path, rows, publish=publish, fence=fence)
    with monkeypatch.context() as patch:
        patch.setattr(Fence, "record", die)
        with pytest.raises(KeyboardInterrupt):
            dying.run(WINDOW)
    before = manifest(tmp_path)
    assert fence.ledger.executions.record_once(fence.claim, death, NOON)
    again = monitor(tmp_path, rows, publish=publish, fence=replace(fence, is_recorded=True))
    execution = again.publish_recorded(recorded(fence))
    entry = fence.ledger.executions.get(fence.claim.execution_id)
    assert execution.status == entry.status == before["status"]
    assert (entry.output, entry.failure_reason) == (execution.directory, before.get("failure_reason"))
    assert [(each.status, each.died) for each in published] == [(execution.status, False)]
    assert manifest(tmp_path) == before
