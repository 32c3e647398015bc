"""Metrics sent to moto's simulation of CloudWatch."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import numpy as np
import pytest
from moto.cloudwatch.models import cloudwatch_backends

from runner.cli import CONF
from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import Level
from runner.errors import PublishError
from runner.publish.cloudwatch import BATCH, CloudWatch, cloudwatch_name, metric_data
from tests.golden import Golden
from tests.models.servers import always, serving
from tests.object_store import s3_server, use_endpoint
from tests.publish.publications import (
    NAMES,
    SECRET,
    WINDOW,
    Unreachable,
    closed_port,
    configured_sinks,
    failed_publication,
    live_attributions,
    publication,
)

NAMESPACE = "aws/sagemaker/Endpoints/explainability-metrics"
SINK = CloudWatch(namespace=None, source="endpoint", timeout_seconds=5)


def unreachable(port: int, folder: Path) -> Unreachable:
    """Return a configuration in which the sink cannot publish; it sends nothing about a failed execution."""
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SECRET,
    }
    return Unreachable(environment, ignores_failures=True)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Client of an empty CloudWatch, to which the environment refers."""
    with s3_server(monkeypatch) as bucket:
        cloudwatch_backends.reset()
        login = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        with closing(boto3.client("cloudwatch", endpoint_url=bucket.endpoint, **login)) as client:
            yield client


def average(client: Any, name: str, dimensions: dict[str, str]) -> float:
    """Return the only value of a metric within a minute of the end of the window."""
    answer = client.get_metric_statistics(
        Namespace=NAMESPACE,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=WINDOW.end - timedelta(minutes=1),
        EndTime=WINDOW.end + timedelta(minutes=1),
        Period=60,
        Statistics=["Average"],
    )
    (point,) = answer["Datapoints"]
    assert point["Timestamp"] == WINDOW.end
    return float(point["Average"])


def test_metrics_of_sagemaker_and_of_the_verdict_are_sent(client: Any) -> None:
    """Names, dimensions, values and times are those of SageMaker's monitor, plus the metrics of the verdict."""
    SINK.publish(publication(Level.WARNING))
    listed = client.list_metrics(Namespace=NAMESPACE)["Metrics"]
    found = {}
    for metric in listed:
        dimensions = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
        expected = {"Endpoint": "adult", "MonitoringSchedule": "adult-monitor", "ExplainabilityMethod": "KernelShap"}
        if metric["MetricName"] == "input_distance":
            expected["Feature"] = "income"
        elif metric["MetricName"] not in {"input_level", "changed_inputs"}:
            expected["Label"] = "label0"
        assert {key: value for key, value in dimensions.items() if key != "ValueType"} == expected
        found[metric["MetricName"], dimensions["ValueType"]] = average(client, metric["MetricName"], dimensions)
    assert found == {
        ("feature_age", "GlobalShapValues"): 0.5,
        ("feature_income", "GlobalShapValues"): 1.5,
        ("ExpectedValue", "ExpectedValue"): 0.25,
        ("ndcg", "Verdict"): 0.95,
        ("attribution_shift", "Verdict"): 0.3,
        ("total_log2_change", "Verdict"): -0.5,
        ("label_drift_level", "Verdict"): 3,
        ("input_level", "Verdict"): 3,
        ("changed_inputs", "Verdict"): 1,
        ("input_distance", "Verdict"): 0.5,
    }


@pytest.mark.parametrize("namespace", ["null", "my own"])
@pytest.mark.parametrize("source", sorted(path.stem for path in (CONF / "source").iterdir()))
def test_namespace_and_dimensions_follow_the_source(client: Any, source: str, namespace: str) -> None:
    """Batch transforms have no endpoint; a configured namespace is used for any source."""
    transforms = source == "batch_transform"
    default = "aws/sagemaker/ModelMonitoring/explainability-metrics" if transforms else NAMESPACE
    path = ["source.path=x"] * (source == "file")
    overrides = (f"source={source}", *path, f"publish.cloudwatch.namespace={namespace}")
    (sink,) = configured_sinks("cloudwatch", overrides=overrides)
    sink.publish(publication())
    listed = client.list_metrics()["Metrics"]
    assert {metric["Namespace"] for metric in listed} == {default if namespace == "null" else namespace}
    assert {metric["MetricName"] for metric in listed} >= {"feature_age", "ExpectedValue", "ndcg", "label_drift_level"}
    names = {"MonitoringSchedule", "ExplainabilityMethod", "ValueType"} | (set() if transforms else {"Endpoint"})
    for metric in listed:
        assert {each["Name"] for each in metric["Dimensions"]} - {"Label", "Feature"} == names


def test_many_metrics_are_sent_in_several_requests(client: Any) -> None:
    """All of a thousand features with the longest names arrive."""
    names = tuple(f"{d:04d}" + "\u00e9" * 400 for d in range(1000))
    assert len(names) > 2 * BATCH
    SINK.publish(publication(attributions=live_attributions(names)))
    pages = client.get_paginator("list_metrics").paginate(Namespace=NAMESPACE)
    listed = [metric["MetricName"] for page in pages for metric in page["Metrics"]]
    assert {f"feature_{name[:4]}" for name in names} == {name[:12] for name in listed if name.startswith("feature_")}


def test_each_label_has_its_own_metrics() -> None:
    """The dimension `Label` distinguishes several outputs, also in the verdict."""
    labels = ("basic", "plus \u00e9")
    data = list(metric_data(publication(Level.INFO, attributions=live_attributions(labels=labels)), transforms=False))
    for label in labels:
        dimension = {"Name": "Label", "Value": cloudwatch_name(label)}
        names = [datum["MetricName"] for datum in data if dimension in datum["Dimensions"]]
        verdict = ["ndcg", "label_drift_level", "attribution_shift", "total_log2_change"]
        assert names == ["feature_age", "feature_income", "ExpectedValue", *verdict]


def test_failed_execution_sends_nothing(client: Any) -> None:
    """A gap triggers CloudWatch's alarms on missing data."""
    SINK.publish(failed_publication())
    assert not client.list_metrics(Namespace=NAMESPACE)["Metrics"]


def test_names_become_valid_and_stay_distinct() -> None:
    """Names are at most 255 printable ASCII characters; a valid name is unchanged."""
    names = [
        *(f"feature_{name}" for name in NAMES),
        "",
        " ",
        ":",
        ": x",
        "x ",
        "\ud800",
        "a~0123456789",
        "a\\xe9",
        "a\u00e9",
    ]
    valid = [cloudwatch_name(name) for name in names]
    assert len(set(valid)) == len(names)
    assert all(re.fullmatch(r"(?!:)[ -~]{1,255}", name) and name == name.strip() for name in valid)
    assert cloudwatch_name("feature_Hours per week") == "feature_Hours per week"


def test_nan_is_skipped_and_infinity_becomes_the_largest_value() -> None:
    """SageMaker does the same."""
    values_DL = np.array([[np.inf], [-np.inf], [np.nan]])
    execution = publication(None, attributions=GlobalAttributions(("a", "b", "c"), ("l",), values_DL, np.zeros(1)))
    sent = {datum["MetricName"]: datum["Value"] for datum in metric_data(execution, transforms=False)}
    assert sent == {"feature_a": 2.348543e108, "feature_b": -2.348543e108, "ExpectedValue": 0.0, "ndcg": 0.95}


def test_refused_connection_is_retryable(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error names the sink and the address."""
    with closed_port() as port:
        use_endpoint(monkeypatch, f"http://127.0.0.1:{port}")
        with golden.raises(PublishError) as caught:
            SINK.publish(publication())
    assert (caught.value.sink, caught.value.retryable) == ("cloudwatch", True)
    assert f"127.0.0.1:{port}" in str(caught.value)


@pytest.mark.parametrize(("status", "retryable"), [(500, True), (503, True), (403, False)])
def test_error_response_is_an_error_with_its_status(
    monkeypatch: pytest.MonkeyPatch, golden: Golden, status: int, retryable: bool
) -> None:
    """A server error is retryable, a rejected request is not; the sink itself sends one request."""
    with serving(always(status, "")) as served:
        use_endpoint(monkeypatch, served.url)
        with golden.raises(PublishError) as caught:
            SINK.publish(publication())
        assert len(served.seen) == 1
    assert str(status) in str(caught.value)
    assert caught.value.retryable is retryable


def test_slow_response_times_out(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """After `timeout_seconds` there is a retryable error."""
    with serving(always(200, "", fault="stall")) as served:
        use_endpoint(monkeypatch, served.url)
        with golden.raises(PublishError) as caught:
            replace(SINK, timeout_seconds=0.2).publish(publication())
    assert caught.value.retryable


def test_missing_credentials_are_not_retryable(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error names the credentials."""
    use_endpoint(monkeypatch, "http://127.0.0.1:1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    with golden.raises(PublishError) as caught:
        SINK.publish(publication())
    assert "credentials" in str(caught.value)
    assert not caught.value.retryable


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error names the extra to install, and is not retryable."""
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with golden.raises(PublishError) as caught:
        SINK.publish(publication())
    assert "shapwatch[cloudwatch]" in str(caught.value)
    assert not caught.value.retryable
