"""The page of a monitor, which lists its executions."""

from __future__ import annotations

import re
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.domain.drift import Effect, Level
from runner.domain.executions import Status, Window
from runner.report.index import MOST, ExecutionRow, index
from runner.results import directory
from runner.results.manifest import Effects, ExecutionTime, Manifest
from runner.results.manifest_file import dump_manifest, newest_executions
from tests.cli_runner import Shapwatch
from tests.golden import Golden
from tests.report.samples import FAILURE, REPORT, manifest, write

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
    return index("title", folder, newest_executions(folder, MOST)).rows


def test_the_newest_execution_is_first_and_links_to_its_report(tmp_path: Path) -> None:
    """Rows show status, level, sentence and figures; links are relative and lead to files."""
    folder = tmp_path / "e/m"
    write_execution(folder, 9)
    write_execution(folder, 10, headline="No drift", status=Status.COMPLETED, sentence="<i>calm</i>.")
    page = REPORT.index(folder).decode()
    links = re.findall(r'href="([^"]+)"', page)
    assert links == ["2026/01/05/10/report.html", "2026/01/05/09/report.html"]
    assert all((folder / link).exists() for link in links)
    assert page.index("No drift") < page.index("CompletedWithViolations")
    for string in ("&lt;i&gt;calm", "0.8000", "25.0%", "warning", "<dd>m</dd>", "<dd>e</dd>"):
        assert string in page, string
    assert page.count("<svg") == 1


def test_gaps_and_failures_are_in_the_timeline(tmp_path: Path) -> None:
    """Windows that do not follow each other, and a failure without figures."""
    for hour in (9, 10, 13):
        write_execution(tmp_path, hour)
    end = datetime(2026, 1, 5, 14, tzinfo=UTC)
    time = ExecutionTime("e", Window.parse("2026-01-05T13"), end)
    write_manifest(tmp_path / "2026/01/05/14", Manifest(**{**vars(FAILURE), "time": time}))
    page = index("title", tmp_path, newest_executions(tmp_path, 10))
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
    """The row is a warning that names the file; other rows are not affected."""
    write_execution(tmp_path, 9)
    write_execution(tmp_path, 10)
    (tmp_path / "2026/01/05/10/manifest.json").write_text(content, "latin-1")
    damaged, intact = rows(tmp_path)
    assert (damaged.directory, damaged.state, damaged.point) == ("2026/01/05/10", "warning", None)
    assert "manifest.json" in damaged.sentence
    assert intact.headline == "Drift"
    assert damaged.headline in REPORT.index(tmp_path).decode()
    golden(f"{damaged.headline}. {damaged.sentence}")


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
    for i in range(MOST + 10):
        write_execution(tmp_path, i % 23 + 1, i // 23 % 28 + 1, i // 644 + 1)
    page = REPORT.index(tmp_path)
    assert page.count(b'<th scope="row">') == MOST
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
    assert links == [f"2026/01/05/{hour}/report.html" for hour in (12, 11, 10)]
    assert directory.remove(folder / "2026/01/05/10", tmp_path / "monitor")
    own = tmp_path / "own"
    own.mkdir()
    shapwatch("stage=monitor", "stage.window=2026-01-05T11")
    assert page.read_text().count("<a href=") == 2
    (own / "index.html.j2").write_text("{{ titel }}")
    printed = shapwatch("stage=monitor", "stage.window=2026-01-05T11", f"report.templates={own}")
    (line,) = (line for line in printed.splitlines() if f"{own}/index.html.j2:1:" in line)
    assert "'titel'" in line
    golden(line)
