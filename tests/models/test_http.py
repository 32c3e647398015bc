"""A model behind a URL: protocols of servers, tokens, URLs, connections."""

from __future__ import annotations

import gc
import json
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import ValidationError

from runner import cli
from runner.errors import EndpointError, ModelAnswerError
from runner.models.http import Http, post
from runner.urls import is_plain_url, without_secrets
from tests.golden import Golden
from tests.models.contract import ModelContract
from tests.models.people import PEOPLE, linear_model
from tests.models.servers import FEATURES, MODEL, SCORING, ReceivedRequest, Reply, always, http, lasting_model, serving

TOKEN = "sesame-1234567890"
JSON = "application/json"
CLOSED_URL = "http://127.0.0.1:9"

CONTRACT = ModelContract(
    lambda _, number: lasting_model("http", linear_model(number), PEOPLE.columns), PEOPLE, exact=True, in_process=False
)


def option_model(option: str, **settings: Any) -> Http:
    """Return the model of an option of conf/model, with other settings."""
    cli.register_package()
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = compose("config", ["~experiment", f"model={option}"])
    OmegaConf.update(config, "data.headers", FEATURES.columns)
    OmegaConf.update(config, "model", settings, merge=True)
    values: Any = OmegaConf.to_container(config, resolve=True)
    return Http(**values["model"])


def features_of(rows: Any, columns: int = 3) -> pl.DataFrame:
    """Return lists of numbers as features."""
    assert all(len(row) == columns and all(isinstance(cell, int | float) for cell in row) for row in rows)
    return pl.DataFrame(rows, FEATURES.columns, orient="row")


def mlflow(seen: ReceivedRequest) -> Reply:
    """Respond as `mlflow models serve`."""
    assert seen.path == "/invocations"
    (kind,) = document = json.loads(seen.body)
    assert kind == "dataframe_split"
    assert document[kind].keys() == {"columns", "data"}
    assert document[kind]["columns"] == FEATURES.columns
    scores = MODEL.predict(features_of(document[kind]["data"]))[:, 0].tolist()
    return Reply(200, json.dumps({"predictions": scores}))


def kserve_v1(seen: ReceivedRequest) -> Reply:
    """Respond in KServe's V1 protocol."""
    assert seen.path == "/v1/models/churn:predict"
    ((kind, rows),) = json.loads(seen.body).items()
    assert kind == "instances"
    return Reply(200, json.dumps({"predictions": MODEL.predict(features_of(rows)).tolist()}))


def kserve_v2(seen: ReceivedRequest) -> Reply:
    """Respond in the Open Inference Protocol, with a flat tensor."""
    assert seen.path == "/v2/models/churn/infer"
    ((kind, (tensor,)),) = json.loads(seen.body).items()
    assert kind == "inputs"
    assert tensor.keys() == {"name", "shape", "datatype", "data"}
    assert (tensor["name"], tensor["datatype"]) == ("input-0", "FP64")
    assert tensor["shape"] == list(np.shape(tensor["data"]))
    scores = MODEL.predict(features_of(tensor["data"]))[:, 0].tolist()
    output = {"name": "output-0", "shape": [len(scores), 1], "datatype": "FP64", "data": scores}
    return Reply(200, json.dumps({"model_name": "churn", "outputs": [output]}))


def bentoml(seen: ReceivedRequest) -> Reply:
    """Respond as a BentoML service with arrays."""
    assert seen.path == "/predict"
    ((parameter, rows),) = json.loads(seen.body).items()
    assert parameter == "features"
    return Reply(200, json.dumps(MODEL.predict(features_of(rows))[:, 0].tolist()))


@pytest.mark.parametrize(
    ("server", "path"),
    [
        (mlflow, "/invocations"),
        (kserve_v1, "/v1/models/churn:predict"),
        (kserve_v2, "/v2/models/churn/infer"),
        (bentoml, "/predict"),
    ],
)
@pytest.mark.parametrize("rows", [1, 7])
def test_options_support_protocols_of_other_servers(
    server: Callable[[ReceivedRequest], Reply], path: str, rows: int
) -> None:
    """Scores read with the option for a protocol are bit-identical to the model's."""

    def answer(seen: ReceivedRequest) -> Reply:
        assert seen.method == "POST"
        assert seen.headers["content-type"] == seen.headers["accept"] == "application/json"
        return server(seen)

    with serving(answer) as served:
        model = option_model(server.__name__, url=served.url + path, max_request_rows=3)
        assert model.predict(FEATURES[:rows]).tobytes() == MODEL.predict(FEATURES[:rows]).tobytes()
        assert model.calls_made == model.planned_calls(FEATURES[:rows])


def test_flat_tensor_with_several_outputs() -> None:
    """label_headers define the number of outputs in a flat tensor."""
    with serving(always(200, '{"outputs":[{"shape":[2,2],"data":[0.25,0.75,0.5,0.5]}]}')) as served:
        model = option_model("kserve_v2", url=served.url, label_headers=["stay", "leave"])
        assert model.predict(FEATURES[:2]).tolist() == [[0.25, 0.75], [0.5, 0.5]]


def test_lists_of_numbers_are_several_outputs() -> None:
    """A list of numbers per record is several outputs."""
    with serving(always(200, '{"predictions":[[0.25,0.75],[0.5,0.5]]}')) as served:
        assert option_model("mlflow", url=served.url).predict(FEATURES[:2]).tolist() == [[0.25, 0.75], [0.5, 0.5]]


def test_every_setting_is_required() -> None:
    """No field of the class has a default value."""
    keys = [str(key) for key in OmegaConf.load(cli.CONF / "model/http.yaml")]
    values = vars(option_model("http", url=CLOSED_URL))
    for key in keys:
        with pytest.raises(ValidationError, match=key):
            Http(**{other: values[other] for other in keys if other != key})


def test_request_headers_and_body() -> None:
    """A request is a POST with media types and without a token."""
    with serving(SCORING) as served:
        http(served.url + "/invocations?stage=blue").predict(FEATURES[:1])
        (seen,) = served.seen
        assert (seen.method, seen.path) == ("POST", "/invocations?stage=blue")
        assert seen.headers["content-type"] == seen.headers["accept"] == "application/jsonlines"
        assert "authorization" not in seen.headers


def test_token_is_sent_and_redacted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """The token is sent; no message or log contains it, also if the endpoint repeats it."""
    monkeypatch.setenv("CHURN_TOKEN", f"{TOKEN}\n")

    def repeat_token(seen: ReceivedRequest) -> Reply:
        return Reply([503, 400, 403][min(seen.number, 2)], f"{seen.headers['authorization']} is not for {TOKEN}")

    with serving(repeat_token) as served, caplog.at_level("DEBUG"):
        model = http(f"{served.url}/?key={TOKEN}", token_env="CHURN_TOKEN", max_request_rows=2, concurrency=1)
        with golden.raises(EndpointError) as caught:
            model.predict(FEATURES[:2])
        assert caught.value.status == 403
        assert "…" in caught.value.problem
        assert len(served.seen) == 3
        assert served.seen[0].headers["authorization"] == f"Bearer {TOKEN}"
    logged = [record.getMessage() for record in caplog.records if not record.name.startswith("httpcore")]
    assert TOKEN not in f"{caught.value} {model.where} {logged}"


@pytest.mark.parametrize("body", ['{"got":"TOKEN"}', "TOKEN", '{"score":"TOKEN"}', '{"score":1}\n{"score":"TOKEN"}'])
@pytest.mark.parametrize(
    "escape", [lambda token: token, lambda token: token.replace("/", r"\/").replace("=", r"\u003D")]
)
def test_token_in_a_successful_response_is_redacted(
    monkeypatch: pytest.MonkeyPatch, body: str, escape: Callable[[str], str]
) -> None:
    """The error for an invalid response redacts the token, also if it is escaped or truncated."""
    token = f"{TOKEN}/{'x' * 150}/1234="
    monkeypatch.setenv("CHURN_TOKEN", token)
    lines = body.replace("TOKEN", escape(token)).splitlines()
    with serving(lambda seen: Reply(200, "\n".join(lines[-len(seen.body.splitlines()) :]))) as served:
        with pytest.raises((EndpointError, ModelAnswerError), match="…") as caught:
            http(served.url, token_env="CHURN_TOKEN").predict(FEATURES[:2])
        assert TOKEN[:6] not in str(caught.value)


def test_query_of_the_url_is_redacted() -> None:
    """An endpoint may repeat the address of a request, or a decoded value of its query."""
    with serving(lambda seen: Reply(403, f"{seen.path} hush/hush")) as served:
        with pytest.raises(EndpointError) as caught:
            http(f"{served.url}/x?version=2&key=hush%2Fhush").predict(FEATURES[:1])
        assert caught.value.problem == "/x?… …"


@pytest.mark.parametrize("proxy", ["foo://me:hush@127.0.0.1:1", "http://me:hush@127.0.0.1:hush"])
def test_invalid_proxy_is_an_error_without_its_password(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """The error names the environment variables."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(EndpointError, match="HTTPS_PROXY") as caught:
        http("https://churn.example/").predict(FEATURES[:1])
    assert "hush" not in str(caught.value)


def test_scores_are_not_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A score with the digits of the token is unchanged."""
    monkeypatch.setenv("CHURN_TOKEN", "125")
    with serving(always(200, '{"score":0.125,"got":"125"}')) as served:
        assert http(served.url, token_env="CHURN_TOKEN").predict(FEATURES[:1]).tolist() == [[0.125]]


@pytest.mark.parametrize("value", [None, "", " \n", "two words", "line\nbreak", "ümlaut"])
def test_missing_token_is_an_error(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """The error names the variable but not its value, and nothing is sent."""
    monkeypatch.delenv("CHURN_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("CHURN_TOKEN", value)
    model = http(CLOSED_URL, token_env="CHURN_TOKEN")
    with pytest.raises(EndpointError) as caught:
        model.predict(FEATURES[:1])
    assert caught.value.status is None
    assert "CHURN_TOKEN" in caught.value.problem
    assert "model.token_env" in caught.value.remedy
    assert not (value or "").strip() or str(value) not in str(caught.value)
    assert model.calls_made.requests == 0


def test_error_for_missing_token_has_a_remedy(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error describes a valid token and the setting for no token."""
    monkeypatch.delenv("CHURN_TOKEN", raising=False)
    with golden.raises(EndpointError):
        http(CLOSED_URL, token_env="CHURN_TOKEN").predict(FEATURES[:1])


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com",
        "http://",
        "http://user:hush@example.com/",
        "example.com",
        "http://a b/",
        "http://a/#x",
        "http://:8080/x",
        "http://127.0.0.1:abc/x",
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:0/x",
        "http://bücher..example/x",
        "http://example..com/x",
        f"http://{'a' * 64}.example/x",
        "http://[::1/x",
        "http://999.0.0.1/x",
    ],
)
def test_invalid_urls_are_rejected(url: str) -> None:
    """The error for an invalid URL does not quote it."""
    with pytest.raises(ValidationError) as caught:
        http(url)
    (problem,) = caught.value.errors()
    assert (problem["type"], problem["loc"]) == ("value_error", ())
    assert "url: " in problem["msg"]
    assert "hush" not in problem["msg"]


def test_error_for_invalid_url_has_an_example(golden: Golden) -> None:
    """The error contains a valid URL and the setting for a token."""
    with pytest.raises(ValidationError) as caught:
        http("http://user:hush@example.com/")
    (problem,) = caught.value.errors()
    golden(problem["msg"])


@given(st.text() | st.text(":/?#[]@.%0123456789abü\\\0\ud800").map("http://".__add__))
@example("http://[::1]:8080/x")
@example("https://bücher.example:443/v1?a=b")
def test_any_accepted_url_can_be_shown_and_called(text: str) -> None:
    """Every string is either rejected or a URL that can be shown and called."""
    if is_plain_url(text):
        assert without_secrets(text).startswith(("http://", "https://"))
        model = http(text)
        assert callable(model._connect())


def test_url_rejected_by_httpx_is_not_retried(golden: Golden) -> None:
    """A URL that httpx rejects is an error that is not retryable."""
    with httpx.Client() as client:
        response = post(client, "http://bücher..example/", str.upper, b"", JSON, "id")
    assert (response.status, response.retryable) == (None, False)
    golden(response.text)


def test_redirects_are_not_followed(golden: Golden) -> None:
    """The error contains the target of the redirect without its secrets."""
    with serving(always(307, "", {"Location": "https://user:hush@example.com/x?key=hush"})) as served:
        with golden.raises(EndpointError) as caught:
            http(served.url).predict(FEATURES[:2])
        assert caught.value.status == 307
        assert "https://example.com/x?…" in caught.value.problem
        assert "hush" not in str(caught.value)
        assert len(served.seen) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_addresses_use_no_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Proxies of the environment are used for other hosts only."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(always(403, "a proxy")) as proxy, serving(SCORING) as served:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        http(served.url.replace("127.0.0.1", host)).predict(FEATURES[:1])
        assert not proxy.seen
        with pytest.raises(EndpointError) as caught:
            http("http://churn.example/invocations").predict(FEATURES[:1])
        assert (caught.value.status, caught.value.problem) == (403, "a proxy")
        assert len(proxy.seen) == 1


def test_requests_share_connections() -> None:
    """41 requests use at most two connections, which are closed with the model."""
    ports = set()

    def record_port(seen: ReceivedRequest) -> Reply:
        ports.add(seen.port)
        return SCORING(seen)

    with serving(record_port) as served:
        model = http(served.url, max_request_rows=5, concurrency=2)
        model.predict(FEATURES)
        assert len(served.seen) == 41
        assert len(ports) <= 2
        del model
        gc.collect()


def test_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown certificate is rejected; with SSL_CERT_FILE it is accepted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path / "server.pem"))
    with serving(SCORING, context) as served:
        with pytest.raises(EndpointError) as caught:
            http(served.url, attempts=1).predict(FEATURES[:1])
        assert "CERTIFICATE_VERIFY_FAILED" in caught.value.problem
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
        assert http(served.url).predict(FEATURES[:1]).tobytes() == MODEL.predict(FEATURES[:1]).tobytes()


def _certificate(path: Path) -> Path:
    """Write a key with its self-signed certificate for 127.0.0.1, and return the path."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(today - timedelta(1)).not_valid_after(today + timedelta(1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
