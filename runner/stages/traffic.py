"""Sends a dataset to an endpoint over HTTP, one request after the other, as the endpoint's clients would."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.domain.executions import Outcome
from runner.domain.text import plural
from runner.errors import EndpointError, SettingsError, snippet
from runner.protocols import Item, Track
from runner.records import incident
from runner.records.batches import Batch, batches
from runner.records.templates import Template
from runner.sources.dataset import Dataset
from runner.urls import shown

if TYPE_CHECKING:
    import httpx

MOST_FAILURES = 10
"""So many requests in a row without a good answer, and no more are sent."""


@dataclass
class Tally:
    """What became of the requests: how many records they carried, and how often each problem occurred."""

    requests: int = 0
    records: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    failures: int = 0

    def add(self, records: int, problem: str | None) -> None:
        """Count a request."""
        self.requests += 1
        self.records += records
        self.failures = 0 if problem is None else self.failures + 1
        if problem:
            self.problems[problem] += 1


@dataclass(frozen=True)
class Traffic:
    """Live traffic; each request's inference id is the place of its first record in the dataset.

    Attributes:
        dataset: the records to send.
        template: makes the requests' bodies; `accept` is the media type of the answers.
        url: of the endpoint's invocations.
        token: for the `Authorization: Bearer` header, None for none.
        rate: requests a second.
        batch_rows: records a request carries.
        count: records to send, None for the dataset once.
        loop: whether to go on without end, until interrupted.
        timeout_seconds: for an answer.
    """

    dataset: Dataset
    template: Template
    accept: str
    url: str
    token: str | None
    rate: float
    batch_rows: int
    count: int | None
    loop: bool
    timeout_seconds: float
    track: Track

    def run(self, rescale: Mapping[str, float]) -> Outcome:
        """Send the dataset; features in `rescale` are multiplied before.

        Raises:
            EndpointError: when many requests in a row got no good answer.
        """
        import httpx

        features = incident.rescale(self.dataset.read()[0], rescale)
        size = 1 if self.template.one_by_one else self.batch_rows
        count = None if self.loop else self.count or features.height
        total = None if count is None else -(-count // size)
        tally, start = Tally(), time.monotonic()
        with httpx.Client(timeout=self.timeout_seconds, headers=self._headers()) as client:
            try:
                for batch in paced(self.track(batches(features, size, count), "sending", total), self.rate):
                    tally.add(batch.rows.height, self._send(client, batch))
                    self._check(tally)
            except KeyboardInterrupt:
                if not self.loop:
                    raise
        return self._outcome(tally, time.monotonic() - start)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": self.template.content_type, "Accept": self.accept}
        return headers | ({"Authorization": f"Bearer {self.token}"} if self.token else {})

    def _send(self, client: httpx.Client, batch: Batch) -> str | None:
        """Return what was wrong with the answer, None where nothing was."""
        import httpx

        try:
            (body,) = self.template.bodies(batch.rows.rows())
        except ValueError as error:
            raise SettingsError([f"data.traffic: {error}"]) from error
        try:
            marks = {"X-Amzn-SageMaker-Inference-Id": str(batch.first)}
            answer = client.post(self.url, content=body.encode(), headers=marks)
        except httpx.HTTPError as error:
            return f"no answer ({snippet(error) or type(error).__name__})"
        return None if answer.is_success else f"{answer.status_code} {snippet(answer.text)}"

    def _check(self, tally: Tally) -> None:
        if tally.failures == MOST_FAILURES:
            problem = f"{MOST_FAILURES} requests in a row failed: {', '.join(list(tally.problems)[-3:])}"
            raise EndpointError(
                shown(self.url), None, problem, "check stage.url, and that stage=serve or an endpoint is up there"
            )

    def _outcome(self, tally: Tally, seconds: float) -> Outcome:
        what = f"{plural(tally.records, 'record')} in {plural(tally.requests, 'request')}"
        lines = [f"sent {what} to {shown(self.url)} in {seconds:.1f} s"]
        lines += [f"{plural(count, 'failure')}: {problem}" for problem, count in tally.problems.most_common(10)]
        return Outcome("\n  ".join(lines), succeeded=not tally.problems)


def paced(items: Iterable[Item], rate: float) -> Iterator[Item]:
    """Yield items no faster than `rate` a second; lost time is caught up with."""
    start = time.monotonic()
    for number, item in enumerate(items):
        if (wait := start + number / rate - time.monotonic()) > 0:
            time.sleep(wait)
        yield item
