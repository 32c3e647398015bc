"""Sinks: destinations of the metrics and messages of an execution, and a function that publishes to all sinks.

A sink is a dataclass whose fields are its settings (`conf/publish/*.yaml`), with one method `publish(publication)`.
`publish_all` calls all sinks, retries failures and returns messages about sinks that failed. A sink never changes a
verdict. Secrets are read from the environment when a sink publishes. They never appear in settings, messages or logs.

The number of metrics of an execution is limited. Prometheus and OpenTelemetry receive the same metrics.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import LabelResult
from runner.domain.executions import Publication, Status
from runner.domain.numbers import plural
from runner.errors import PublishError, snippet
from runner.protocols import Sink

PAUSE_SECONDS = 1.0
"""Seconds to pause after the first failed attempt; the pause doubles after each further one."""

TIMEOUT_SECONDS = 60.0
"""Seconds that all sinks together may take. If a sink hung, the daemon would stop an execution that has results."""

Sleep = Callable[[float], object]

logger = logging.getLogger("shapwatch.publish")


def publish_all(
    sinks: Sequence[Sink],
    publication: Publication,
    sleep: Sleep,
    attempts: int = 3,
    timeout: float = TIMEOUT_SECONDS,
) -> list[str]:
    """Publish to all sinks at the same time, and return and log a message for each sink that failed; never raises.

    Args:
        sinks: the sinks.
        publication: the execution.
        sleep: function that pauses for a number of seconds.
        attempts: maximum number of attempts for each sink.
        timeout: seconds until unfinished sinks are abandoned.
    """
    futures = [_start(sink, publication, sleep, attempts) for sink in sinks]
    unfinished = wait(futures, timeout).not_done
    found = [
        f"not published to {_name(sink)}: timed out after {timeout:g} s" if future in unfinished else future.result()
        for sink, future in zip(sinks, futures, strict=True)
    ]
    problems = [problem for problem in found if problem]
    for problem in problems:
        logger.warning("%s", problem)
    return problems


def _start(sink: Sink, publication: Publication, sleep: Sleep, attempts: int) -> Future[str | None]:
    """Publish to a sink in a daemon thread, which does not delay the end of the process."""
    future: Future[str | None] = Future()
    Thread(target=lambda: future.set_result(_problem(sink, publication, sleep, attempts)), daemon=True).start()
    return future


def _name(sink: Sink) -> str:
    return type(sink).__name__.lower()


def _problem(sink: Sink, publication: Publication, sleep: Sleep, attempts: int) -> str | None:
    """Publish to a sink, and return the message of a failure."""
    name = _name(sink)
    for attempt in range(1, attempts + 1):
        try:
            sink.publish(publication)
            return None
        except PublishError as error:
            problem = f"not published to {error}"
            if not error.retryable:
                return problem
            sink = error.remaining or sink
        except Exception as error:  # noqa: BLE001  no error of a library may change the verdict
            # the message of the error may contain a secret
            problem = f"not published to {name}: failed with {type(error).__name__}"
        if attempt < attempts:
            sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
    return f"{problem} (after {plural(attempts, 'attempt')})"


@contextmanager
def optional_import(extra: str) -> Iterator[None]:
    """Import an optional library inside this context.

    Raises:
        PublishError: if the library cannot be imported.
    """
    try:
        yield
    except (ImportError, OSError) as error:
        problem = f"needs a library that cannot be imported ({type(error).__name__}: {snippet(error)})"
        raise PublishError(extra, f"{problem}; run pip install 'shapwatch[{extra}]'", retryable=False) from error


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


def _all(publication: Publication, max_features: int, max_labels: int) -> Iterator[Metric]:
    for status in Status:
        if status.terminal:
            yield Metric("execution_status", float(status == publication.status), {"status": status})
    yield Metric("execution_scheduled_timestamp_seconds", publication.scheduled.timestamp(), {})
    if publication.drift:
        yield Metric("drift_level", publication.level.order, {})
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
