"""Replays a dataset through the model and writes the capture tree that an endpoint would have written."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from runner import storage
from runner.domain import Event, Line, Outcome, Payload, plural
from runner.errors import SettingsError
from runner.protocols import Model, Track
from runner.records import capture, payloads
from runner.records.fields import Fields
from runner.records.tables import read_dataset
from runner.sources import Dataset


@dataclass(frozen=True)
class Traffic:
    """Traffic at given event times, captured.

    Attributes:
        dataset: its lines are the requests, sent as they stand.
        model: answers them.
        tree: the folder of the endpoint's variant in the capture tree.
        content_type: of requests and responses.
        rate: events a second.
        batch_rows: records an event carries.
        count: records to send, None for the dataset once.
        seed: draws the event ids and the names of the files, so that a repeated run rewrites the same files.
    """

    dataset: Dataset
    model: Model
    fields: Fields
    tree: Path
    content_type: str
    rate: float
    batch_rows: int
    count: int | None
    seed: int
    track: Track

    def run(self, start: datetime, rescale: Mapping[str, float], skip: int = 0) -> Outcome:
        """Write the captures of events from `start` on; features in `rescale` are multiplied before they are sent.

        Args:
            start: UTC time of the first event.
            rescale: factors by feature name, to rehearse an incident.
            skip: the row of the dataset to start from.
        """
        lines = [line.data.decode("utf-8").rstrip("\r\n") for line in self.dataset.lines() if line.data.strip()]
        features = self.dataset.read().features
        if rescale:
            lines, features = self._rescaled(lines, rescale)
        count = len(lines) if self.count is None else self.count
        chosen = [(skip + i) % len(lines) for i in range(count)]
        replies = self.model.reply(features)
        events = list(self._events([(lines[i], replies[i], i) for i in chosen], start))
        files = self._write(events)
        times = f"{events[0].at:%F %T} to {events[-1].at:%F %T} UTC"
        counts = f"{plural(len(events), 'event')}, {plural(len(chosen), 'record')}"
        return Outcome(f"captured {counts}, {times}, in {plural(files, 'file')} below {self.tree}")

    def _rescaled(self, lines: list[str], rescale: Mapping[str, float]) -> tuple[list[str], pl.DataFrame]:
        """Return the lines with some features multiplied, and their table."""
        keys = self.fields.features.split(".")
        if not all(key.isidentifier() for key in keys):
            problem = (
                f"stage.rescale: data.features={self.fields.features!r} is no plain key, so values cannot be put back"
            )
            raise SettingsError([problem])
        rewritten = []
        for line in lines:
            (document,) = payloads.documents(line)
            values = self.fields.feature_values(document)
            names = self.fields.names(len(values))
            if unknown := [name for name in rescale if name not in names]:
                raise SettingsError([f"stage.rescale: no feature {unknown[0]!r}; the features are {', '.join(names)}"])
            holder: Any = document
            for key in keys[:-1]:
                holder = holder[key]
            holder[keys[-1]] = [_times(value, rescale.get(name)) for name, value in zip(names, values, strict=True)]
            rewritten.append(orjson.dumps(document).decode())
        from_lines = (Line(self.dataset.path.name, i, line.encode()) for i, line in enumerate(rewritten, 1))
        return rewritten, read_dataset(from_lines, self.fields).features

    def _events(self, exchanges: list[tuple[str, str, int]], start: datetime) -> Iterator[Event]:
        rng = np.random.default_rng([self.seed, int(start.timestamp())])
        for number, first in enumerate(range(0, len(exchanges), self.batch_rows)):
            requests, replies, rows = zip(*exchanges[first : first + self.batch_rows], strict=True)
            yield Event(
                event_id=_uuid4(rng),
                inference_id=str(rows[0]),
                at=start + timedelta(seconds=number / self.rate),
                input=Payload(self.content_type, "\n".join(requests), "JSON"),
                output=Payload(self.content_type, "".join(reply + "\n" for reply in replies), "JSON"),
            )

    def _write(self, events: list[Event]) -> int:
        """Write one file per UTC hour, named by its first event, and return how many."""
        hours = [
            (hour, list(group)) for hour, group in itertools.groupby(events, lambda event: f"{event.at:%Y/%m/%d/%H}")
        ]
        for hour, group in self.track(hours, "writing captures", len(hours)):
            first = group[0]
            name = f"{first.at:%M-%S}-{first.at.microsecond // 1000:03d}-{first.event_id}.jsonl"
            storage.write(self.tree / hour / name, b"".join(capture.encode(event) for event in group))
        return len(hours)


def _times(value: Any, factor: float | None) -> Any:
    return value if factor is None or not isinstance(value, int | float) else value * factor


def _uuid4(rng: np.random.Generator) -> str:
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))
