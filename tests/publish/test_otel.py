"""OTLP requests, decoded by a test collector."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from runner.errors import PublishError
from runner.publish.otel import Otel
from tests.golden import Golden
from tests.models.servers import RunningServer, always, serving
from tests.publish.publications import (
    NAMES,
    SECRET,
    WINDOW,
    Unreachable,
    closed_port,
    live_attributions,
    publication,
)


def unreachable(port: int, folder: Path) -> Unreachable:
    """Return a configuration in which the sink cannot publish."""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:{SECRET}@127.0.0.1:{port}/{SECRET}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRET}",
    }
    return Unreachable(environment)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove this machine's settings from the environment."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)


@pytest.fixture
def collector() -> Iterator[RunningServer]:
    """A collector that accepts everything."""
    with serving(always(200, "")) as served:
        yield served


def sink(endpoint: str | None, **changes: Any) -> Otel:
    """Return a sink with a short timeout."""
    return Otel(**({"endpoint": endpoint, "timeout_seconds": 0.5, "max_features": 20, "max_labels": 10} | changes))


def points(collector: RunningServer) -> dict[tuple[str, ...], tuple[float, int]]:
    """Return value and time of the data points in the only request, by name and attributes."""
    (seen,) = collector.seen
    assert seen.path == "/v1/metrics"
    (resource,) = ExportMetricsServiceRequest.FromString(seen.body).resource_metrics
    assert "shapwatch" in [
        each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
    ]
    found = {}
    for metric in resource.scope_metrics[0].metrics:
        assert metric.description
        for point in metric.gauge.data_points:
            attributes = {each.key: each.value.string_value for each in point.attributes}
            assert (attributes.pop("endpoint"), attributes.pop("monitor")) == ("adult", "adult-monitor")
            found[metric.name, *attributes.values()] = (point.as_double or float(point.as_int), point.time_unix_nano)
    return found


def test_metrics_arrive(collector: RunningServer) -> None:
    """One request contains gauges with attributes, at the end of the window; `publish` returns after it."""
    sink(f"{collector.url}/v1/metrics").publish(publication())
    found = points(collector)
    assert found["shapwatch.ndcg", "label0"] == (0.95, int(WINDOW.end.timestamp()) * 10**9)
    assert found["shapwatch.attribution", "label0", "income"][0] == 1.5
    assert found["shapwatch.drift_level",][0] == 3
    assert found["shapwatch.execution_status", "Completed"][0] == 1


def test_standard_environment_variables_are_used(collector: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `endpoint` they give address and headers."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{SECRET}")
    sink(None).publish(publication())
    assert collector.seen[0].headers["authorization"] == f"Bearer {SECRET}"
    assert points(collector)


def test_any_name_is_an_attribute_and_their_number_is_limited(collector: RunningServer) -> None:
    """Names may contain any characters; only the features with the largest attributions are sent."""
    sink(f"{collector.url}/v1/metrics", max_features=len(NAMES)).publish(
        publication(attributions=live_attributions(("no", *NAMES)))
    )
    assert {key[2] for key in points(collector) if key[0] == "shapwatch.attribution"} == set(NAMES)


@pytest.mark.parametrize(
    ("status", "fault", "retryable"),
    [(503, None, True), (401, None, False), (302, None, True), (200, "stall", True)],
)
def test_error_response_is_an_error(golden: Golden, status: int, fault: Any, retryable: bool) -> None:
    """The error names sink, address and status; redirects are not followed; only rejections are not retryable.

    A response that times out has no status.
    """
    with (
        serving(always(status, SECRET, {"Location": f"http://127.0.0.1:1/{SECRET}"}, fault)) as served,
        golden.raises(PublishError) as caught,
    ):
        sink(f"{served.url}/v1/metrics").publish(publication())
    assert (caught.value.sink, caught.value.retryable) == ("otel", retryable)
    assert f"{served.url}/v1/metrics" in str(caught.value)
    assert (str(status) in str(caught.value)) is (fault is None)
    assert SECRET not in str(caught.value)


def test_refused_connection_is_retryable(caplog: pytest.LogCaptureFixture, golden: Golden) -> None:
    """There is an error, and the library logs nothing."""
    with closed_port() as port, golden.raises(PublishError) as caught:
        sink(f"http://127.0.0.1:{port}/v1/metrics").publish(publication())
    assert caught.value.retryable
    assert not caplog.records


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error names the extra to install, and is not retryable."""
    original = builtins.__import__

    def lacking(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(f"No module named {name!r}")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with golden.raises(PublishError) as caught:
        sink(None).publish(publication())
    assert "shapwatch[otel]" in str(caught.value)
    assert not caught.value.retryable
