"""The served model, called with boto3's client of SageMaker's runtime."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import polars as pl
import pytest
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from runner.models.linear_learner import LinearLearner
from runner.protocols import Model
from runner.records.fields import Fields
from runner.serving.batching import RequestBatcher
from runner.serving.data_capture import DataCapture
from runner.serving.server import MAX_BODY_BYTES, Application
from tests.builders import DEMO_MODEL, PUBLISHED
from tests.conftest import DEMO
from tests.golden import Golden
from tests.serving.served import lines, serving

LINES = "application/jsonlines"
FIELDS = Fields("features", "score")
ONE, TWO = (DEMO / "traffic.jsonl").read_text().splitlines()[:2]
FIRST, SECOND = DEMO_MODEL.encode_response(
    pl.DataFrame([json.loads(line)["features"] for line in (ONE, TWO)], orient="row"), LINES
).splitlines(keepends=True)


@contextmanager
def runtime(model: Model, capture: Path | None = None, token: str | None = None) -> Iterator[Any]:
    """Yield a client of a served model, with optional capture to a folder."""
    app: Any = Application(RequestBatcher(model, FIELDS.names), FIELDS, "churn", "AllTraffic", token)
    if capture:
        app = DataCapture(app, str(capture), json_content_types=[LINES], min_free_bytes=0)
    login = {"region_name": "us-east-1", "aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    with (
        serving(app) as url,
        closing(boto3.client("sagemaker-runtime", endpoint_url=url, config=config, **login)) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A client of the quickstart's model."""
    with runtime(DEMO_MODEL) as client:
        yield client


def invoke(client: Any, body: str, **arguments: Any) -> dict[str, Any]:
    """Return the response of the endpoint with its body."""
    response: dict[str, Any] = client.invoke_endpoint(**{"EndpointName": "churn", "Body": body, **arguments})
    return {**response, "Body": response["Body"].read().decode()}


def error_response(client: Any, body: str, **arguments: Any) -> dict[str, Any]:
    """Return the response of an error."""
    with pytest.raises(ClientError) as caught:
        invoke(client, body, **arguments)
    response: dict[str, Any] = caught.value.response
    return response


@pytest.mark.parametrize(("body", "response_body"), [(ONE, FIRST), (f"{ONE}\n{TWO}", FIRST + SECOND)])
@pytest.mark.parametrize("types", [{"ContentType": LINES, "Accept": LINES}, {}], ids=["typed", "untyped"])
def test_responses_equal_the_model(client: Any, body: str, response_body: str, types: dict[str, str]) -> None:
    """Responses to one and two records equal the model's, also without a media type."""
    response = invoke(client, body, **types)
    assert (response["Body"], response["ContentType"]) == (response_body, LINES)
    assert response["InvokedProductionVariant"] == "AllTraffic"
    assert response["ResponseMetadata"]["RequestId"]


def test_responses_and_captures_equal_the_published_ones(adult: Path, tmp_path: Path) -> None:
    """Responses and captures equal the published ones, except for ids and times."""
    artifact = adult / "ll-adult-prediction-model.tar.gz"
    model = LinearLearner(kind="linear_learner", artifact=artifact, label_headers=None, deploy=None)
    one, two = (adult / "test-dataset.jsonl").read_text().splitlines()[:2]
    first, second = PUBLISHED.values()
    with runtime(model, tmp_path) as client:
        assert invoke(client, one, ContentType=LINES, Accept=LINES)["Body"] == f"{first}\n"
        assert invoke(client, f"{one}\n{two}", ContentType=LINES, Accept=LINES)["Body"] == f"{first}\n{second}\n"
    captured = lines(tmp_path)
    assert len(captured) == 2
    assert captured[0].startswith(
        rb'{"captureData":{"endpointInput":{"observedContentType":"application/jsonlines","mode":"INPUT",'
        rb'"data":"{\"features\":[28,2,133937,9,13,2,0,0,4,1,15024,0,55,37]}","encoding":"JSON"},'
        rb'"endpointOutput":{"observedContentType":"application/jsonlines","mode":"OUTPUT",'
        rb'"data":"{\"predicted_label\":1,\"score\":0.989977359771728}\n","encoding":"JSON"}},'
        rb'"eventMetadata":{"eventId":"'
    )


def test_successful_calls_are_captured(tmp_path: Path) -> None:
    """Successful calls are captured with SageMaker's keys in their order; failed ones are not."""
    with runtime(DEMO_MODEL, tmp_path) as client:
        invoke(client, f"{ONE}\n{TWO}", ContentType=LINES, InferenceId="7")
        invoke(client, ONE, ContentType=LINES)
        error_response(client, "{", ContentType=LINES, InferenceId="8")
    with_id, without = map(json.loads, lines(tmp_path))
    for event in (with_id, without):
        assert list(event) == ["captureData", "eventMetadata", "eventVersion"]
        assert list(event["captureData"]) == ["endpointInput", "endpointOutput"]
        for side in event["captureData"].values():
            assert list(side) == ["observedContentType", "mode", "data", "encoding"]
    assert list(with_id["eventMetadata"]) == ["eventId", "inferenceId", "inferenceTime"]
    assert list(without["eventMetadata"]) == ["eventId", "inferenceTime"]
    assert with_id["eventMetadata"]["inferenceId"] == "7"
    assert with_id["captureData"]["endpointInput"]["data"] == f"{ONE}\n{TWO}"
    assert with_id["captureData"]["endpointOutput"]["data"] == FIRST + SECOND


def test_custom_attributes_and_variant(client: Any) -> None:
    """Custom attributes are echoed; TargetVariant selects the variant."""
    response = invoke(client, ONE, ContentType=LINES, CustomAttributes="trace=1", TargetVariant="AllTraffic")
    assert (response["Body"], response["CustomAttributes"]) == (FIRST, "trace=1")


def test_model_error_has_all_fields(client: Any, golden: Golden) -> None:
    """An error of the model is a ModelError with all its fields."""
    with pytest.raises(client.exceptions.ModelError) as caught:
        invoke(client, '{"features":[1', ContentType=LINES)
    response = caught.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 400
    golden(response["OriginalMessage"])
    assert response["OriginalMessage"] in response["Error"]["Message"]
    assert response["LogStreamArn"] == "arn:aws:logs:::log-group:/aws/sagemaker/Endpoints/churn"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"EndpointName": "other"}, id="EndpointName"),
        pytest.param({"TargetVariant": "B"}, id="TargetVariant"),
        pytest.param({"InferenceId": "x" * 65}, id="InferenceId"),
    ],
)
def test_validation_errors(client: Any, arguments: dict[str, str], golden: Golden) -> None:
    """An unknown endpoint or variant, or an invalid id, is a ValidationError."""
    response = error_response(client, ONE, **arguments)
    assert response["Error"].keys() == {"Code", "Message"}
    assert response["Error"]["Code"] == "ValidationError"
    golden(response["Error"]["Message"])
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_large_body_is_rejected(client: Any) -> None:
    """The error has the code and the message of SageMaker's runtime."""
    response = error_response(client, " " * (MAX_BODY_BYTES + 1), ContentType=LINES)
    assert response["Error"] == {"Code": "413", "Message": "HTTP content length exceeded 6291456 bytes."}
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_missing_token_is_rejected(golden: Golden) -> None:
    """An AWS signature is not accepted as a bearer token."""
    with runtime(DEMO_MODEL, token="sesame") as client:
        error = error_response(client, ONE)["Error"]
    assert error["Code"] == "AccessDeniedException"
    golden(error["Message"])
