"""A model behind a SageMaker endpoint: boto3 with a server that implements the runtime's API."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import ValidationError

from runner import cli
from runner.errors import EndpointError, SettingsError
from runner.models.sagemaker import SageMaker
from runner.probes import probe_id
from tests.cli_runner import HANG_SECONDS
from tests.golden import Golden
from tests.models.contract import ModelContract
from tests.models.people import PEOPLE, linear_model
from tests.models.servers import (
    FEATURES,
    MODEL,
    SCORING,
    ReceivedRequest,
    Reply,
    Responder,
    credentials,
    lasting_model,
    sagemaker,
    serving,
)

SECRET = "hush-hush"
CONTAINER_MESSAGE = "out of memory"

CONTRACT = ModelContract(
    lambda _, number: lasting_model("sagemaker", linear_model(number), PEOPLE.columns),
    PEOPLE,
    exact=True,
    in_process=False,
)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials(monkeypatch)


def runtime(container: Responder) -> Responder:
    """Return a responder with the runtime's API, for the responder of a container."""

    def respond(seen: ReceivedRequest) -> Reply:
        assert (seen.method, seen.path) == ("POST", "/endpoints/churn/invocations")
        assert seen.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=key/")
        assert "/us-east-1/sagemaker/aws4_request" in seen.headers["authorization"]
        reply = container(seen)
        return reply._replace(headers={"Content-Type": seen.headers["accept"], **reply.headers})

    return respond


def runtime_error(code: str, status: int, **more: Any) -> Reply:
    """Return an error response of the runtime."""
    return Reply(status, json.dumps({"Message": "no", **more}), {"x-amzn-ErrorType": code})


def model_error(status: int) -> Reply:
    """Return the runtime's response to an error of the container."""
    return runtime_error("ModelError", 424, OriginalStatusCode=status, OriginalMessage=CONTAINER_MESSAGE)


def test_scores_equal_the_served_model() -> None:
    """Scores of an endpoint are bit-identical to those of its model."""
    with serving(runtime(SCORING)) as served:
        model = sagemaker(served.url, max_request_rows=20)
        assert model.predict(FEATURES).tobytes() == MODEL.predict(FEATURES).tobytes()
        assert model.calls_made == model.planned_calls(FEATURES)
        assert len(served.seen) == 11
        assert model.identity is None


def test_request_headers_and_body() -> None:
    """Media types, inference id, variant and component are headers of the request."""
    with serving(runtime(SCORING)) as served:
        sagemaker(served.url).predict(FEATURES[:1])
        model = sagemaker(
            served.url, target_variant="blue", inference_component="part", accept_type="text/csv", score=0
        )
        model.predict(FEATURES[:1])
        plain, chosen = (seen.headers for seen in served.seen)
    assert plain["content-type"] == plain["accept"] == "application/jsonlines"
    assert plain["x-amzn-sagemaker-inference-id"] == probe_id(1)
    assert not {"x-amzn-sagemaker-target-variant", "x-amzn-sagemaker-inference-component"} & set(plain)
    assert chosen["x-amzn-sagemaker-target-variant"] == "blue"
    assert chosen["x-amzn-sagemaker-inference-component"] == "part"
    assert chosen["accept"] == "text/csv"


def stall(_: ReceivedRequest) -> Reply:
    """Send nothing."""
    return Reply(200, "", fault="stall")


@pytest.mark.parametrize(
    "fault",
    [
        lambda _: model_error(500),
        lambda _: model_error(507),
        lambda _: model_error(408),
        lambda _: runtime_error("ServiceUnavailable", 503),
        lambda _: runtime_error("InternalDependencyException", 530),
        lambda _: runtime_error("ModelNotReadyException", 429),
        lambda _: runtime_error("ThrottlingException", 400),
        lambda _: Reply(200, "", fault="reset"),
        stall,
        lambda seen: SCORING(seen)._replace(fault="truncate"),
    ],
    ids=["500", "507", "408", "503", "530", "429", "throttled", "reset", "stall", "truncate"],
)
def test_retryable_errors_do_not_change_scores(fault: Callable[[ReceivedRequest], Reply]) -> None:
    """Failed calls are retried and counted; boto3 itself makes no retries."""
    with serving(runtime(lambda seen: fault(seen) if seen.number % 5 == 0 else SCORING(seen))) as served:
        seconds = 1 if fault is stall else HANG_SECONDS
        model = sagemaker(served.url, max_request_rows=30, timeout_seconds=seconds)
        assert model.predict(FEATURES).tobytes() == MODEL.predict(FEATURES).tobytes()
        failed = sum(seen.number % 5 == 0 for seen in served.seen)
        assert model.calls_made.retries == failed >= 2
        assert len(served.seen) == 7 + failed


@pytest.mark.parametrize(
    "rejection",
    [model_error(400), runtime_error("ValidationError", 400), model_error(413)],
    ids=["model", "runtime", "large"],
)
def test_rejected_batches_are_sent_record_by_record(rejection: Reply) -> None:
    """A container that rejects batches gets one record per request."""
    with serving(runtime(lambda seen: rejection if seen.body.count(b"\n") else SCORING(seen))) as served:
        model = sagemaker(served.url, concurrency=1)
        assert model.predict(FEATURES[:9]).tobytes() == MODEL.predict(FEATURES[:9]).tobytes()
        assert (model.calls_made.fallbacks, model.calls_made.retries, len(served.seen)) == (1, 0, 10)


@pytest.mark.parametrize(
    ("response", "status", "message"),
    [
        pytest.param(model_error(500), 500, CONTAINER_MESSAGE, id="500"),
        pytest.param(model_error(422), 422, CONTAINER_MESSAGE, id="422"),
        pytest.param(runtime_error("AccessDeniedException", 403), 403, "no", id="403"),
        pytest.param(Reply(502, "<html>bad gateway</html>"), 502, "", id="502"),
    ],
)
def test_failing_endpoint_is_an_error(response: Reply, status: int, message: str, golden: Golden) -> None:
    """The error contains the endpoint, the address of the runtime, the status and the container's message."""
    with serving(runtime(lambda _: response)) as served:
        with golden.raises(EndpointError) as caught:
            sagemaker(served.url, attempts=2).predict(FEATURES[:1])
        assert served.url in caught.value.url
        assert caught.value.status == status
        assert caught.value.problem.startswith(message)
        assert SECRET not in str(caught.value)


def test_refused_connection_is_an_error(golden: Golden) -> None:
    """A refused connection is retried, then an error without a status."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        model = sagemaker(f"http://127.0.0.1:{unused.getsockname()[1]}", attempts=2)
        with golden.raises(EndpointError) as caught:
            model.predict(FEATURES[:1])
        assert caught.value.status is None
        assert model.calls_made.retries == 1


def test_missing_credentials_are_an_error(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Missing credentials are not retried."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    model = sagemaker("http://127.0.0.1:9")
    with golden.raises(EndpointError) as caught:
        model.predict(FEATURES[:1])
    assert caught.value.status is None
    assert model.calls_made.retries == 0


@pytest.mark.parametrize(
    "code",
    ["ExpiredTokenException", "ExpiredToken", "InvalidSignatureException", "UnrecognizedClientException"],
)
@pytest.mark.parametrize("status", [400, 403])
def test_expired_credentials_are_an_error(code: str, status: int) -> None:
    """The error names the credentials, and is neither retried nor mistaken for a rejected record."""
    with serving(lambda _: runtime_error(code, status)) as served:
        model = sagemaker(served.url)
        with pytest.raises(EndpointError) as caught:
            model.predict(FEATURES)
        assert caught.value.status == 403
        assert "credentials" in caught.value.remedy
        assert len(served.seen) == 1


def test_expired_role_is_an_error(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that boto3 cannot refresh are an error."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired.")

    monkeypatch.setattr("botocore.signers.RequestSigner.sign", refuse)
    with golden.raises(EndpointError):
        sagemaker("http://127.0.0.1:9").predict(FEATURES[:1])


def test_endpoint_of_another_region_is_an_error(golden: Golden) -> None:
    """The error for an unknown endpoint names model.region; records are not sent one by one."""
    message = "Endpoint churn of account 123456789012 not found."
    with serving(lambda _: runtime_error("ValidationError", 400, Message=message)) as served:
        with golden.raises(EndpointError) as caught:
            sagemaker(served.url).predict(FEATURES)
        assert caught.value.status == 400
        assert "model.region" in caught.value.remedy
        assert len(served.seen) == 1


@pytest.mark.parametrize("status", [302, 400, 500])
@pytest.mark.parametrize("body", ["", "<html>", "[]", "5", "null", '"text"', '{"message":[]}', "{", "\ufffd"])
def test_error_in_any_format_is_an_error(status: int, body: str) -> None:
    """Error responses that are not the runtime's are errors of the endpoint."""
    with serving(lambda _: Reply(status, body)) as served, pytest.raises(EndpointError):
        sagemaker(served.url, attempts=1).predict(FEATURES[:1])


@pytest.mark.parametrize("length", ["x", "-1", "", "5, 5"])
def test_invalid_content_length_is_an_error(length: str) -> None:
    """A header that boto3 cannot read is an error of the endpoint."""
    with serving(lambda _: Reply(200, '{"score":1}', {"Content-Length": length})) as served:
        model = sagemaker(served.url, attempts=1, timeout_seconds=0.5)
        with pytest.raises(EndpointError):
            model.predict(FEATURES[:1])


def test_missing_region_is_an_error(golden: Golden) -> None:
    """Without a region, the error names model.region."""
    with golden.raises(EndpointError) as caught:
        sagemaker("http://127.0.0.1:9", region=None, endpoint_url=None).predict(FEATURES[:1])
    assert caught.value.status is None
    assert "model.region" in caught.value.remedy


def test_missing_library_is_an_error(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error for missing boto3 names the extra that installs it."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with golden.raises(SettingsError) as caught:
        sagemaker("http://127.0.0.1:9").predict(FEATURES[:1])
    (problem,) = caught.value.problems
    assert "shapwatch[sagemaker]" in problem


@pytest.mark.parametrize("url", ["http://user:hush@example.com/", "http://example.com/?key=hush", "http://a:hush/"])
def test_invalid_addresses_are_rejected(url: str, golden: Golden) -> None:
    """The error for an address with a password or a query does not quote it."""
    with pytest.raises(ValidationError) as caught:
        sagemaker(url)
    (problem,) = caught.value.errors()
    assert (problem["type"], problem["loc"]) == ("value_error", ())
    assert "endpoint_url" in problem["msg"]
    assert "hush" not in problem["msg"]
    golden(problem["msg"])


def test_option_has_the_values_of_http() -> None:
    """The options `sagemaker` and `http` have equal values for their common keys."""
    option, http = (OmegaConf.load(cli.CONF / f"model/{name}.yaml") for name in ("sagemaker", "http"))
    own = {"kind", "endpoint_name", "region", "endpoint_url", "target_variant", "inference_component"}
    raw, other = (OmegaConf.to_container(node) for node in (option, http))
    assert isinstance(raw, dict)
    assert isinstance(other, dict)
    assert {key: raw[key] for key in raw if key not in own} == {
        key: other[key] for key in other if key not in {"kind", "url", "token_env"}
    }


def test_endpoint_name_is_the_monitored_endpoint() -> None:
    """By default, endpoint_name is monitor.endpoint."""
    cli.register_package()
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = compose("config", ["~experiment", "model=sagemaker", "++monitor.endpoint=churn"])
    values: Any = OmegaConf.to_container(config, resolve=True)
    assert SageMaker(**values["model"]).endpoint_name == "churn"
