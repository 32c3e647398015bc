"""An execution, built by hand without any configuration."""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
import pytest

from runner.domain.executions import HOUR, Execution, Status, Window, utc
from runner.drift.sequential import SequentialStopping
from runner.errors import os_error_message
from runner.monitors.attributions import NO_STORED_RECORDS
from runner.results import directory
from tests.builders import WINDOW, changed, event, manifest, monitor, write
from tests.cli_runner import CHECKOUT
from tests.drift.samples import POLICY
from tests.formula_models import Formula, additive, interacting
from tests.golden import Golden


def notes(execution: Execution) -> list[str]:
    """Return the notes in an execution's manifest."""
    found: list[str] = orjson.loads((Path(execution.directory) / "manifest.json").read_bytes())["notes"]
    return found


def test_the_scheduled_time_names_the_directory(tmp_path: Path) -> None:
    """Where none is given it is the first full hour after the window; two executions of one hour do not meet."""
    stage = monitor(tmp_path, [[7, 2, 1]])
    for scheduled, folder in ((None, "10"), ("2026-01-05T10:15:00Z", "10-15"), ("2026-01-05T10:15:07Z", "10-15-07")):
        execution = stage.run(WINDOW, utc(scheduled) if scheduled else None)
        assert execution.directory == str(tmp_path / "monitor/e/m/2026/01/05" / folder)
        stored = orjson.loads((Path(execution.directory) / "manifest.json").read_bytes())
        assert stored["scheduled"] == (scheduled or "2026-01-05T10:00:00Z")
        assert stored["window"]["text"] == str(WINDOW)


def test_an_execution_over_another_window_is_kept(tmp_path: Path, golden: Golden) -> None:
    """One scheduled time has one window: an execution over another one fails and changes nothing."""
    stage = monitor(tmp_path, [[7, 2, 1]])
    stage.run(WINDOW)
    execution = stage.run(Window.parse("2026-01-05T08"), utc("2026-01-05T10:00:00Z"))
    assert execution.status is Status.FAILED
    assert execution.directory == str(tmp_path / "monitor/e/m/2026/01/05/10")
    golden(execution.message)
    assert manifest(tmp_path)["window"]["text"] == str(WINDOW)


def test_the_background_is_the_references(tmp_path: Path) -> None:
    """With the mean as SHAP baseline, the execution uses the reference's, not the window's."""
    execution = monitor(tmp_path, [[7, 2, 1], [5, 3, 0]]).run(WINDOW)
    assert execution.status is Status.COMPLETED
    assert manifest(tmp_path)["background"] == {"names": ["a", "b", "c"], "rows": [[3, 1, 1]]}


def test_local_attributions_are_compared_with_those_of_the_reference(tmp_path: Path, golden: Golden) -> None:
    """drift.json has the finding; with a reference that keeps no records it has none, and a note says why."""
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


def found(execution: Execution) -> dict[str, Any]:
    """Return the finding in drift.json."""
    finding: dict[str, Any] = orjson.loads((Path(execution.directory) / "drift.json").read_bytes())["finding"]
    return finding


def test_a_canary_distinguishes_a_changed_model_from_changed_inputs(tmp_path: Path, golden: Golden) -> None:
    """Attributions of the reference's records stay with the same model, whatever the inputs, and move with another."""
    stage = changed(monitor(tmp_path, [[70, 2, 1]] * 3), policy=replace(POLICY, min_rows=2))
    same = found(stage.run(WINDOW))["canary"]
    assert (same["records"], same["changed"], same["difference"], same["moved"]) == (3, False, 0, 0)
    other_model = changed(stage, model=Formula(interacting)).run(WINDOW)
    other = found(other_model)["canary"]
    assert other["changed"]
    assert other["moved"] > 0
    golden("\n".join(notes(other_model)))
    without = changed(stage, policy=replace(POLICY, min_rows=2, canary_rows=0)).run(WINDOW)
    assert found(without)["canary"] is None


def test_with_events_as_units_one_record_of_each_is_compared(tmp_path: Path) -> None:
    """A batch of records that are alike is one observation."""
    stage = changed(monitor(tmp_path, [[7, 2, 1]] * 5), policy=replace(POLICY, min_rows=2))
    write(tmp_path, "09/01-00-000-y.jsonl", event([5, 3, 0], [5, 3, 1]))
    assert found(stage.run(WINDOW))["rows_live"] == 7
    assert found(changed(stage, policy=replace(POLICY, min_rows=2, unit="event")).run(WINDOW))["rows_live"] == 2
    assert manifest(tmp_path)["counts"]["records"] == 7


def test_a_level_stands_when_enough_windows_reach_it(tmp_path: Path, golden: Golden) -> None:
    """Two of three: the first window raises no alarm, the second does, and it stands for one that is quiet."""
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
    levels = [(found(each)["level"], found(each)["alone"]) for each in executed]
    assert levels[0] == ("none", "violation")
    assert levels[1] == ("violation", "violation")
    assert levels[2][0] == "violation"
    assert levels[2][1] in {"none", "info"}
    assert [len(notes(each)) for each in executed] == [1, 0, 1]
    golden("\n".join(note for each in executed for note in notes(each)))
    history = orjson.loads((Path(executed[2].directory) / "drift.json").read_bytes())["history"]
    assert [point["alone"] for point in history] == ["violation", "violation"]


def test_each_hour_may_have_a_reference_of_its_own(tmp_path: Path, golden: Golden) -> None:
    """Date codes in the path of the reference are filled in with the start of the window."""
    stage = monitor(tmp_path, [[7, 2, 1]] * 3, reference=tmp_path / "reference-%a-%H")
    shutil.move(tmp_path / "reference", tmp_path / "reference-Mon-09")
    assert stage.run(WINDOW).status is Status.COMPLETED
    later = stage.run(Window(WINDOW.end, WINDOW.end + HOUR))
    assert later.status is Status.FAILED
    assert f"{tmp_path}/reference-Mon-10/" in str(later.failure_reason)
    golden(later.message)


def test_records_that_cannot_be_divided_fail_an_execution(tmp_path: Path, golden: Golden) -> None:
    """The failure reason has the setting with its value, and what was expected."""
    stage = changed(monitor(tmp_path, [[7, 2, 1]] * 3), policy=replace(POLICY, segment_by="Sex"))
    execution = stage.run(WINDOW)
    assert execution.status is Status.FAILED
    assert "drift.segment_by=Sex" in str(execution.failure_reason)
    golden(execution.message)


def test_kept_records_of_another_baselining_are_refused(tmp_path: Path, golden: Golden) -> None:
    """As when somebody has copied the analysis.json alone."""
    stage = monitor(tmp_path, [[7, 2, 1]])
    (tmp_path / "reference/reference.parquet").write_bytes(b"PAR1")
    execution = stage.run(WINDOW)
    assert execution.status is Status.FAILED
    assert "reference.parquet" in str(execution.failure_reason)
    golden(execution.message)


def test_drift_is_a_violation(tmp_path: Path) -> None:
    """Where another feature leads, there is a violations document and the status says so."""
    execution = monitor(tmp_path, [[3, 1, 9], [3, 1, 8]]).run(WINDOW)
    assert execution.status is Status.COMPLETED_WITH_VIOLATIONS
    violations = orjson.loads((Path(execution.directory) / "constraint_violations.json").read_bytes())
    assert [violation["label"] for violation in violations["violations"]] == ["label0"]


@pytest.mark.parametrize(
    ("scores", "parity"),
    [(None, None), ([14.0, 11.0], {"largest": 0.0, "records": 2}), ([14.0, 11.5], {"largest": 0.5, "records": 2})],
)
def test_serving_parity(tmp_path: Path, scores: list[float] | None, parity: Mapping[str, float] | None) -> None:
    """The captured scores are compared with the model's own, where there are any."""
    monitor(tmp_path, [[7, 2, 1], [5, 3, 0]], scores).run(WINDOW)
    assert manifest(tmp_path)["serving_parity"] == parity


def test_without_labels_there_is_no_quality(tmp_path: Path, golden: Golden) -> None:
    """Where nothing was merged, the manifest has no quality, and no check in the report is about it."""
    execution = monitor(tmp_path, [[7, 2, 1]]).run(WINDOW)
    assert manifest(tmp_path)["quality"] is None
    report = (Path(execution.directory) / "report.html").read_text()
    golden("\n".join(re.findall(r'<div class="name">(.*?)</div>', report)))


def test_a_changed_model_is_in_the_manifest(tmp_path: Path) -> None:
    """The model's hash is compared with the one the reference was computed with."""
    monitor(tmp_path, [[7, 2, 1]], model=Formula(additive, identity="another")).run(WINDOW)
    assert manifest(tmp_path)["model_changed"] is True


def test_an_execution_can_be_a_reference(tmp_path: Path) -> None:
    """A former hour serves as reference like a baselining does."""
    first = monitor(tmp_path, [[7, 2, 1], [5, 3, 0]]).run(WINDOW)
    again = monitor(tmp_path, [[7, 2, 1], [5, 3, 0]], reference=Path(first.directory)).run(WINDOW)
    assert again.succeeded
    assert manifest(tmp_path)["verdict"]["labels"][0]["ndcg"] == 1


def test_a_broken_link_is_no_capture(tmp_path: Path) -> None:
    """A name that leads nowhere does not stop an execution."""
    stage = monitor(tmp_path, [[7, 2, 1]])
    (tmp_path / "captures/2026/01/05/09/01-00-000-y.jsonl").symlink_to("nowhere.jsonl")
    execution = stage.run(WINDOW)
    assert execution.status is Status.COMPLETED


def test_strings_do_not_fit_a_numeric_background(tmp_path: Path, golden: Golden) -> None:
    """Where a feature that is a number in the reference is a string in all records, the execution fails."""
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
    kept = held == contents(target) and not list(root.rglob(".*"))
    again = stage.run(WINDOW).status
    ended = [execution.status, execution.failure_reason, execution.directory == str(target)]
    print(json.dumps([status, kept, *ended, again]))
"""


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """Where neither result nor failure can be written, it fails with the reason, and what was there is still there."""
    command = [sys.executable, "-W", "error", "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=CHECKOUT, timeout=60)
    assert not done.stderr, done.stderr.decode()
    reason = os_error_message(OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
    assert [orjson.loads(line) for line in done.stdout.splitlines()] == [
        ["nothing", True, "Failed", reason, False, "Completed"],
        ["nothing", True, "Failed", reason, False, "Completed"],
        ["Failed", True, "Failed", reason, False, "Completed"],
        ["Completed", True, "Failed", reason, True, "Completed"],
    ]


def test_a_first_try_loses_no_rejection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the result could not be written but the failure can, all rejections are in that."""
    stage = monitor(tmp_path, [[7, 2, 1]] * 8, share=0.5)
    write(tmp_path, "09/z.jsonl", b"torn\n")
    commit = directory.commit

    def once(target: Path, files: Mapping[str, bytes | IO[bytes]]) -> None:
        monkeypatch.undo()
        with pytest.raises(IsADirectoryError):
            commit(target, {**files, ".": b""})
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(directory, "commit", once)
    execution = stage.run(WINDOW)
    assert execution.failure_reason == manifest(tmp_path)["failure_reason"]
    assert execution.failure_reason == os_error_message(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert len(lost(execution)) == 1


def test_something_of_others_fails_an_execution(tmp_path: Path, golden: Golden) -> None:
    """A directory that holds anything else stays, and the reason names it."""
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


def lost(execution: Execution) -> list[dict[str, Any]]:
    """Return what an execution's rejected.jsonl holds."""
    return [orjson.loads(line) for line in (Path(execution.directory) / "rejected.jsonl").read_bytes().splitlines()]


def test_nothing_is_lost(tmp_path: Path, golden: Golden) -> None:
    """Whatever a window's files hold becomes a record or a line of rejected.jsonl, and the manifest's counts add up."""
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
    found = lost(execution)
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


def test_too_many_rejections_fail_an_execution(tmp_path: Path, golden: Golden) -> None:
    """Above the limit it is Failed with the most frequent reasons, and rejected.jsonl is there to look at."""
    stage = monitor(tmp_path, [[7, 2, 1]] * 8, share=0.2)
    write(tmp_path, "09/z.jsonl", b"torn\n" * 2)
    assert stage.run(WINDOW).status is Status.COMPLETED
    write(tmp_path, "09/z.jsonl", b"torn\n" * 2 + b"{}\n")
    (tmp_path / "monitor/e/m/2026/01/05/10").rename(tmp_path / "aside")
    execution = stage.run(WINDOW)
    assert execution.status is Status.FAILED
    assert len(lost(execution)) == 3
    found = manifest(tmp_path)
    assert found["counts"] == {
        "files": 2,
        "events": 4,
        "outside": 0,
        "probes": 0,
        "records": 8,
        "sample": None,
        "rejected": {"not_json": 2, "not_a_capture": 1},
    }
    golden(found["failure_reason"])


def test_a_window_of_nothing_but_rejections_fails(tmp_path: Path, golden: Golden) -> None:
    """All of them are kept there too, whatever the limit."""
    stage = monitor(tmp_path, [], share=1.0)
    write(tmp_path, "09/a.jsonl", b"torn\n" * 3)
    execution = stage.run(WINDOW)
    assert execution.status is Status.FAILED
    assert manifest(tmp_path)["counts"]["rejected"] == {"not_json": 3}
    golden(manifest(tmp_path)["failure_reason"])
    assert len(lost(execution)) == 3


def test_a_window_without_rejections_has_no_such_file(tmp_path: Path) -> None:
    """A clean execution has nothing to look at, and a rerun takes the former rejections away."""
    stage = monitor(tmp_path, [[7, 2, 1]] * 30)
    write(tmp_path, "09/z.jsonl", b"torn\n")
    assert lost(stage.run(WINDOW))
    write(tmp_path, "09/z.jsonl", b"")
    execution = stage.run(WINDOW)
    assert execution.succeeded
    assert not (Path(execution.directory) / "rejected.jsonl").exists()


def test_the_order_of_files_and_events_changes_no_byte(tmp_path: Path) -> None:
    """The same events under other names, in other files, orders and hours give the same analysis."""
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


def test_no_more_records_are_explained_than_the_verdict_needs(tmp_path: Path, golden: Golden) -> None:
    """Of many alike a thousand do; the manifest says how many, and all are counted as seen."""
    rows = [[i % 7, 2 + i % 3, i % 5] for i in range(2_500)]
    stage = monitor(tmp_path, rows, stopping=SequentialStopping(0.9, POLICY))
    assert stage.run(WINDOW).succeeded
    found = manifest(tmp_path)
    assert found["counts"]["records"] == 2_500
    assert found["counts"]["sample"] == 1_000
    (note,) = (note for note in found["notes"] if "Explained" in note)
    golden(note)


def test_a_window_is_used_up_where_the_verdict_stays_in_doubt(tmp_path: Path, golden: Golden) -> None:
    """Where chance alone orders two features all records are explained, and the notes say so."""
    rng = np.random.default_rng(1)
    rows = np.stack([3 + 3 * rng.integers(-2, 3, 1_500), np.full(1_500, 2), 1 + rng.integers(-2, 3, 1_500)], axis=1)
    close = replace(POLICY, threshold=0.92)
    stage = monitor(tmp_path, rows.tolist(), policy=close, stopping=SequentialStopping(0.999, close))
    assert stage.run(WINDOW).succeeded
    found = manifest(tmp_path)
    assert found["counts"]["sample"] == 1_500
    (note,) = (note for note in found["notes"] if "Explained" in note)
    golden(note)
