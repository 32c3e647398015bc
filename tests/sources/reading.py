"""Records of a window as plain values, and capture lines to read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from runner.domain.executions import Window
from runner.domain.records import Event, Payload
from runner.records.capture import encode
from runner.sources.data import Data
from runner.sources.source import RecordCollector, Source

HOUR = Window.parse("2026-01-05T09")
LINES = "application/jsonlines"
USUAL: dict[str, Any] = {
    "dataset_type": LINES,
    "dataset": None,
    "traffic": None,
    "features": "features",
    "columnar": False,
    "label": None,
    "header": False,
    "content_type": LINES,
    "accept_type": LINES,
    "score": "score",
    "content_template": None,
    "record_template": None,
    "ground_truth": None,
    "probability_threshold": 0.5,
    "max_records": None,
    "max_rejected_share": 0.05,
    "headers": None,
}
DENSE: dict[str, Any] = {"content_template": '{"instances":$records}', "record_template": '{"features":$features}'}


def data_settings(**keys: Any) -> Data:
    """Return the section `data` with these keys; the others are those of JSON Lines."""
    templates = DENSE if keys.get("content_type") == "application/json" else {}
    return Data(**{**USUAL, **templates, **keys})


DATA = data_settings()
FIELDS = DATA.fields


class Collected(NamedTuple):
    """Records and rejections; `rows` are feature values, `origins` are file, line and row."""

    files: tuple[str, ...]
    events: int
    outside: int
    probes: int
    rows: list[tuple[Any, ...]]
    scores: list[list[float]] | None
    origins: list[tuple[str, int, int]]
    rejected: dict[str, int]
    rejections: list[dict[str, Any]]

    @property
    def rejected_lines(self) -> list[tuple[str, int, str]]:
        """File, line and kind of each rejection."""
        return [(rejection["file"], rejection["line"], rejection["kind"]) for rejection in self.rejections]


def collected(collector: RecordCollector, files: Sequence[str] = ()) -> Collected:
    """Return the records and rejections of a collector."""
    captured = collector.captured(files)
    table = captured.table.collect()
    scores = captured.scores()
    return Collected(
        files=captured.files,
        events=captured.events,
        outside=captured.outside,
        probes=captured.probes,
        rows=captured.features().rows(),
        scores=None if scores is None else scores.tolist(),
        origins=table.select("file", "line", "row").rows(),
        rejected=dict(captured.rejected),
        rejections=[orjson.loads(line) for line in captured.rejections],
    )


def read_window(source: Source, window: Window = HOUR, data: Data = DATA) -> Collected:
    """Return the records and rejections of a window of a source."""
    files = source.files(window)
    with RecordCollector(data.fields) as collector:
        source.read(files, window, data, collector)
        return collected(collector, [file.name for file in files])


def body(key: str, values: Sequence[Any]) -> Payload:
    """Return a JSON Lines body with one document per value."""
    return Payload("application/jsonlines", "\n".join(orjson.dumps({key: value}).decode() for value in values), "JSON")


def capture_line(
    *rows: Sequence[Any], clock: str = "09:30:00", scores: Sequence[Any] | None = None, id_: str = "e", **more: Any
) -> bytes:
    """Return the capture line of an invocation with these rows of features, at a time of the day."""
    at = datetime.fromisoformat(f"2026-01-05T{clock}+00:00")
    response = None if scores is None else body("score", scores)
    return encode(Event(id_, at, body("features", rows), response, **more))


def write_captures(root: Path, **files: bytes) -> str:
    """Write files, `h09_a` as `2026/01/05/09/a.jsonl`, and return the root."""
    for name, data in files.items():
        hour, _, stem = name.partition("_")
        folder = root / "2026/01/05" / hour.removeprefix("h")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stem}.jsonl").write_bytes(data)
    return str(root)
