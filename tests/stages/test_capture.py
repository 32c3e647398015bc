"""`stage=capture`: the contents of a window as text, JSON and table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import orjson
import polars as pl
import pytest

from runner.domain.executions import Window
from runner.errors import NoData, NoValidRecords, TooManyRejected
from runner.sources.endpoint import EndpointSource
from runner.sources.source import WindowReader
from runner.stages.capture import Capture, CaptureStage
from tests.conftest import untracked
from tests.golden import Golden
from tests.sources.reading import HOUR, capture_line, data_settings, write_captures

PUBLISHED = Path(__file__).parents[1] / "expected" / "capture.jsonl"
STEM = "2026-01-05T0900--2026-01-05T1000"


def stage(
    root: Path,
    save: Literal["json", "parquet"] = "json",
    headers: tuple[str, ...] | None = None,
    window: Window = HOUR,
    /,
    **files: bytes,
) -> Capture:
    """Return the stage for a tree with these files; up to half of the records may be rejected."""
    tree = EndpointSource("endpoint", write_captures(root / "tree", **files), 1)
    data = data_settings(headers=headers, max_rejected_share=0.5)
    settings = CaptureStage("capture", window, save)
    return Capture(settings, WindowReader(tree, data, untracked), root / "saved")


def saved(root: Path, suffix: str) -> Any:
    """Return a saved JSON document, or the documents of a JSON Lines file."""
    data = (root / "saved" / f"{STEM}{suffix}").read_bytes()
    return orjson.loads(data) if suffix == ".json" else [orjson.loads(line) for line in data.splitlines()]


def test_files_events_records_and_rejections_are_listed(tmp_path: Path, golden: Golden) -> None:
    """The notebook's capture file with an invalid line is listed with counts, types, an example and the reason."""
    (folder := tmp_path / "tree/2023/01/19/05").mkdir(parents=True)
    (folder / "31-46-585-x.jsonl").write_bytes(PUBLISHED.read_bytes() + b'{"captureData":\n')
    outcome = stage(tmp_path, "json", None, Window.parse("2023-01-19T05")).run()
    golden(outcome.message)
    found = orjson.loads((tmp_path / "saved/2023-01-19T0500--2023-01-19T0600.json").read_bytes())
    assert (found["events"], found["records"], found["rejected"]) == (3, 3, {"not_json": 1})
    assert found["files_per_hour"] == {"2023/01/19/05": 1}
    assert found["types"]["column_0"] == "Int64"
    assert found["example"]["event_id"] == "40394cfe-37c3-4abb-b22c-dd7accbe9608"
    assert found["example"]["scores"] == [0.989977359771728]
    rejected = orjson.loads((tmp_path / "saved/2023-01-19T0500--2023-01-19T0600.rejected.jsonl").read_bytes())
    assert (rejected["file"], rejected["line"]) == ("2023/01/19/05/31-46-585-x.jsonl", 3)


def test_example_without_score_has_null(tmp_path: Path) -> None:
    """The example's scores are null if only later records have a captured response."""
    stage(tmp_path, h09_a=capture_line([1]) + capture_line([2], scores=[0.5])).run()
    example = saved(tmp_path, ".json")["example"]
    assert (example["features"], example["scores"]) == ({"column_0": 1}, None)


def test_files_are_counted_by_hour(tmp_path: Path, golden: Golden) -> None:
    """Each folder is listed with its number of files; events outside the window are counted."""
    late = capture_line([3], clock="10:30:00")
    message = stage(tmp_path, h09_a=capture_line([1]), h09_b=capture_line([2]), h10_a=late).run().message
    golden(message)
    found = saved(tmp_path, ".json")
    assert found["files_per_hour"] == {"2026/01/05/09": 2, "2026/01/05/10": 1}
    assert (found["events"], found["records"], found["outside"], found["rejected"]) == (2, 2, 1, {})


def test_types_are_inferred(tmp_path: Path) -> None:
    """Each feature is listed by name with its inferred type."""
    rows = capture_line(["x", 1, 2.5, True, None], ["y", 2, 3, None, None])
    stage(tmp_path, "json", ("text", "whole", "broken", "yes", "never"), h09_a=rows).run()
    types = {"text": "String", "whole": "Int64", "broken": "Float64", "yes": "Boolean", "never": "Null"}
    assert saved(tmp_path, ".json")["types"] == types


def test_parquet_has_all_records(tmp_path: Path) -> None:
    """The Parquet file has the origin, the features by name and the scores of each record."""
    first = capture_line(["x", 1], [None, 2], scores=[[0.25, 0.75], [0.5, 0.5]], id_="one", inference_id="7")
    second = capture_line(["y", 2.5], clock="09:59:59", id_="two")
    capture = stage(tmp_path, "parquet", ("a b", "c"), h09_a=first + b"torn\n", h10_b=second)
    message = capture.run().message
    assert f"{tmp_path / 'saved' / STEM}.parquet" in message
    table = pl.read_parquet(tmp_path / "saved" / f"{STEM}.parquet").sort("file", "line", "row")
    assert table.columns == ["file", "line", "row", "event_id", "inference_id", "at", "features", "scores"]
    assert table["features"].to_list() == [{"a b": "x", "c": 1.0}, {"a b": None, "c": 2.0}, {"a b": "y", "c": 2.5}]
    assert table["scores"].to_list() == [[0.25, 0.75], [0.5, 0.5], None]
    assert table.schema["features"] == pl.Struct({"a b": pl.String, "c": pl.Float64})
    assert table.schema["scores"] == pl.List(pl.Float64)
    assert table.schema["at"] == pl.Datetime("us", "UTC")
    origins = table.select("file", "line", "row", "event_id", "inference_id").rows()
    assert origins == [
        ("2026/01/05/09/a.jsonl", 1, 0, "one", "7"),
        ("2026/01/05/09/a.jsonl", 1, 1, "one", "7"),
        ("2026/01/05/10/b.jsonl", 1, 0, "two", None),
    ]
    assert [f"{at:%H:%M:%S}" for at in table["at"]] == ["09:30:00", "09:30:00", "09:59:59"]
    assert [rejection["kind"] for rejection in saved(tmp_path, ".rejected.jsonl")] == ["not_json"]
    assert sorted(path.suffix for path in (tmp_path / "saved").iterdir()) == [".json", ".jsonl", ".parquet"]


def test_window_without_scores_has_no_score_column(tmp_path: Path) -> None:
    """The column `scores` is missing if no response was captured."""
    stage(tmp_path, "parquet", h09_a=capture_line([1])).run()
    assert "scores" not in pl.read_parquet(tmp_path / "saved" / f"{STEM}.parquet").columns


def test_second_run_replaces_the_files(tmp_path: Path) -> None:
    """No other file remains, visible or hidden."""
    for _ in range(2):
        stage(tmp_path, "parquet", h09_a=capture_line([1]) + b"torn\n").run()
    names = [f"{STEM}.json", f"{STEM}.parquet", f"{STEM}.rejected.jsonl"]
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == names


@pytest.mark.parametrize("save", ["json", "parquet"])
def test_contents_are_saved_before_the_run_fails(tmp_path: Path, save: Literal["json", "parquet"]) -> None:
    """If most or all records are rejected, the run fails, but the listing and the rejections are saved."""
    with pytest.raises(TooManyRejected):
        stage(tmp_path / "most", save, h09_a=capture_line([1]) + b"torn\n" * 9).run()
    assert len(saved(tmp_path / "most", ".rejected.jsonl")) == 9
    assert saved(tmp_path / "most", ".json")["rejected"] == {"not_json": 9}
    with pytest.raises(NoValidRecords):
        stage(tmp_path / "all", save, h09_a=b"torn\n" * 2).run()
    assert len(saved(tmp_path / "all", ".rejected.jsonl")) == 2
    assert saved(tmp_path / "all", ".json")["example"] is None


def test_empty_window_is_an_error(tmp_path: Path) -> None:
    """No table is saved."""
    with pytest.raises(NoData):
        stage(tmp_path, "parquet").run()
    assert not (tmp_path / "saved" / f"{STEM}.parquet").exists()
