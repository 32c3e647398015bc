"""Inspection: what a window holds, as text and as a document."""

from __future__ import annotations

from pathlib import Path

import orjson

from runner.domain import Window
from runner.records.fields import Fields
from runner.sources import CaptureTree
from runner.stages.capture import Capture
from tests.conftest import untracked

PUBLISHED = Path(__file__).parents[1] / "expected" / "capture.jsonl"


def test_a_first_record_without_score_has_none(tmp_path: Path) -> None:
    """Where only later records have a captured response, the example's scores are null."""
    folder = tmp_path / "tree/2023/01/19/05"
    folder.mkdir(parents=True)
    first, second = map(orjson.loads, PUBLISHED.read_bytes().splitlines())
    del first["captureData"]["endpointOutput"]
    (folder / "a.jsonl").write_bytes(orjson.dumps(first) + b"\n" + orjson.dumps(second))
    stage = Capture(CaptureTree(tmp_path / "tree", Fields("features", "score")), tmp_path / "saved", untracked)
    stage.run(Window.parse("2023-01-19T05"))
    (saved,) = (tmp_path / "saved").iterdir()
    assert orjson.loads(saved.read_bytes())["example"]["scores"] is None


def test_it_shows_files_events_records_and_rejections(tmp_path: Path) -> None:
    """The notebook's capture file with a torn line in it is listed with counts, types, an example and the reason."""
    folder = tmp_path / "tree/2023/01/19/05"
    folder.mkdir(parents=True)
    (folder / "31-46-585-x.jsonl").write_bytes(PUBLISHED.read_bytes() + b'{"captureData":\n')
    stage = Capture(CaptureTree(tmp_path / "tree", Fields("features", "score")), tmp_path / "saved", untracked)
    outcome = stage.run(Window.parse("2023-01-19T05"))
    for text in (
        "2023/01/19/05: 1 file",
        "3 events, 3 records",
        "rejected: not_json 1",
        "2023/01/19/05/31-46-585-x.jsonl:3: not JSON",
        "column_0 Int64",
        '"event_id":"40394cfe-37c3-4abb-b22c-dd7accbe9608"',
    ):
        assert text in outcome.message
    saved = orjson.loads((tmp_path / "saved/2023-01-19T0500--2023-01-19T0600.json").read_bytes())
    assert (saved["events"], saved["records"], saved["rejected"]) == (3, 3, {"not_json": 1})
    assert saved["example"]["scores"] == [0.989977359771728]
