"""The page over all executions of a monitor."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.report import index
from runner.results import directory
from runner.results.history import newest_executions
from tests.cli_runner import Shapwatch
from tests.golden import Golden
from tests.report.samples import REPORT, failed, manifest, written


def execution(folder: Path, hour: int, day: int = 5, month: int = 1, **changes: Any) -> None:
    """Leave an execution over the hour before, with a report."""
    told = {
        **manifest(),
        "level": "warning",
        "effects": {"attribution_shift": {"value": 0.25, "noise": 0.02, "p": 0.001}},
        **changes,
    }
    told["window"] = {
        "start": f"2026-{month:02}-{day:02}T{hour - 1:02}:00:00Z",
        "end": f"2026-{month:02}-{day:02}T{hour:02}:00:00Z",
        "text": f"2026-{month:02}-{day:02} {hour - 1:02}:00–{hour:02}:00 UTC",
    }
    files = {"manifest.json": orjson.dumps(told), "report.html": b"page"}
    written(folder / f"2026/{month:02}/{day:02}/{hour:02}", files)


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the page."""
    found: list[dict[str, Any]] = index.page(folder, newest_executions(folder, index.MOST))["rows"]
    return found


def test_the_newest_is_first_and_links_to_its_report(tmp_path: Path) -> None:
    """Status, level, sentence and figures stand in a row; links are relative and lead somewhere."""
    folder = tmp_path / "e/m"
    execution(folder, 9)
    execution(folder, 10, headline="No drift", status="Completed", sentence="<i>calm</i>.")
    shown = REPORT.index(folder).decode()
    links = re.findall(r'href="([^"]+)"', shown)
    assert links == ["2026/01/05/10/report.html", "2026/01/05/09/report.html"]
    assert all((folder / link).exists() for link in links)
    assert shown.index("No drift") < shown.index("CompletedWithViolations")
    for text in ("&lt;i&gt;calm", "0.8000", "25.0%", "warning", "<dd>m</dd>", "<dd>e</dd>"):
        assert text in shown, text
    assert shown.count("<svg") == 1


def test_gaps_and_failures_are_gaps(tmp_path: Path) -> None:
    """What breaks the lines is there: windows that do not follow each other, and a failure without figures."""
    for hour in (9, 10, 13):
        execution(tmp_path, hour)
    execution(tmp_path, 14, verdict={}, effects=None, **{key: failed()[key] for key in ("status", "headline")})
    points = index.page(tmp_path, newest_executions(tmp_path, 10))["points"]
    assert [(point["start"][11:13], point["end"][11:13], point["ndcg"], point["status"]) for point in points] == [
        ("08", "09", 0.8, "CompletedWithViolations"),
        ("09", "10", 0.8, "CompletedWithViolations"),
        ("12", "13", 0.8, "CompletedWithViolations"),
        ("13", "14", None, "Failed"),
    ]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"stage": "monitor"}', '{"window": 7, "sentence": 7}', "", "\xff"],
    ids=["torn", "list", "lacking", "wrong types", "empty", "not UTF-8"],
)
def test_a_damaged_manifest_has_a_row(tmp_path: Path, golden: Golden, text: str) -> None:
    """The row names the file and is worth a look; the others are shown as ever."""
    execution(tmp_path, 9)
    execution(tmp_path, 10)
    (tmp_path / "2026/01/05/10/manifest.json").write_text(text, "latin-1")
    broken, whole = rows(tmp_path)
    assert (broken["directory"], broken["state"], broken["point"]) == ("2026/01/05/10", "warning", None)
    assert "manifest.json" in broken["sentence"]
    assert whole["headline"] == "Drift"
    assert broken["headline"] in REPORT.index(tmp_path).decode()
    golden(f"{broken['headline']}. {broken['sentence']}")


def test_hidden_and_foreign_folders_are_not_ours(tmp_path: Path, golden: Golden) -> None:
    """Nor are those without a manifest, nor files."""
    execution(tmp_path, 9)
    for name in (".2026/01/05/09", "2026/01/05/.10~0011aabb/new", "notes/01/05/09", "2026/1/5/9", "2026/01/05/09/old"):
        written(tmp_path / name, {"manifest.json": b"{}"})
    (tmp_path / "2026/01/05/11").mkdir()
    (tmp_path / "2026/01/06").write_text("a file")
    assert [row["directory"] for row in rows(tmp_path)] == ["2026/01/05/09"]
    empty = REPORT.index(tmp_path / "none").decode()
    assert "<tr" not in empty
    golden(*re.findall("<h1>(.*)</h1>", empty))


def test_a_thousand_executions_stay_small(tmp_path: Path) -> None:
    """The newest are listed, and the page stays below 1.5 MB."""
    for i in range(index.MOST + 10):
        execution(tmp_path, i % 23 + 1, i // 23 % 28 + 1, i // 644 + 1)
    shown = REPORT.index(tmp_path)
    assert shown.count(b'<th scope="row">') == index.MOST
    assert len(shown) < 1_500_000


def test_writers_at_once_leave_one_whole_page(tmp_path: Path) -> None:
    """Each writes aside and renames; nothing hidden is left."""
    pages = [bytes([65 + i]) * 100_000 for i in range(8)]
    target = tmp_path / "e/m/index.html"
    threads = [threading.Thread(target=directory.put, args=(target, page)) for page in pages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() in pages
    assert list(target.parent.iterdir()) == [target]


def test_every_execution_writes_it_anew(tmp_path: Path, golden: Golden) -> None:
    """Three hours, three rows; what is removed is gone with the next execution; a wrong template is printed."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=quickstart")
    index = shapwatch.find("index.html")
    folder = index.parent
    assert folder == tmp_path / "monitor/breast-cancer/breast-cancer-monitor"
    links = re.findall('<a href="([^"]+)"', index.read_text())
    assert links == [f"2026/01/05/{hour}/report.html" for hour in (12, 11, 10)]
    assert directory.remove(folder / "2026/01/05/10", tmp_path / "monitor")
    own = tmp_path / "own"
    own.mkdir()
    shapwatch("stage=monitor", "stage.window=2026-01-05T11")
    assert index.read_text().count("<a href=") == 2
    (own / "index.html.j2").write_text("{{ titel }}")
    printed = shapwatch("stage=monitor", "stage.window=2026-01-05T11", f"report.templates={own}")
    (line,) = (line for line in printed.splitlines() if f"{own}/index.html.j2:1:" in line)
    assert "'titel'" in line
    golden(line)
