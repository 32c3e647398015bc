"""Replays a dataset through the model, and writes the captures of an endpoint or a batch transform job.

The quickstart replays three hours, computes the reference, and monitors each hour.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl

from runner import storage
from runner.domain.executions import HOUR, Execution, Outcome
from runner.domain.numbers import Count, Finite, Seed, plural
from runner.domain.records import Event, Payload
from runner.domain.schedules import first_line
from runner.errors import SettingsError, listed
from runner.protocols import Model, Track
from runner.records import capture
from runner.records.payloads import encoding
from runner.records.templates import Template
from runner.serving.requests import encode_response
from runner.sources.batch_transform import encode_manifest
from runner.sources.dataset import Dataset, MiniBatch, mini_batches, rescaled
from runner.stages.terminal import verdict_text
from runner.types import NO_OTHER_KEYS, Instant, Rate


@dataclass(frozen=True)
class ReplayStage:
    """`stage=replay`; conf/stage/replay.yaml describes the keys."""

    kind: Literal["replay"]
    start: Instant
    rate: Rate
    batch_rows: Count
    count: Count | None
    rescale: dict[str, Finite]
    seed: Seed

    __pydantic_config__ = NO_OTHER_KEYS


@dataclass(frozen=True)
class Replay:
    """Traffic with given event times: a model in this process answers it, and the captures are written.

    Attributes:
        dataset: records to send.
        model: model that answers.
        template: format of the request bodies.
        accept: media type of the responses.
        tree: folder of the endpoint's variant in the capture tree; for a batch transform job, the
            folder that contains `data/` and `input/`.
        transform: whether to write the data file and the manifest of a batch transform job, instead of an endpoint's
            captures.
    """

    settings: ReplayStage
    dataset: Dataset
    model: Model
    template: Template
    accept: str
    tree: str
    transform: bool
    track: Track

    def run(self, skip: int = 0) -> Outcome:
        """Write the captures of the events.

        Args:
            skip: index of the first row of the dataset to send.

        Raises:
            SettingsError: if a feature to rescale is unknown, or records do not fit into a request.
        """
        start = self.settings.start
        features = rescaled(self.dataset.read()[0], self.settings.rescale)
        count = features.height if self.settings.count is None else self.settings.count
        size = count if self.transform else 1 if self.template.one_by_one else self.settings.batch_rows
        sent = self.track(mini_batches(features, size, count, skip), "capturing", -(-count // size))
        files = self._transform(sent, start) if self.transform else self._endpoint(sent, start)
        return Outcome(f"captured {plural(count, 'record')}, starting at {start:%F %T} UTC, in {listed(files)}")

    def _endpoint(self, sent: Iterable[MiniBatch], start: datetime) -> list[str]:
        """Write one file per UTC hour, named after its first event, and return the paths."""
        events = self._events(sent, start)
        files = []
        for _, group in itertools.groupby(events, lambda event: f"{event.at:%Y/%m/%d/%H}"):
            first, *rest = group
            files.append(storage.join(self.tree, capture.file_name(first.at, first.event_id)))
            storage.write(files[-1], b"".join(capture.encode(event) for event in (first, *rest)))
        return files

    def _events(self, sent: Iterable[MiniBatch], start: datetime) -> Iterator[Event]:
        rng = self._rng(start)
        for number, (first, rows) in enumerate(sent):
            (request,) = self._bodies(rows)
            yield Event(
                event_id=_uuid4(rng),
                inference_id=str(first),
                at=start + timedelta(seconds=number / self.settings.rate),
                input=self._payload(self.template.content_type, request),
                output=self._payload(self.accept, encode_response(self.model, rows, self.accept)),
            )

    def _transform(self, sent: Iterable[MiniBatch], start: datetime) -> list[str]:
        """Write the records of a transform job as one file, and its manifest; return the path of the manifest."""
        rng = self._rng(start)
        data = storage.join(self.tree, "data", _uuid4(rng))
        storage.write(data, "\n".join(body for batch in sent for body in self._bodies(batch.rows)).encode())
        manifest = storage.join(self.tree, "input", f"{start:%Y/%m/%d/%H}", f"{_uuid4(rng)}.json")
        storage.write(manifest, encode_manifest(data))
        return [manifest]

    def _bodies(self, sent: pl.DataFrame) -> list[str]:
        """Return the request bodies of rows.

        Raises:
            SettingsError: if the rows do not fit the template.
        """
        try:
            return self.template.bodies(sent.rows())
        except ValueError as error:
            raise SettingsError([f"data.traffic: {error}"]) from error

    def _payload(self, content_type: str, body: str) -> Payload:
        return Payload(content_type, body, encoding(content_type))

    def _rng(self, start: datetime) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, int(start.timestamp())])


def _uuid4(rng: np.random.Generator) -> str:
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))


@dataclass(frozen=True)
class QuickstartStage:
    """`stage=quickstart`; conf/stage/quickstart.yaml describes the keys."""

    kind: Literal["quickstart"]
    start: Instant
    records: Count
    rescale: dict[str, Finite]

    __pydantic_config__ = NO_OTHER_KEYS

    def hours(self) -> list[ReplayStage]:
        """Return the settings of a replay for each hour; features are rescaled in the last one."""
        factors: list[dict[str, float]] = [{}, {}, self.rescale]
        return [
            ReplayStage(
                kind="replay",
                start=self.start + i * HOUR,
                rate=self.records / HOUR.total_seconds(),
                batch_rows=1,
                count=self.records,
                rescale=rescale,
                seed=0,
            )
            for i, rescale in enumerate(factors)
        ]


@dataclass(frozen=True)
class Quickstart:
    """Three hours of a monitored endpoint.

    Attributes:
        traffic: functions that capture one hour of traffic each.
        baseline: function that computes the reference.
        executions: functions that monitor one hour each.
    """

    traffic: Sequence[Callable[[], Outcome]]
    baseline: Callable[[], Outcome]
    executions: Sequence[Callable[[], Execution]]

    def run(self) -> Outcome:
        """Run all steps, and return their messages; succeed if no execution failed."""
        steps = [hour() for hour in self.traffic]
        steps.append(self.baseline())
        executions = [execute() for execute in self.executions]
        message = "\n".join(step.message for step in (*steps, *executions))
        last = verdict_text(executions[-1].directory, executions[-1].message)
        earlier, headline = map(_headline, executions[:-1]), first_line(_headline(executions[-1]))
        short = "\n".join([*(step.message for step in steps), *earlier, headline, "", last])
        succeeded = all(execution.succeeded for execution in executions)
        return Outcome(message, succeeded, text=short if last and succeeded else "")


def _headline(execution: Execution) -> str:
    """Return the status, the window and the headline of an execution, and the path of its report."""
    sentences, *notes = execution.message.split("\n")
    return "\n".join([f"{sentences.partition('. ')[0]}.", *notes])
