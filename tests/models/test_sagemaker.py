"""A model behind a SageMaker endpoint: real boto3 against a server that speaks the runtime's API."""

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
from tests.golden import Golden
from tests.models.servers import Answerer, Reply, Seen, credentials, sagemaker, serving
from tests.models.test_remote import ANSWER, FEATURES, MODEL

SECRET = "hush-hush"
WORDS = "the container's own words"


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials(monkeypatch)


def runtime(answer: Answerer) -> Answerer:
    """Return an answerer with the runtime's API in front of a container."""

    def answering(seen: Seen) -> Reply:
        assert (seen.method, seen.path) == ("POST", "/endpoints/churn/invocations")
        assert seen.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=key/")
        assert "/us-east-1/sagemaker/aws4_request" in seen.headers["authorization"]
        reply = answer(seen)
        return reply._replace(headers={"Content-Type": seen.headers["accept"], **reply.headers})

    return answering


def refusal(code: str, status: int, **more: Any) -> Reply:
    """Return an error as the runtime answers it."""
    return Reply(status, json.dumps({"Message": "no", **more}), {"x-amzn-ErrorType": code})


def model_error(status: int) -> Reply:
    """Return an error of the container."""
    return refusal("ModelError", 424, OriginalStatusCode=status, OriginalMessage=WORDS)


def test_scores_are_the_models_own() -> None:
    """A model behind an endpoint scores as it does in this process, to the bit."""
    with serving(runtime(ANSWER)) as served:
        model = sagemaker(served.url, max_request_rows=20)
        assert model.predict(FEATURES).tobytes() == MODEL.predict(FEATURES).tobytes()
        assert model.calls_made == model.planned_calls(FEATURES)
        assert len(served.seen) == 11
        assert model.identity is None


def test_request_headers_and_body() -> None:
    """Media types, inference id, variant and component are sent as boto3 encodes them."""
    with serving(runtime(ANSWER)) as served:
        sagemaker(served.url).predict(FEATURES[:1])
        model = sagemaker(
            served.url, target_variant="blue", inference_component="part", accept_type="text/csv", score=0
        )
        model.predict(FEATURES[:1])
        plain, chosen = (seen.headers for seen in served.seen)
    assert plain["content-type"] == plain["accept"] == "application/jsonlines"
    assert plain["x-amzn-sagemaker-inference-id"] == "shapwatch-probe-1"
    assert not {"x-amzn-sagemaker-target-variant", "x-amzn-sagemaker-inference-component"} & set(plain)
    assert chosen["x-amzn-sagemaker-target-variant"] == "blue"
    assert chosen["x-amzn-sagemaker-inference-component"] == "part"
    assert chosen["accept"] == "text/csv"


@pytest.mark.parametrize(
    "fault",
    [
        lambda _: model_error(500),
        lambda _: model_error(507),
        lambda _: model_error(408),
        lambda _: refusal("ServiceUnavailable", 503),
        lambda _: refusal("InternalDependencyException", 530),
        lambda _: refusal("ModelNotReadyException", 429),
        lambda _: refusal("ThrottlingException", 400),
        lambda _: Reply(200, "", fault="reset"),
        lambda _: Reply(200, "", fault="stall"),
        lambda seen: ANSWER(seen)._replace(fault="truncate"),
    ],
    ids=["500", "507", "408", "503", "530", "429", "throttled", "reset", "stall", "truncate"],
)
def test_retryable_errors_change_no_scores(fault: Callable[[Seen], Reply]) -> None:
    """Failed calls are repeated, by us alone, and counted."""
    with serving(runtime(lambda seen: fault(seen) if seen.number % 5 == 0 else ANSWER(seen))) as served:
        model = sagemaker(served.url, max_request_rows=30, timeout_seconds=0.5)
        assert model.predict(FEATURES).tobytes() == MODEL.predict(FEATURES).tobytes()
        failed = sum(seen.number % 5 == 0 for seen in served.seen)
        assert model.calls_made.retries == failed >= 2
        assert len(served.seen) == 7 + failed


@pytest.mark.parametrize(
    "refused", [model_error(400), refusal("ValidationError", 400), model_error(413)], ids=["model", "runtime", "large"]
)
def test_refused_batches_are_sent_record_by_record(refused: Reply) -> None:
    """A container that takes one record a request gets one."""
    with serving(runtime(lambda seen: refused if seen.body.count(b"\n") else ANSWER(seen))) as served:
        model = sagemaker(served.url, concurrency=1)
        assert model.predict(FEATURES[:9]).tobytes() == MODEL.predict(FEATURES[:9]).tobytes()
        assert (model.calls_made.fallbacks, model.calls_made.retries, len(served.seen)) == (1, 0, 10)


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        pytest.param(model_error(500), 500, WORDS, id="500"),
        pytest.param(model_error(422), 422, WORDS, id="422"),
        pytest.param(refusal("AccessDeniedException", 403), 403, "no", id="403"),
        pytest.param(Reply(502, "<html>bad gateway</html>"), 502, "", id="502"),
    ],
)
def test_endpoints_that_fail_are_an_error(answer: Reply, status: int, words: str, golden: Golden) -> None:
    """The error names the endpoint, where the runtime is, the status and the container's words."""
    with serving(runtime(lambda _: answer)) as served:
        with golden.raises(EndpointError) as caught:
            sagemaker(served.url, attempts=2).predict(FEATURES[:1])
        assert served.url in caught.value.url
        assert caught.value.status == status
        assert caught.value.problem.startswith(words)
        assert SECRET not in str(caught.value)


def test_a_refused_connection_is_an_error(golden: Golden) -> None:
    """A refused connection is tried again, then an error without a status."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        model = sagemaker(f"http://127.0.0.1:{unused.getsockname()[1]}", attempts=2)
        with golden.raises(EndpointError) as caught:
            model.predict(FEATURES[:1])
        assert caught.value.status is None
        assert model.calls_made.retries == 1


def test_missing_credentials_are_an_error(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Without credentials nothing is tried twice."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    model = sagemaker("http://127.0.0.1:9")
    with golden.raises(EndpointError) as caught:
        model.predict(FEATURES[:1])
    assert caught.value.status is None
    assert model.calls_made.retries == 0


def test_a_missing_region_is_an_error(golden: Golden) -> None:
    """Without a region boto3 does not know where to look."""
    with golden.raises(EndpointError) as caught:
        sagemaker("http://127.0.0.1:9", region=None, endpoint_url=None).predict(FEATURES[:1])
    assert caught.value.status is None
    assert "model.region" in caught.value.remedy


def test_a_missing_library_is_an_error(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Where boto3 is not installed, the extra that brings it is named."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with golden.raises(SettingsError) as caught:
        sagemaker("http://127.0.0.1:9").predict(FEATURES[:1])
    (problem,) = caught.value.problems
    assert "shapwatch[sagemaker]" in problem


@pytest.mark.parametrize("url", ["http://user:hush@example.com/", "http://example.com/?key=hush", "http://a:hush/"])
def test_other_addresses_are_refused(url: str, golden: Golden) -> None:
    """A runtime's address with a password or a query in it is refused, without repeating it."""
    with pytest.raises(ValidationError) as caught:
        sagemaker(url)
    (problem,) = caught.value.errors()
    assert (problem["type"], problem["loc"]) == ("value_error", ())
    assert "endpoint_url" in problem["msg"]
    assert "hush" not in problem["msg"]
    golden(problem["msg"])


def test_fields_are_keys() -> None:
    """A model has a field for each key of its YAML, and shares its defaults with the model behind a URL."""
    option, http = (OmegaConf.load(cli.CONF / f"model/{name}.yaml") for name in ("sagemaker", "http"))
    assert set(option) == set(SageMaker.__dataclass_fields__)
    own = {"kind", "endpoint_name", "region", "endpoint_url", "target_variant", "inference_component"}
    raw, other = (OmegaConf.to_container(node) for node in (option, http))
    assert isinstance(raw, dict)
    assert isinstance(other, dict)
    assert {key: raw[key] for key in raw if key not in own} == {
        key: other[key] for key in other if key not in {"kind", "url", "token_env"}
    }


def test_the_option_asks_the_endpoint_that_is_watched() -> None:
    """The endpoint is the monitor's, if nobody says otherwise."""
    cli.register_package()
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = compose("config", ["~experiment", "model=sagemaker", "++monitor.endpoint=churn"])
    values: Any = OmegaConf.to_container(config, resolve=True)
    assert SageMaker(**values["model"]).endpoint_name == "churn"
