"""OTLP, decoded by a collector of our own."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from runner.errors import PublishError
from runner.publish.otel import Otel
from tests.golden import Golden
from tests.models.servers import Served, always, serving
from tests.publish.publications import NAMES, SECRET, WINDOW, live, nobody, publication


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)


@pytest.fixture
def collector() -> Iterator[Served]:
    """A collector that takes everything."""
    with serving(always(200, "")) as served:
        yield served


def sink(endpoint: str | None, **changes: Any) -> Otel:
    """Return a sink."""
    return Otel(**({"endpoint": endpoint, "timeout_seconds": 0.5, "max_features": 20, "max_labels": 10} | changes))


def points(collector: Served) -> dict[tuple[str, ...], tuple[float, int]]:
    """Return value and time of the points in the one request, by name and attributes."""
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
            about = {each.key: each.value.string_value for each in point.attributes}
            assert (about.pop("endpoint"), about.pop("monitor")) == ("adult", "adult-monitor")
            found[metric.name, *about.values()] = (point.as_double or float(point.as_int), point.time_unix_nano)
    return found


def test_the_figures_have_arrived(collector: Served) -> None:
    """Gauges with attributes, at the time of the window's end, in one request before `publish` returns."""
    sink(f"{collector.url}/v1/metrics").publish(publication())
    found = points(collector)
    assert found["shapwatch.ndcg", "label0"] == (0.95, int(WINDOW.end.timestamp()) * 10**9)
    assert found["shapwatch.attribution", "label0", "income"][0] == 1.5
    assert found["shapwatch.drift_level",][0] == 3
    assert found["shapwatch.execution_status", "Completed"][0] == 1


def test_the_standard_variables_are_followed(collector: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no endpoint is set they say where to, and with which headers."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{SECRET}")
    sink(None).publish(publication())
    assert collector.seen[0].headers["authorization"] == f"Bearer {SECRET}"
    assert points(collector)


def test_names_are_data_and_bounded_in_number(collector: Served) -> None:
    """Any text is an attribute; only the largest are sent."""
    sink(f"{collector.url}/v1/metrics", max_features=len(NAMES)).publish(publication(attributions=live(("no", *NAMES))))
    assert {key[2] for key in points(collector) if key[0] == "shapwatch.attribution"} == set(NAMES)


@pytest.mark.parametrize(
    ("status", "fault", "passing"),
    [(503, None, True), (401, None, False), (302, None, True), (200, "stall", True)],
)
def test_a_collectors_refusal_is_an_error(golden: Golden, status: int, fault: Any, passing: bool) -> None:
    """It names sink, address and status; redirects are not followed, only after a refusal another try would not help.

    Of an answer that does not come in time there is no status.
    """
    with (
        serving(always(status, SECRET, {"Location": f"http://127.0.0.1:1/{SECRET}"}, fault)) as served,
        golden.raises(PublishError) as caught,
    ):
        sink(f"{served.url}/v1/metrics").publish(publication())
    assert (caught.value.sink, caught.value.retryable) == ("otel", passing)
    assert f"{served.url}/v1/metrics" in str(caught.value)
    assert (str(status) in str(caught.value)) is (fault is None)
    assert SECRET not in str(caught.value)


def test_a_refused_connection_may_be_tried_again(caplog: pytest.LogCaptureFixture, golden: Golden) -> None:
    """A refused connection is an error, and the library logs nothing beside it."""
    with nobody() as port, golden.raises(PublishError) as caught:
        sink(f"http://127.0.0.1:{port}/v1/metrics").publish(publication())
    assert caught.value.retryable
    assert not caplog.records


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error names the extra to install; another try would not help."""
    usual = builtins.__import__

    def lacking(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(f"No module named {name!r}")
        return usual(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with golden.raises(PublishError) as caught:
        sink(None).publish(publication())
    assert "shapwatch[otel]" in str(caught.value)
    assert not caught.value.retryable
