"""Sinks: destinations of the metrics and messages of an execution, and a function that publishes to all sinks.

A sink is a dataclass whose fields are its settings (`conf/publish/*.yaml`), with one method `publish(publication)`.
`publish_all` calls all sinks at the same time, retries failures and returns messages about sinks that failed. A sink
may return parts, such as the recipients of a message, which are then published apart from each other. A sink never
changes a verdict. Secrets are read from the environment when a sink publishes. They never appear in settings, messages
or logs.

The number of metrics of an execution is limited. Prometheus and OpenTelemetry receive the same metrics.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import DriftResult, LabelResult, highest
from runner.domain.executions import Publication, Status
from runner.domain.numbers import plural
from runner.errors import PublishError, import_problem
from runner.protocols import Sink

if TYPE_CHECKING:
    from requests import Response

PAUSE_SECONDS = 1.0
"""Seconds to pause after the first failed attempt; the pause doubles after each further one."""

TIMEOUT_SECONDS = 30.0
"""Seconds that one sink, or one of its recipients, may take with all attempts."""

MAX_CONCURRENT = 256
"""Maximum number of sinks and recipients that are served at the same time."""

MAX_RESPONSE_BYTES = 2**20
"""Number of bytes of a response of a sink after which no more are read."""

CHUNK_BYTES = 65_536
"""Number of bytes that are read at a time."""

MAX_PROBLEMS = 20
"""Maximum number of messages about failures."""

Sleep = Callable[[float], object]

logger = logging.getLogger("shapwatch.publish")


@dataclass(eq=False)
class Delivery:
    """Publication to one sink, or to one of its parts.

    Attributes:
        name: name of the sink, followed by that of the part.
        sink: the sink.
        deadline: time of a monotonic clock at which the delivery is abandoned.
        abandoned: event that prevents further attempts.
    """

    name: str
    sink: Sink
    deadline: float = math.inf
    abandoned: Event = field(default_factory=Event)


@dataclass(frozen=True)
class DeliveryResult:
    """End of a delivery: its problem, None after a success, and its parts, which are not yet published."""

    delivery: Delivery
    problem: str | None
    parts: Mapping[str, Sink] = field(default_factory=dict)


def publish_all(
    sinks: Sequence[Sink],
    publication: Publication,
    sleep: Sleep,
    attempts: int = 3,
    timeout: float = TIMEOUT_SECONDS,
) -> list[str]:
    """Publish to all sinks, and return and log messages about the failed ones; never raises.

    All sinks and their parts are published at the same time, in daemon threads, which do not delay the end of the
    process. One that hangs is abandoned after its own timeout and delays no other.

    Args:
        sinks: the sinks.
        publication: the execution.
        sleep: function that pauses for a number of seconds.
        attempts: maximum number of attempts for each sink and part.
        timeout: seconds that each sink and part may take.
    """
    waiting, running = deque(Delivery(_name(sink), sink) for sink in sinks), dict[Delivery, None]()
    results, problems = SimpleQueue[DeliveryResult](), list[str]()

    def run(delivery: Delivery) -> None:
        results.put(_delivered(delivery, publication, sleep, attempts))

    while waiting or running:
        while waiting and len(running) < MAX_CONCURRENT:
            delivery = waiting.popleft()
            delivery.deadline = monotonic() + timeout
            try:
                Thread(target=run, args=(delivery,), daemon=True).start()
            except RuntimeError as error:  # no more threads are available
                if running:
                    waiting.appendleft(delivery)
                    break
                problems.append(f"not published to {delivery.name}: {error}")
            else:
                running[delivery] = None
        if running:
            result = _next_result(results, running, timeout)
            waiting += [Delivery(f"{result.delivery.name}: {name}", part) for name, part in result.parts.items()]
            problems += [result.problem] if result.problem else []
    return _logged(problems)


def _next_result(results: SimpleQueue[DeliveryResult], running: dict[Delivery, None], timeout: float) -> DeliveryResult:
    """Return the next result, or abandon the delivery that has reached its deadline.

    Args:
        results: queue of results, also of abandoned deliveries.
        running: deliveries that have not ended, the earliest deadline first; the one of the result is removed.
        timeout: seconds that a delivery may take.
    """
    first = next(iter(running))
    with suppress(Empty):
        while True:  # a result that waits in the queue counts, even after the deadline
            result = results.get(timeout=max(first.deadline - monotonic(), 0))
            if result.delivery in running:
                del running[result.delivery]
                return result
    del running[first]
    first.abandoned.set()
    return DeliveryResult(first, f"not published to {first.name}: timed out after {timeout:g} s")


def _delivered(delivery: Delivery, publication: Publication, sleep: Sleep, attempts: int) -> DeliveryResult:
    """Publish to a sink or a part with several attempts, and return the result; never raises."""
    sink, problem = delivery.sink, ""
    for attempt in range(1, attempts + 1):
        if delivery.abandoned.is_set():
            break
        try:
            parts = sink.publish(publication)
            # a sink of a user may return anything
            return DeliveryResult(delivery, None, parts if isinstance(parts, Mapping) else {})
        except PublishError as error:
            problem = f"not published to {error}"
            if not error.retryable:
                return DeliveryResult(delivery, problem)
            sink = error.remaining or sink
        except BaseException as error:  # noqa: BLE001  no error of a library may change the verdict
            # the message of the error may contain a secret
            problem = f"not published to {delivery.name}: failed with {type(error).__name__}"
        if attempt < attempts:
            sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
    return DeliveryResult(delivery, f"{problem} (after {plural(attempts, 'attempt')})")


def _logged(problems: list[str]) -> list[str]:
    """Log messages about failures, and return them; of many, only the first ones and the number of the others."""
    if len(problems) > MAX_PROBLEMS:
        more = len(problems) - MAX_PROBLEMS
        problems = [*problems[:MAX_PROBLEMS], f"not published to {more:,} more sinks or recipients"]
    for problem in problems:
        logger.warning("%s", problem)
    return problems


def _name(sink: Sink) -> str:
    return type(sink).__name__.lower()


@contextmanager
def optional_import(extra: str) -> Iterator[None]:
    """Import an optional library inside this context.

    Raises:
        PublishError: if the library cannot be imported.
    """
    try:
        yield
    except (ImportError, OSError) as error:
        raise PublishError(extra, import_problem(extra, error), retryable=False) from error


def read_beginning(response: Response, **_: object) -> None:
    """Read the beginning of a response, as a hook of requests; the rest is of no use, and may be endless."""
    content = bytearray()
    for chunk in response.iter_content(CHUNK_BYTES):
        content += chunk
        if len(content) >= MAX_RESPONSE_BYTES:
            break
    response._content = bytes(content)
    response._content_consumed = True
    response.close()


def silence(*loggers: str) -> None:
    """Turn off the logs of libraries, which quote addresses that may contain secrets."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class Metric:
    """A finite number with its dimensions.

    Attributes:
        name: a key of `METRICS`.
        value: the number.
        dimensions: label, feature or status; endpoint and monitor come from the publication.
    """

    name: str
    value: float
    dimensions: dict[str, str]


def metrics(publication: Publication, max_features: int, max_labels: int) -> Iterator[Metric]:
    """Yield the metrics of an execution, without undefined ones.

    Args:
        publication: the execution.
        max_features: maximum number of features, the largest absolute attribution to a published label first.
        max_labels: maximum number of labels, the highest drift level first, then the lowest nDCG.
    """
    for metric in _all(publication, max_features, max_labels):
        if math.isfinite(metric.value):
            yield metric


def label_metrics(result: LabelResult) -> Iterator[tuple[str, float]]:
    """Yield the name and the value of each metric of one label."""
    yield "label_drift_level", float(result.level.order)
    if result.attribution_shift.value is not None:
        yield "attribution_shift", result.attribution_shift.value
    if result.total_log2_change.value is not None:
        yield "total_log2_change", result.total_log2_change.value


def input_metrics(drift: DriftResult, most: int) -> Iterator[tuple[str, float, str | None]]:
    """Yield the name, the value and the feature of each metric of the inputs; None for all features together.

    Args:
        drift: result of the statistical tests.
        most: maximum number of changed features, the highest level first.
    """
    if drift.inputs:
        changed = drift.changed_inputs
        yield "input_level", float(highest([each.level for each in drift.inputs]).order), None
        yield "changed_inputs", float(len(changed)), None
        for each in changed[:most]:
            yield "input_distance", each.size, each.name


def _all(publication: Publication, max_features: int, max_labels: int) -> Iterator[Metric]:
    for status in Status:
        if status.terminal:
            yield Metric("execution_status", float(status == publication.status), {"status": status})
    yield Metric("execution_scheduled_timestamp_seconds", publication.scheduled.timestamp(), {})
    if publication.drift:
        yield Metric("drift_level", publication.level.order, {})
        for name, value, feature in input_metrics(publication.drift, max_features):
            yield Metric(name, value, {} if feature is None else {"feature": feature})
    labels = _worst_first(publication)[:max_labels]
    for result in publication.drift.labels if publication.drift else ():
        if result.label in labels:
            for name, value in label_metrics(result):
                yield Metric(name, value, {"label": result.label})
    for label in labels:
        if label in publication.ndcg:
            yield Metric("ndcg", publication.ndcg[label], {"label": label})
    if publication.attributions:
        yield from _attributions(publication.attributions, labels, max_features)


def _worst_first(publication: Publication) -> list[str]:
    """Return the labels, sorted by descending drift level, then by ascending nDCG."""
    levels = {result.label: result.level.order for result in publication.drift.labels} if publication.drift else {}
    labels = publication.attributions.labels if publication.attributions else ()
    return sorted(labels, key=lambda label: (-levels.get(label, 0), publication.ndcg.get(label, math.inf)))


def _attributions(live: GlobalAttributions, labels: list[str], max_features: int) -> Iterator[Metric]:
    columns = [live.labels.index(label) for label in labels]
    largest_D = abs(live.values_DL[:, columns]).max(axis=1, initial=0.0)
    for d in sorted(range(len(live.names)), key=lambda d: -largest_D[d])[:max_features]:
        for label, column in zip(labels, columns, strict=True):
            yield Metric("attribution", float(live.values_DL[d, column]), {"label": label, "feature": live.names[d]})
