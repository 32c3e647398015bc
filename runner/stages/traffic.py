"""Sends a dataset to an endpoint over HTTP, one request after another, as a client of the endpoint does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from runner.domain.executions import Outcome
from runner.domain.numbers import Count, Finite, plural
from runner.errors import EndpointError, ModelAnswerError, SettingsError, snippet
from runner.models.http import open_client, post
from runner.protocols import Item, Track
from runner.records.templates import Template
from runner.sources.dataset import Dataset, MiniBatch, mini_batches, rescaled
from runner.stages.serve import environment_token
from runner.types import NO_OTHER_KEYS, Rate, Seconds, Url, Variable
from runner.urls import query_secrets, redact, without_secrets

if TYPE_CHECKING:
    import httpx

MAX_CONSECUTIVE_FAILURES = 10
"""Number of consecutive failed requests after which sending stops."""


@dataclass
class TrafficCounts:
    """Counts of requests and records, failures by problem, and the number of failures since the last success."""

    requests: int = 0
    records: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    consecutive_failures: int = 0

    def add(self, records: int, problem: str | None) -> None:
        """Count a request."""
        self.requests += 1
        self.records += records
        self.consecutive_failures = 0 if problem is None else self.consecutive_failures + 1
        if problem:
            self.problems[problem] += 1


@dataclass(frozen=True)
class TrafficStage:
    """`stage=traffic`; conf/stage/traffic.yaml describes the keys."""

    kind: Literal["traffic"]
    url: Url
    rate: Rate
    batch_rows: Count
    count: Count | None
    loop: bool
    rescale: dict[str, Finite]
    timeout_seconds: Seconds
    token_env: Variable

    __pydantic_config__ = NO_OTHER_KEYS

    @property
    def token(self) -> str | None:
        """The bearer token in the environment; see `environment_token`."""
        return environment_token(self.token_env)


@dataclass(frozen=True)
class Traffic:
    """Traffic to an endpoint; the inference ID of a request is the row index of its first record in the dataset.

    Attributes:
        dataset: records to send.
        template: format of the request bodies.
        accept: media type of the responses.
        token: token of the `Authorization: Bearer` header; None sends no header.
    """

    settings: TrafficStage
    dataset: Dataset
    template: Template
    accept: str
    token: str | None
    track: Track

    def run(self) -> Outcome:
        """Send the dataset.

        Raises:
            EndpointError: if many consecutive requests fail.
            SettingsError: if a feature to rescale is unknown, or records do not fit into a request.
        """
        features = rescaled(self.dataset.read()[0], self.settings.rescale)
        size = 1 if self.template.one_by_one else self.settings.batch_rows
        count = None if self.settings.loop else self.settings.count or features.height
        total = None if count is None else -(-count // size)
        counts, start = TrafficCounts(), time.monotonic()
        settings, media = self.settings, self.template.content_type
        with open_client(settings.url, media, self.token, settings.timeout_seconds, connections=1) as client:
            try:
                batches = self.track(mini_batches(features, size, count), "sending", total)
                for batch in paced(batches, self.settings.rate):
                    counts.add(batch.rows.height, self._send(client, batch))
                    self._check(counts)
            except KeyboardInterrupt:
                if not self.settings.loop:
                    raise
        return self._outcome(counts, time.monotonic() - start)

    def _send(self, client: httpx.Client, batch: MiniBatch) -> str | None:
        """Send a request, and return the reason of a failure; None if it succeeded."""
        try:
            (body,) = self.template.bodies(batch.rows.rows())
        except ValueError as error:
            raise SettingsError([f"data.traffic: {error}"]) from error
        try:
            response = post(client, self.settings.url, self._redacted, body.encode(), self.accept, str(batch.start))
        except (EndpointError, ModelAnswerError) as error:
            return str(error)
        if response.status is None:
            return f"no response ({snippet(response.text)})"
        return None if response.is_success else f"{response.status} {snippet(response.text)}"

    def _redacted(self, text: str) -> str:
        return redact(text, self.token or "", *query_secrets(self.settings.url))

    def _check(self, counts: TrafficCounts) -> None:
        if counts.consecutive_failures == MAX_CONSECUTIVE_FAILURES:
            problem = f"{MAX_CONSECUTIVE_FAILURES} requests in a row failed: {', '.join(list(counts.problems)[-3:])}"
            raise EndpointError(
                without_secrets(self.settings.url),
                None,
                problem,
                "check stage.url, and that the endpoint is running (stage=serve)",
            )

    def _outcome(self, counts: TrafficCounts, seconds: float) -> Outcome:
        sent = f"{plural(counts.records, 'record')} in {plural(counts.requests, 'request')}"
        lines = [f"sent {sent} to {without_secrets(self.settings.url)} in {seconds:.1f} s"]
        lines += [f"{plural(count, 'failure')}: {problem}" for problem, count in counts.problems.most_common(10)]
        return Outcome("\n  ".join(lines), succeeded=not counts.problems)


def paced(items: Iterable[Item], rate: float) -> Iterator[Item]:
    """Yield items at `rate` per second; after a delay, yield without pauses until the average rate is restored."""
    start = time.monotonic()
    for number, item in enumerate(items):
        if (wait := start + number / rate - time.monotonic()) > 0:
            time.sleep(wait)
        yield item
