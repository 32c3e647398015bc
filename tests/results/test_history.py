"""Earlier executions of a monitor: their order, the newest verdict, and the points of the timeline."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from runner.domain.drift import Level
from runner.domain.executions import ExecutionState, Status
from runner.domain.publication import AlertHistory
from runner.results.directory import MANIFEST, commit, mark_unpublished, remove
from runner.results.history import alert_history, earlier_executions, earlier_points, newest_executions
from runner.results.manifest_file import as_document, dump_manifest
from tests.builders import file_contents
from tests.results.samples import COMPLETED, FAILED

INFORMED = ExecutionState(Status.COMPLETED, Level.INFO)
HISTORY = (
    "2025/12/31/23",
    "2026/01/04/05-41-23",
    "2026/01/05/08",
    "2026/01/05/08-30",
    "2026/01/05/09",
    "2026/02/01/00",
)


def completed(level: object, status: str = "Completed") -> bytes:
    """Return the manifest of an execution with an alert level."""
    return orjson.dumps({**as_document(COMPLETED), "status": status, "level": level})


def test_earlier_executions_come_newest_first(tmp_path: Path) -> None:
    """They are sorted by time across days and years; other names are skipped."""
    for name in (*HISTORY, "2026/01/05/.08~0a1b2c3d", "2026/01/05/notes", "2026/01/x/07", "notes/01/05/07"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "2026/01/03").write_text("a file where a folder belongs")
    target = tmp_path / "2026/01/05/09"
    found = [path.relative_to(tmp_path).as_posix() for path in earlier_executions(target)]
    assert found == ["2026/01/05/08-30", "2026/01/05/08", "2026/01/04/05-41-23", "2025/12/31/23"]
    assert list(earlier_executions(tmp_path / "2025/12/31/23")) == []
    assert list(earlier_executions(tmp_path / "nowhere/2025/12/31/23")) == []


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        (dump_manifest(FAILED), AlertHistory(INFORMED, failing=True)),
        (completed("warning"), AlertHistory(ExecutionState(Status.COMPLETED, Level.WARNING))),
        (completed(None), AlertHistory(ExecutionState(Status.COMPLETED, Level.NONE))),
        (completed("insufficient_data"), AlertHistory(INFORMED)),
        (b"no JSON", AlertHistory(INFORMED)),
        (completed("info", status="Splendid"), AlertHistory(INFORMED)),
        (completed(["?"]), AlertHistory(INFORMED)),
        (None, AlertHistory(INFORMED)),
    ],
)
def test_alert_history_is_the_newest_verdict(tmp_path: Path, newest: bytes | None, expected: AlertHistory) -> None:
    """Executions with a damaged or missing manifest, or without a verdict, are skipped."""
    documents = {"2026/01/05/08": newest, "2026/01/04/23": completed("info")}
    for name, document in documents.items():
        (tmp_path / name).mkdir(parents=True)
        if document is not None:
            (tmp_path / name / MANIFEST).write_bytes(document)
    assert alert_history(tmp_path / "2026/01/05/09") == expected
    assert alert_history(tmp_path / "2026/01/04/23") == AlertHistory()


def test_unpublished_executions_are_not_in_the_alert_history(tmp_path: Path) -> None:
    """They are skipped until a recipient was reached; the marker is removed with the directory."""
    for hour, level in (("07", "none"), ("08", "violation")):
        commit(tmp_path / f"2026/01/05/{hour}", {MANIFEST: completed(level)})
    target = tmp_path / "2026/01/05/08"
    mark_unpublished(target, unpublished=True)
    assert alert_history(tmp_path / "2026/01/05/09") == AlertHistory(ExecutionState(Status.COMPLETED, Level.NONE))
    mark_unpublished(target, unpublished=False)
    assert alert_history(tmp_path / "2026/01/05/09") == AlertHistory(ExecutionState(Status.COMPLETED, Level.VIOLATION))
    mark_unpublished(target, unpublished=True)
    assert remove(target, tmp_path)
    assert file_contents(tmp_path).keys() == {"2026/01/05/07/manifest.json"}


def test_unpublished_marker_needs_the_folder(tmp_path: Path) -> None:
    """If the folder is missing, nothing is raised and nothing is created."""
    for unpublished in (True, False):
        mark_unpublished(tmp_path / "gone/08", unpublished)
    assert not list(tmp_path.iterdir())


def test_alert_history_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After MAX_HISTORY failures, older executions are not read."""
    monkeypatch.setattr("runner.results.history.MAX_HISTORY", 3)
    for hour, document in enumerate([completed("none"), *[dump_manifest(FAILED)] * 3]):
        (folder := tmp_path / f"2026/01/05/{hour:02d}").mkdir(parents=True)
        (folder / MANIFEST).write_bytes(document)
    assert alert_history(tmp_path / "2026/01/05/03") == AlertHistory(
        ExecutionState(Status.COMPLETED, Level.NONE), failing=True
    )
    assert alert_history(tmp_path / "2026/01/05/04") == AlertHistory(None, failing=True)


def test_points_are_in_the_order_of_time(tmp_path: Path) -> None:
    """Executions with a damaged or missing manifest count towards the limit but have no point."""
    documents = {"07": completed("info"), "08": dump_manifest(FAILED), "09": b"{", "10": completed("warning")}
    for hour, document in documents.items():
        (folder := tmp_path / f"2026/01/05/{hour}").mkdir(parents=True)
        (folder / MANIFEST).write_bytes(document)
    points = earlier_points(tmp_path / "2026/01/05/11", 3)
    assert [(point.status, point.level) for point in points] == [
        (Status.FAILED, Level.NONE),
        (Status.COMPLETED, Level.WARNING),
    ]
    failed, newest = points
    assert (newest.start, newest.end) == ("2026-01-05T09:00:00Z", "2026-01-05T10:00:00Z")
    assert (newest.ndcg, newest.threshold, newest.attribution_shift, newest.total_log2_change) == (0.8, 0.9, 0.25, None)
    assert (failed.ndcg, failed.threshold, failed.attribution_shift, failed.reference) == (None,) * 4


def test_newest_executions_have_a_manifest(tmp_path: Path) -> None:
    """A directory without a manifest is not an execution."""
    for hour in ("07", "08", "09"):
        commit(tmp_path / f"2026/01/05/{hour}", {MANIFEST: b"{}"})
    (tmp_path / "2026/01/05/10").mkdir()
    assert [path.name for path in newest_executions(tmp_path, 2)] == ["09", "08"]
