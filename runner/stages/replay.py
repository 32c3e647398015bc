"""Replays a dataset through the model and writes the captures that an endpoint or a batch transform would have left."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from runner import storage
from runner.domain.executions import Outcome
from runner.domain.records import Event, Payload
from runner.domain.text import plural
from runner.errors import SettingsError
from runner.protocols import Model, Track
from runner.records import capture, incident, manifests
from runner.records.batches import Batch, batches
from runner.records.payloads import encoding
from runner.records.templates import Template
from runner.sources.dataset import Dataset


@dataclass(frozen=True)
class Replay:
    """Traffic at event times of one's choice, answered in this process and captured.

    Attributes:
        dataset: the records to send.
        model: answers them.
        template: makes the requests' bodies.
        accept: the media type of the responses.
        tree: the folder of the endpoint's variant in the capture tree; of a batch transform, the one with `input/`.
        transform: whether a batch transform reads the records of an hour from a file, instead of an endpoint's events.
        rate: events a second.
        batch_rows: records an event carries.
        count: records to send, None for the dataset once.
        seed: draws the event ids and the names of the files, so that the same run again rewrites the same files.
    """

    dataset: Dataset
    model: Model
    template: Template
    accept: str
    tree: str
    transform: bool
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
        features = incident.rescale(self.dataset.read()[0], rescale)
        count = features.height if self.count is None else self.count
        size = count if self.transform else 1 if self.template.one_by_one else self.batch_rows
        sent = self.track(batches(features, size, count, skip), "capturing", -(-count // size))
        files = self._transform(sent, start) if self.transform else self._endpoint(sent, start)
        return Outcome(f"captured {plural(count, 'record')} from {start:%F %T} UTC on, in {', '.join(files)}")

    def _endpoint(self, sent: Iterable[Batch], start: datetime) -> list[str]:
        """Write one file per UTC hour, named by its first event, and return them."""
        events = self._events(sent, start)
        files = []
        for _, group in itertools.groupby(events, lambda event: f"{event.at:%Y/%m/%d/%H}"):
            first, *others = group
            files.append(storage.join(self.tree, capture.file_name(first.at, first.event_id)))
            storage.write(files[-1], b"".join(capture.encode(event) for event in (first, *others)))
        return files

    def _events(self, sent: Iterable[Batch], start: datetime) -> Iterator[Event]:
        rng = self._rng(start)
        for number, (first, rows) in enumerate(sent):
            (request,) = self._bodies(rows)
            yield Event(
                event_id=_uuid4(rng),
                inference_id=str(first),
                at=start + timedelta(seconds=number / self.rate),
                input=self._payload(self.template.content_type, request),
                output=self._payload(self.accept, self.model.encode_response(rows, self.accept)),
            )

    def _transform(self, sent: Iterable[Batch], start: datetime) -> list[str]:
        """Write the records of a transform job as one file, with the manifest of the hour it ran in."""
        rng = self._rng(start)
        data = storage.join(self.tree, "data", _uuid4(rng))
        storage.write(data, "\n".join(body for batch in sent for body in self._bodies(batch.rows)).encode())
        manifest = storage.join(self.tree, "input", f"{start:%Y/%m/%d/%H}", f"{_uuid4(rng)}.json")
        storage.write(manifest, manifests.encode(data))
        return [manifest]

    def _bodies(self, sent: pl.DataFrame) -> list[str]:
        """Return the requests for rows.

        Raises:
            SettingsError: when they fit no request.
        """
        try:
            return self.template.bodies(sent.rows())
        except ValueError as error:
            raise SettingsError([f"data.traffic: {error}"]) from error

    def _payload(self, content_type: str, body: str) -> Payload:
        return Payload(content_type, body, encoding(content_type))

    def _rng(self, start: datetime) -> np.random.Generator:
        return np.random.default_rng([self.seed, int(start.timestamp())])


def _uuid4(rng: np.random.Generator) -> str:
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))
