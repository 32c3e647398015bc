"""CloudWatch, as moto's server plays it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import boto3  # type: ignore[import-untyped]
import numpy as np
import pytest
from moto.cloudwatch.models import cloudwatch_backends

from runner.cli import CONF
from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import Level
from runner.errors import PublishError
from runner.publish.cloudwatch import BATCH, CloudWatch, legal, metric_data
from tests.golden import Golden
from tests.models.servers import always, serving
from tests.object_store import s3_server, use_endpoint
from tests.publish.publications import NAMES, WINDOW, failure, live, nobody, publication
from tests.publish.test_contract import chosen

NAMESPACE = "aws/sagemaker/Endpoints/explainability-metrics"
SINK = CloudWatch(namespace=None, source="endpoint", timeout_seconds=5)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty CloudWatch, which the environment describes."""
    with s3_server(monkeypatch) as bucket:
        cloudwatch_backends.reset()
        login = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        with closing(boto3.client("cloudwatch", endpoint_url=bucket.endpoint, **login)) as client:
            yield client


def average(client: Any, name: str, dimensions: dict[str, str]) -> float:
    """Return the only value of a metric in the minute of the window's end."""
    asked = client.get_metric_statistics(
        Namespace=NAMESPACE,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=WINDOW.end - timedelta(minutes=1),
        EndTime=WINDOW.end + timedelta(minutes=1),
        Period=60,
        Statistics=["Average"],
    )
    (point,) = asked["Datapoints"]
    assert point["Timestamp"] == WINDOW.end
    return float(point["Average"])


def test_the_contracts_metrics_and_ours_are_there(client: Any) -> None:
    """Names, dimensions, values and times are those of SageMaker's monitor; the verdict stands beside them."""
    SINK.publish(publication(Level.WARNING))
    listed = client.list_metrics(Namespace=NAMESPACE)["Metrics"]
    found = {}
    for metric in listed:
        dimensions = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
        assert [dimensions[key] for key in ("Endpoint", "MonitoringSchedule", "ExplainabilityMethod", "Label")] == [
            "adult",
            "adult-monitor",
            "KernelShap",
            "label0",
        ]
        found[metric["MetricName"], dimensions["ValueType"]] = average(client, metric["MetricName"], dimensions)
    assert found == {
        ("feature_age", "GlobalShapValues"): 0.5,
        ("feature_income", "GlobalShapValues"): 1.5,
        ("ExpectedValue", "ExpectedValue"): 0.25,
        ("ndcg", "Verdict"): 0.95,
        ("attribution_shift", "Verdict"): 0.3,
        ("mass_log2", "Verdict"): -0.5,
        ("drift_level", "Verdict"): 3,
    }


@pytest.mark.parametrize("namespace", ["null", "my own"])
@pytest.mark.parametrize("source", sorted(path.stem for path in (CONF / "source").iterdir()))
def test_the_form_follows_the_source(client: Any, source: str, namespace: str) -> None:
    """There is no endpoint behind a batch transform; a namespace of one's own stays whatever the source is."""
    transforms = source == "batch_transform"
    usual = "aws/sagemaker/ModelMonitoring/explainability-metrics" if transforms else NAMESPACE
    path = ["source.path=x"] * (source == "file")
    overrides = (f"source={source}", *path, f"publish.cloudwatch.namespace={namespace}")
    (sink,) = chosen("cloudwatch", overrides=overrides)
    sink.publish(publication())
    listed = client.list_metrics()["Metrics"]
    assert {metric["Namespace"] for metric in listed} == {usual if namespace == "null" else namespace}
    assert {metric["MetricName"] for metric in listed} >= {"feature_age", "ExpectedValue", "ndcg", "drift_level"}
    names = {"MonitoringSchedule", "ExplainabilityMethod", "Label", "ValueType"} | (
        set() if transforms else {"Endpoint"}
    )
    for metric in listed:
        assert {each["Name"] for each in metric["Dimensions"]} == names


def test_more_figures_than_a_request_takes_are_sent_in_several(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand features with the longest names arrive, all of them."""
    names = tuple(f"{d:04d}" + "\u00e9" * 400 for d in range(1000))
    assert len(names) > 2 * BATCH
    SINK.publish(publication(attributions=live(names)))
    pages = client.get_paginator("list_metrics").paginate(Namespace=NAMESPACE)
    listed = [metric["MetricName"] for page in pages for metric in page["Metrics"]]
    assert {f"feature_{name[:4]}" for name in names} == {name[:12] for name in listed if name.startswith("feature_")}


def test_each_label_has_figures_of_its_own() -> None:
    """With several outputs the dimension `Label` tells them apart, in the verdict too."""
    labels = ("basic", "plus \u00e9")
    told = publication(Level.INFO, attributions=live(labels=labels))
    data = list(metric_data(told, transforms=False))
    for label in labels:
        dimension = {"Name": "Label", "Value": legal(label)}
        names = [datum["MetricName"] for datum in data if dimension in datum["Dimensions"]]
        ours = ["ndcg", "drift_level", "attribution_shift", "mass_log2"]
        assert names == ["feature_age", "feature_income", "ExpectedValue", *ours]


def test_a_failure_without_figures_sends_nothing(client: Any) -> None:
    """An execution that found nothing leaves a gap, which is what CloudWatch's alarms on missing data look for."""
    SINK.publish(failure())
    assert not client.list_metrics(Namespace=NAMESPACE)["Metrics"]


def test_names_become_legal_and_stay_distinct(golden: Golden) -> None:
    """Printable ASCII of at most 255 characters, and no two names meet; a name that is legal stays."""
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
    made = [legal(name) for name in names]
    assert len(set(made)) == len(names)
    assert all(re.fullmatch(r"(?!:)[ -~]{1,255}", name) and name == name.strip() for name in made)
    golden(legal("feature_Hours per week"))
    assert not {legal(name) for name in made} - {legal(legal(name)) for name in names}


def test_what_is_no_number_is_not_sent_and_infinity_is_the_largest_one() -> None:
    """As SageMaker has it."""
    values_DL = np.array([[np.inf], [-np.inf], [np.nan]])
    told = publication(None, attributions=GlobalAttributions(("a", "b", "c"), ("l",), values_DL, np.zeros(1)))
    sent = {datum["MetricName"]: datum["Value"] for datum in metric_data(told, transforms=False)}
    assert sent == {"feature_a": 2.348543e108, "feature_b": -2.348543e108, "ExpectedValue": 0.0, "ndcg": 0.95}


def test_a_refused_connection_may_be_tried_again(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error names the sink and the address; another try may help."""
    with nobody() as port:
        use_endpoint(monkeypatch, f"http://127.0.0.1:{port}")
        with golden.raises(PublishError) as caught:
            SINK.publish(publication())
    assert (caught.value.sink, caught.value.retryable) == ("cloudwatch", True)
    assert f"127.0.0.1:{port}" in str(caught.value)


@pytest.mark.parametrize(("status", "passing"), [(500, True), (503, True), (403, False)])
def test_a_refusal_is_an_error_with_its_status(
    monkeypatch: pytest.MonkeyPatch, golden: Golden, status: int, passing: bool
) -> None:
    """Another try may help after a server's failure, not after a refusal; the server is asked once."""
    with serving(always(status, "")) as served:
        use_endpoint(monkeypatch, served.url)
        with golden.raises(PublishError) as caught:
            SINK.publish(publication())
        assert len(served.seen) == 1
    assert str(status) in str(caught.value)
    assert caught.value.retryable is passing


def test_a_slow_answer_times_out(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """After `timeout_seconds` it is an error; another try may help."""
    with serving(always(200, "", fault="stall")) as served:
        use_endpoint(monkeypatch, served.url)
        with golden.raises(PublishError) as caught:
            replace(SINK, timeout_seconds=0.2).publish(publication())
    assert caught.value.retryable


def test_missing_credentials_are_an_error(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error names what boto3 needs; another try would not help."""
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


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error names the extra to install; another try would not help."""
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with golden.raises(PublishError) as caught:
        SINK.publish(publication())
    assert "shapwatch[cloudwatch]" in str(caught.value)
    assert not caught.value.retryable
