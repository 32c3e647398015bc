"""Metrics for an OpenTelemetry collector, sent over OTLP/HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, ConfigDict
from pydantic.dataclasses import dataclass

from runner.domain.executions import METRICS, Publication
from runner.domain.numbers import Count
from runner.errors import PublishError
from runner.publish import metrics, optional_import, read_beginning, silence
from runner.types import Seconds, Url

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

PREFIX = "shapwatch."
NO_UNIT = ""
"""Unit of all metrics. It is empty, because Prometheus appends `_ratio` to the name of a metric with unit "1"."""
NO_START = 0
"""Start time of a data point; a gauge has none."""
NON_RETRYABLE = frozenset(range(400, 500)) - {408, 429}
"""HTTP status codes of responses that a retry would not change."""


def _without_query(url: str) -> str:
    if "?" in url:
        raise ValueError("expected a URL without a query; set a token in OTEL_EXPORTER_OTLP_HEADERS")
    return url


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Otel:
    """A sink that sends metrics to a collector over OTLP/HTTP.

    Each metric is a gauge at the end of the window, with the attributes `endpoint`, `monitor`, and for some metrics
    `label`, `feature` or `status`. Headers, certificates and compression come from the standard variables such as
    `OTEL_EXPORTER_OTLP_HEADERS`. `publish` returns after the collector has received everything.

    Attributes:
        endpoint: URL for metrics, None for `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`.
        timeout_seconds: timeout of the whole export, in seconds.
        max_features: maximum number of features, largest attribution first.
        max_labels: maximum number of labels (model outputs), worst first.
    """

    endpoint: Annotated[Url, AfterValidator(_without_query)] | None
    timeout_seconds: Seconds
    max_features: Count
    max_labels: Count

    def publish(self, publication: Publication) -> None:
        """Send the metrics.

        Raises:
            PublishError: if the collector is unreachable or rejects the request.
        """
        with optional_import("otel"):
            import requests
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics.export import MetricExportResult
        silence("opentelemetry.exporter", "urllib3")
        statuses: list[int] = []
        with ExitStack() as stack:
            session = stack.enter_context(requests.Session())
            session.max_redirects = 0
            session.hooks["response"].append(read_beginning)
            session.hooks["response"].append(lambda response, *_, **__: statuses.append(response.status_code))
            exporter = OTLPMetricExporter(endpoint=self.endpoint, timeout=self.timeout_seconds, session=session)
            stack.callback(exporter.shutdown)
            if exporter.export(self.metrics_data(publication)) is not MetricExportResult.SUCCESS:
                rejected = bool(statuses) and statuses[-1] in NON_RETRYABLE
                raise PublishError("otel", self._problem(statuses), retryable=not rejected)

    def _problem(self, statuses: Sequence[int]) -> str:
        collector = self.endpoint or "the collector in OTEL_EXPORTER_OTLP_ENDPOINT"
        problem = f"answered {statuses[-1]}" if statuses else f"did not answer within {self.timeout_seconds:g} s"
        return f"{collector} {problem}; check its address and health"

    def metrics_data(self, publication: Publication) -> MetricsData:
        """Return the metrics of an execution as an object of the OpenTelemetry SDK."""
        from opentelemetry.sdk.metrics.export import (
            Gauge,
            Metric,
            MetricsData,
            NumberDataPoint,
            ResourceMetrics,
            ScopeMetrics,
        )
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        time = int(publication.window.end.timestamp()) * 10**9
        monitor = {"endpoint": publication.endpoint, "monitor": publication.monitor}
        points: dict[str, list[Any]] = {}
        for metric in metrics(publication, self.max_features, self.max_labels):
            point = NumberDataPoint(monitor | metric.dimensions, NO_START, time, metric.value)
            points.setdefault(metric.name, []).append(point)
        gauges = [Metric(PREFIX + name, METRICS[name], NO_UNIT, Gauge(points[name])) for name in points]
        scope = ScopeMetrics(InstrumentationScope("shapwatch"), gauges, "")
        resource = Resource.create({SERVICE_NAME: "shapwatch"})
        return MetricsData([ResourceMetrics(resource, [scope], "")])
