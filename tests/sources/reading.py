"""What a reader takes in, as plain values that outlive the reading, and capture lines to let it read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from runner.domain.executions import Window
from runner.domain.records import Event, Payload
from runner.records.capture import encode
from runner.records.fields import Fields
from runner.sources.intake import RecordCollector
from runner.sources.source import Reader

FIELDS = Fields("features", "score")
HOUR = Window.parse("2026-01-05T09")


class Taken(NamedTuple):
    """What was taken in; `rows` are feature values, `origins` file, line and row, `lost` the rejections by kind."""

    files: tuple[str, ...]
    events: int
    outside: int
    probes: int
    rows: list[tuple[Any, ...]]
    scores: list[list[float]] | None
    origins: list[tuple[str, int, int]]
    rejected: dict[str, int]
    lost: list[dict[str, Any]]

    @property
    def places(self) -> list[tuple[str, int, str]]:
        """File, line and kind of every rejection."""
        return [(rejection["file"], rejection["line"], rejection["kind"]) for rejection in self.lost]


def plain(intake: RecordCollector, files: Sequence[str] = ()) -> Taken:
    """Return what an intake holds."""
    captured = intake.captured(files)
    table = captured.table.collect()
    scores = captured.scores()
    return Taken(
        files=captured.files,
        events=captured.events,
        outside=captured.outside,
        probes=captured.probes,
        rows=captured.features().rows(),
        scores=None if scores is None else scores.tolist(),
        origins=table.select("file", "line", "row").rows(),
        rejected=dict(captured.rejected),
        lost=[orjson.loads(line) for line in captured.rejections],
    )


def taken(reader: Reader, window: Window = HOUR) -> Taken:
    """Return what a reader finds in a window."""
    files = reader.files(window)
    with RecordCollector(reader.fields) as intake:
        reader.take(files, window, intake)
        return plain(intake, [file.name for file in files])


def body(key: str, values: Sequence[Any]) -> Payload:
    """Return a JSON Lines body with one document for each value."""
    return Payload("application/jsonlines", "\n".join(orjson.dumps({key: value}).decode() for value in values), "JSON")


def event(
    *rows: Sequence[Any], clock: str = "09:30:00", scores: Sequence[Any] | None = None, id_: str = "e", **more: Any
) -> bytes:
    """Return the capture line of an invocation with these rows of features, at a time of the day."""
    at = datetime.fromisoformat(f"2026-01-05T{clock}+00:00")
    response = None if scores is None else body("score", scores)
    return encode(Event(id_, at, body("features", rows), response, **more))


def write(root: Path, **files: bytes) -> str:
    """Write files, `h09_a` as `2026/01/05/09/a.jsonl`, and return the root."""
    for name, data in files.items():
        hour, _, stem = name.partition("_")
        folder = root / "2026/01/05" / hour.removeprefix("h")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stem}.jsonl").write_bytes(data)
    return str(root)
