"""The quickstart, from the command line to its files."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.cli_runner import Shapwatch
from tests.documentation import blocks, text
from tests.golden import Golden


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder and the output of the quickstart in a separate process."""
    folder = tmp_path_factory.mktemp("quickstart")
    return folder, Shapwatch(folder).process("stage=quickstart").splitlines()


def test_quickstart_detects_the_changed_unit(quickstart: tuple[Path, list[str]], golden: Golden) -> None:
    """Two executions report no drift; the third names the feature with the changed unit."""
    folder, printed = quickstart
    statuses = [line for line in printed if line.startswith("Completed") and "UTC" in line]
    assert [line.partition(",")[0] for line in statuses] == ["Completed", "Completed", "CompletedWithViolations"]
    golden("\n".join(statuses))
    hours = sorted((folder / "monitor/breast-cancer/breast-cancer-monitor").rglob("manifest.json"))
    assert [path.parent.name for path in hours] == ["10", "11", "12"]
    (label,) = orjson.loads((hours[2].parent / "drift.json").read_bytes())["finding"]["labels"]
    moved = max(label["features"], key=lambda feature: abs(feature["share_now"] - feature["share_before"]))
    assert (moved["name"], moved["rank_before"], moved["rank_now"]) == ("mean compactness", 10, 1)
    violations = [path.parent.name for path in folder.rglob("constraint_violations.json")]
    assert violations == ["12"]
    assert all((path.parent / "report.html").stat().st_size < 300_000 for path in hours)


def test_the_page_shows_the_verdict_as_printed(quickstart: tuple[Path, list[str]]) -> None:
    """The page explains these lines."""
    (shown,) = blocks(text("docs/quickstart.md"), "text")
    assert shown in "\n".join(quickstart[1])


def test_quickstart_repeats_byte_for_byte(quickstart: tuple[Path, list[str]], tmp_path: Path) -> None:
    """Another process and folder give the same files, except timings and the folder's name."""
    folder, _ = quickstart
    Shapwatch(tmp_path).process("stage=quickstart")
    for first in sorted(path for path in folder.rglob("*") if path.is_file()):
        second = tmp_path / first.relative_to(folder)
        if first.name == "manifest.json":
            left, right = (orjson.loads(path.read_bytes()) for path in (first, second))
            del left["timings"], right["timings"]
            assert left == right
        elif first.name != "settings.yaml":
            assert first.read_bytes() == second.read_bytes(), first
