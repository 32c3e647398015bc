"""Figures as OpenTelemetry metrics, sent over OTLP/HTTP to a collector."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, ConfigDict
from pydantic.dataclasses import dataclass

from runner.domain.numbers import Count
from runner.domain.publication import MEANINGS, Publication
from runner.errors import PublishError
from runner.publish.library import installed, quiet
from runner.publish.metrics import figures
from runner.types import Seconds, Url

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

PREFIX = "shapwatch."
NO_UNIT = ""
"""Prometheus would take "1" for a ratio, and add that to the name."""
UNSET = 0
"""For the start of what a point sums up: a gauge has none."""
REFUSALS = frozenset(range(400, 500)) - {408, 429}
"""Answers that another try does not change."""


def _no_query(url: str) -> str:
    if "?" in url:
        raise ValueError("expected an address without a query; a token belongs in OTEL_EXPORTER_OTLP_HEADERS")
    return url


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Otel:
    """A collector that takes OTLP over HTTP.

    Each figure is a gauge whose point bears the time of the window's end, with the attributes `endpoint`, `monitor`,
    and where they apply `label`, `feature` and `status`. Headers, certificates and compression are those of the
    standard variables, `OTEL_EXPORTER_OTLP_HEADERS` and so on. Everything has arrived when `publish` returns.

    Attributes:
        endpoint: where metrics are posted to, None for that of `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` or
            `OTEL_EXPORTER_OTLP_ENDPOINT`.
        timeout_seconds: for all of it.
        max_features: features shown, those with the largest attribution.
        max_labels: labels (model outputs) shown, the worst first.
    """

    endpoint: Annotated[Url, AfterValidator(_no_query)] | None
    timeout_seconds: Seconds
    max_features: Count
    max_labels: Count

    def publish(self, publication: Publication) -> None:
        """Send the figures.

        Raises:
            PublishError: when the collector cannot be reached, or refuses.
        """
        with installed("otel"):
            import requests
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics.export import MetricExportResult
        quiet("opentelemetry.exporter", "urllib3")
        answers: list[int] = []
        with ExitStack() as stack:
            session = stack.enter_context(requests.Session())
            session.max_redirects = 0
            session.hooks["response"].append(lambda response, *_, **__: answers.append(response.status_code))
            exporter = OTLPMetricExporter(endpoint=self.endpoint, timeout=self.timeout_seconds, session=session)
            stack.callback(exporter.shutdown)
            if exporter.export(self.metrics(publication)) is not MetricExportResult.SUCCESS:
                raise PublishError("otel", self._problem(answers), retryable=not (answers and answers[-1] in REFUSALS))

    def _problem(self, answers: Sequence[int]) -> str:
        where = self.endpoint or "the collector that OTEL_EXPORTER_OTLP_ENDPOINT names"
        told = f"answered {answers[-1]}" if answers else "cannot be reached"
        return f"{where} {told} within {self.timeout_seconds:g} s"

    def metrics(self, publication: Publication) -> MetricsData:
        """Return the figures as OpenTelemetry has them."""
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

        at = int(publication.window.end.timestamp()) * 10**9
        whose = {"endpoint": publication.endpoint, "monitor": publication.monitor}
        points: dict[str, list[Any]] = {}
        for figure in figures(publication, self.max_features, self.max_labels):
            point = NumberDataPoint(whose | figure.about, UNSET, at, figure.value)
            points.setdefault(figure.name, []).append(point)
        metrics = [Metric(PREFIX + name, MEANINGS[name], NO_UNIT, Gauge(points[name])) for name in points]
        scope = ScopeMetrics(InstrumentationScope("shapwatch"), metrics, "")
        resource = Resource.create({SERVICE_NAME: "shapwatch"})
        return MetricsData([ResourceMetrics(resource, [scope], "")])
