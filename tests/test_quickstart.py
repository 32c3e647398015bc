"""The quickstart, from the command line to its files."""

from __future__ import annotations

from pathlib import Path

import orjson

from tests.cli_runner import Shapwatch
from tests.golden import Golden


def test_quickstart_detects_the_changed_unit(tmp_path: Path, golden: Golden) -> None:
    """Two executions report no drift; the third names the feature with the changed unit."""
    printed = Shapwatch(tmp_path).process("stage=quickstart").splitlines()
    statuses = [line for line in printed if line.startswith("Completed") and "UTC" in line]
    assert [line.partition(",")[0] for line in statuses] == ["Completed", "Completed", "CompletedWithViolations"]
    golden("\n".join(statuses))
    hours = sorted((tmp_path / "monitor/breast-cancer/breast-cancer-monitor").rglob("manifest.json"))
    assert [path.parent.name for path in hours] == ["10", "11", "12"]
    (label,) = orjson.loads((hours[2].parent / "drift.json").read_bytes())["finding"]["labels"]
    moved = max(label["features"], key=lambda feature: abs(feature["share_now"] - feature["share_before"]))
    assert (moved["name"], moved["rank_before"], moved["rank_now"]) == ("mean compactness", 10, 1)
    violations = [path.parent.name for path in tmp_path.rglob("constraint_violations.json")]
    assert violations == ["12"]
    assert all((path.parent / "report.html").stat().st_size < 200_000 for path in hours)


def test_quickstart_repeats_byte_for_byte(tmp_path: Path) -> None:
    """Another process and folder give the same files, except timings and the folder's name."""
    for name in ("a", "b"):
        Shapwatch(tmp_path / name).process("stage=quickstart")
    for first in sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file()):
        second = tmp_path / "b" / first.relative_to(tmp_path / "a")
        if first.name == "manifest.json":
            left, right = (orjson.loads(path.read_bytes()) for path in (first, second))
            del left["timings"], right["timings"]
            assert left == right
        elif first.name != "settings.yaml":
            assert first.read_bytes() == second.read_bytes(), first
