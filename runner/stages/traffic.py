"""Replays a dataset through the model and writes the capture tree that an endpoint would have written."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from runner import storage
from runner.domain import Event, Outcome, Payload, plural
from runner.protocols import Model, Track
from runner.records import capture, incident
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
        seed: draws the event ids and the names of the files, so that the same run again rewrites the same files.
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
        features = self.dataset.read(self.track).features
        lines = [line for line in self.dataset.lines() if line.data.strip()]
        if rescale:
            lines = [replace(line, data=incident.rescale(line.data, self.fields, rescale)) for line in lines]
            features = read_dataset(lines, self.fields).features
        bodies = [line.data.decode("utf-8").rstrip("\r\n") for line in lines]
        replies = self.model.reply(features)
        count = len(bodies) if self.count is None else self.count
        rows = [(skip + i) % len(bodies) for i in range(count)]
        events = self._events([(bodies[i], replies[i], i) for i in rows], start)
        files = self._write(self.track(events, "capturing", -(-count // self.batch_rows)))
        return Outcome(f"captured {plural(count, 'record')} from {start:%F %T} UTC on, in {', '.join(map(str, files))}")

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

    def _write(self, events: Iterable[Event]) -> list[Path]:
        """Write one file per UTC hour, named by its first event, and return them."""
        files = []
        for hour, group in itertools.groupby(events, lambda event: f"{event.at:%Y/%m/%d/%H}"):
            first, *others = group
            name = f"{first.at:%M-%S}-{first.at.microsecond // 1000:03d}-{first.event_id}.jsonl"
            files.append(self.tree / hour / name)
            storage.write(files[-1], b"".join(capture.encode(event) for event in (first, *others)))
        return files


def _uuid4(rng: np.random.Generator) -> str:
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))
