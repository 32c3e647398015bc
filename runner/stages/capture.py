"""Shows and saves the contents of a window of captures, like the section "view captured data" of AWS's notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import orjson
import polars as pl

from runner import storage
from runner.domain.executions import Outcome, Window
from runner.domain.numbers import plural
from runner.domain.records import Captured
from runner.errors import listed
from runner.results.documents import dump_json
from runner.sources.source import WindowReader
from runner.types import NO_OTHER_KEYS, Interval

TYPES_SHOWN = 100
"""Maximum number of features whose types are printed."""


@dataclass(frozen=True)
class CaptureStage:
    """`stage=capture`; conf/stage/capture.yaml describes the keys."""

    kind: Literal["capture"]
    window: Interval
    save: Literal["json", "parquet"]

    __pydantic_config__ = NO_OTHER_KEYS


@dataclass(frozen=True)
class Example:
    """A record in the contents of a window.

    Attributes:
        file: file and line of its event, `file:line`.
        at: time of the event, ISO 8601 in UTC; None if unknown.
        features: values by name.
        scores: captured scores; None if any is missing.
    """

    file: str
    event_id: str | None
    inference_id: str | None
    at: str | None
    features: Mapping[str, object]
    scores: Sequence[float] | None


@dataclass(frozen=True)
class Contents:
    """Contents of a window, with the keys of the saved JSON file.

    Attributes:
        window: start and end, ISO 8601 in UTC.
        files: names of the files.
        files_per_hour: number of files by folder.
        events, outside, probes, records, rejected: counts; `Captured` describes them.
        rejections: message of the first rejection of each reason.
        types: types of the features by name.
        example: the first record; None without records.
    """

    window: Mapping[str, str]
    files: tuple[str, ...]
    files_per_hour: Mapping[str, int]
    events: int
    outside: int
    probes: int
    records: int
    rejected: Mapping[str, int]
    rejections: tuple[str, ...]
    types: Mapping[str, str]
    example: Example | None


@dataclass(frozen=True)
class Capture:
    """Inspection of a source.

    Attributes:
        source: source of the records.
        target: folder of the saved documents.
    """

    settings: CaptureStage
    source: WindowReader
    target: Path

    def run(self) -> Outcome:
        """Return the contents of the window as text, and save them as JSON.

        Rejected lines are saved in a second file, and with stage.save=parquet the records in a third one.

        Raises:
            NoData: if no event was captured in the window.
            NoValidRecords: if every record was rejected.
            TooManyRejected: if a larger share was rejected than the settings allow.
        """
        window = self.settings.window
        time = "%Y-%m-%dT%H%M%S" if window.start.second or window.end.second else "%Y-%m-%dT%H%M"
        stem = self.target / f"{window.start:{time}}--{window.end:{time}}"
        with self.source.read(window) as captured:
            found = contents(captured, window)
            written = [f"{stem}.json"]
            for stale in (".rejected.jsonl", ".parquet"):
                Path(f"{stem}{stale}").unlink(missing_ok=True)
            storage.write(written[0], dump_json(asdict(found)))
            if captured.rejected:
                written.append(f"{stem}.rejected.jsonl")
                storage.write(written[-1], captured.rejections)
            if self.settings.save == "parquet" and captured.records:
                written.append(f"{stem}.parquet")
                with storage.replace_file(written[-1]) as path:
                    records(captured).sink_parquet(path)
            self.source.check(captured, window)
        return Outcome("\n".join([describe(found), *(f"  saved in {path}" for path in written)]))


def records(captured: Captured) -> pl.LazyFrame:
    """Return the records to save: columns of their origin, a struct of the features by name, and a list of scores."""
    columns = captured.table.collect_schema().names()
    features = [pl.col(f"feature{d}").alias(name) for d, name in enumerate(captured.names)]
    scores = [name for name in columns if name.startswith("score")]
    origin = [name for name in columns if not name.startswith(("feature", "score"))]
    return captured.table.select(*origin, pl.struct(features).alias("features"), *([_listed(scores)] if scores else []))


def _listed(scores: list[str]) -> pl.Expr:
    """Return the scores as one list; null if a record has none."""
    known = pl.any_horizontal(pl.col(scores).is_not_null())
    return pl.when(known).then(pl.concat_list(scores)).alias("scores")


def contents(captured: Captured, window: Window) -> Contents:
    """Return the contents of a window."""
    types, example = _first_record(captured)
    return Contents(
        window={"start": f"{window.start:%FT%TZ}", "end": f"{window.end:%FT%TZ}"},
        files=captured.files,
        files_per_hour=dict(Counter(file.rpartition("/")[0] for file in captured.files)),
        events=captured.events,
        outside=captured.outside,
        probes=captured.probes,
        records=captured.records,
        rejected=dict(captured.rejected),
        rejections=tuple(map(str, captured.examples)),
        types=types,
        example=example,
    )


def _first_record(captured: Captured) -> tuple[dict[str, str], Example | None]:
    """Return the types of the features by name, and the first record; without records, no types and None."""
    if not captured.records:
        return {}, None
    table = records(captured).head(1).collect()
    features = table.schema["features"]
    assert isinstance(features, pl.Struct)  # noqa: S101
    first = table.row(0, named=True)
    scores = first.get("scores")
    example = Example(
        file=f"{first['file']}:{first['line']}",
        event_id=first["event_id"],
        inference_id=first["inference_id"],
        at=f"{first['at']:%FT%TZ}" if first["at"] else None,
        features=first["features"],
        scores=scores if scores and None not in scores else None,
    )
    return {field.name: str(field.dtype) for field in features.fields}, example


def describe(contents: Contents) -> str:
    """Return the contents of a window as text for a terminal."""
    lines = [f"{contents.window['start']} to {contents.window['end']}"]
    lines += [f"  {folder}: {plural(count, 'file')}" for folder, count in contents.files_per_hour.items()]
    outside = f", {contents.outside} outside the window" if contents.outside else ""
    outside += f", {plural(contents.probes, 'probe')} of shapwatch left out" if contents.probes else ""
    lines.append(f"  {plural(contents.events, 'event')}, {plural(contents.records, 'record')}{outside}")
    lines.append(f"  rejected: {', '.join(f'{kind} {count}' for kind, count in contents.rejected.items()) or 'none'}")
    lines += [f"    {rejection}" for rejection in contents.rejections]
    if contents.example:
        lines.append(f"  types: {listed([f'{name} {dtype}' for name, dtype in contents.types.items()], TYPES_SHOWN)}")
        lines.append(f"  example: {orjson.dumps(asdict(contents.example)).decode()}")
    return "\n".join(lines)
