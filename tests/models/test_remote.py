"""Remote models: retries, rate limit, circuit breaker and fallback, with servers that fail on purpose."""

from __future__ import annotations

import gc
import json
import logging
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runner.domain.attributions import Calls
from runner.engine import Engine
from runner.errors import EndpointError, ModelAnswerError
from runner.models import transport
from runner.models.http import Http
from runner.models.linear import LinearModel
from runner.models.remote import DryRunModel
from runner.models.response import Response
from runner.probes import probe_id
from runner.records.fields import Fields
from tests.cli_runner import CHECKOUT, HANG_SECONDS
from tests.golden import Golden
from tests.models.servers import (
    FEATURES,
    MODEL,
    NAMES,
    SCORING,
    ReceivedRequest,
    Reply,
    Responder,
    RunningServer,
    always,
    credentials,
    http,
    lasting_model,
    scoring,
    serving,
)

LINES, JSON, CSV = "application/jsonlines", "application/json", "text/csv"
BATCH_REQUESTS = {"content_type": JSON, "content_template": '{"instances":$records}', "record_template": "$features"}
SINGLE_REQUESTS = BATCH_REQUESTS | {"content_template": '{"instance":$record}'}


def failing(fault: Callable[[ReceivedRequest], Reply], period: int = 10, failures: int = 3) -> Responder:
    """Return a responder with a fault in the first `failures` of each `period` calls."""
    return lambda seen: fault(seen) if seen.number % period < failures else SCORING(seen)


def reject_batches(seen: ReceivedRequest) -> Reply:
    """Respond to requests with one record only."""
    return Reply(400, "one record per request") if seen.body.count(b"\n") else SCORING(seen)


def scores_per_line(seen: ReceivedRequest, *scores: Any) -> Reply:
    """Respond to each line with the scores."""
    return Reply(200, "".join(json.dumps({"score": scores}) + "\n" for _ in seen.body.splitlines()))


def endpoint_error(model: Http, features: pl.DataFrame = FEATURES) -> EndpointError:
    """Return the error of a prediction."""
    with pytest.raises(EndpointError) as caught:
        model.predict(features)
    assert caught.value.url == model.url
    return caught.value


@pytest.mark.parametrize(
    ("settings", "features"),
    [
        ({}, "features"),
        (BATCH_REQUESTS, "instances"),
        (SINGLE_REQUESTS, "[instance]"),
        ({"content_type": CSV}, None),
        ({"accept_type": JSON, "score": "predictions[*].score"}, "features"),
        ({"accept_type": CSV, "score": "0"}, "features"),
        ({"accept_type": CSV, "score": None}, "features"),
    ],
)
def test_scores_equal_the_served_model(settings: dict[str, Any], features: str | None) -> None:
    """Scores of an endpoint are bit-identical to those of its model, in every media type."""
    fields = Fields(features, None, content_type=settings.get("content_type", LINES))
    with serving(scoring(MODEL, NAMES, fields)) as served:
        model = http(served.url, max_request_rows=20, **settings)
        assert model.predict(FEATURES[:50]).tobytes() == MODEL.predict(FEATURES[:50]).tobytes()
        assert model.calls_made == model.planned_calls(FEATURES[:50])


@pytest.mark.parametrize("kind", ["http", "sagemaker"])
def test_lasting_server_stops_with_its_model(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of `lasting_model` stops when the model is deleted."""
    credentials(monkeypatch)
    model = lasting_model(kind, MODEL, NAMES)
    assert model.predict(FEATURES).tobytes() == MODEL.predict(FEATURES).tobytes()
    threads = threading.active_count()
    del model
    gc.collect()
    assert threading.active_count() < threads


def test_feature_values_are_sent_unchanged() -> None:
    """Strings, integers, floats, booleans and nulls arrive unchanged."""
    coefficients: Any = {"plan": {"Zürich": 1, 'a "b", c': -2}, "n": 0.001, "x": 3, "member": {True: 5, False: 7}}
    model = LinearModel(
        kind="linear", link="identity", intercept=(0,), coefficients=coefficients, label_headers=None, deploy=None
    )
    table = pl.DataFrame(
        {
            "plan": ["Zürich", 'a "b", c', None, "\n"],
            "n": [2**53 + 1, -1, None, 0],
            "x": [0.1, -0.0, 5e-324, None],
            "member": [True, False, None, True],
        }
    )
    with serving(scoring(model, table.columns)) as served:
        assert http(served.url).predict(table).tobytes() == model.predict(table).tobytes()


@pytest.mark.parametrize(
    "fault",
    [
        always(503, "overloaded"),
        always(200, "", fault="reset"),
        always(200, "", fault="stall"),
        lambda seen: SCORING(seen)._replace(fault="truncate"),
    ],
    ids=["503", "reset", "stall", "truncate"],
)
def test_retryable_errors_do_not_change_scores(fault: Callable[[ReceivedRequest], Reply]) -> None:
    """If 3 of 10 calls fail, scores are the same, and retries are counted."""
    with serving(failing(fault)) as served:
        model = http(served.url, max_request_rows=15, timeout_seconds=0.5)
        assert model.predict(FEATURES).tobytes() == MODEL.predict(FEATURES).tobytes()
        failed = sum(seen.number % 10 < 3 for seen in served.seen)
        assert failed >= 4
        assert model.calls_made.retries == failed
        assert model.calls_made.requests == 14 == len(served.seen) - failed
        assert model.calls_made.rows == 203


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_failing_endpoint_is_an_error(status: int) -> None:
    """The error contains the URL, the status, the response and a remedy."""
    with serving(always(status, "out of memory\nin line 3")) as served:
        model = http(served.url + "/invocations", attempts=2, concurrency=1)
        error = endpoint_error(model)
        assert error.status == status
        assert error.problem.startswith(r"out of memory\n")
        assert "model.attempts" in error.remedy
        assert model.calls_made == Calls(1, 203, len(served.seen[0].body), retries=1)


def test_refused_connection_is_an_error(golden: Golden) -> None:
    """A refused connection is retried, and the error contains the URL."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        model = http(url, attempts=2)
        error = endpoint_error(model)
        assert error.status is None
        assert model.calls_made.retries == 1
        golden(error, (r"Errno \d+", "Errno {number}"))


def test_backoff_doubles_up_to_10_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause is twice as long as the previous one, and at most 10 s."""
    assert _pauses(monkeypatch, {}) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]


@pytest.mark.parametrize(("retry_after", "seconds"), [("3", 3), ("3600", 60), ("soon", 0.1), ("0", 0.1), ("-5", 0.1)])
def test_retry_after_is_respected(monkeypatch: pytest.MonkeyPatch, retry_after: str, seconds: float) -> None:
    """An endpoint may request a longer pause, up to 60 s."""
    assert _pauses(monkeypatch, {"Retry-After": retry_after})[0] == seconds


def _pauses(monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]) -> list[float]:
    """Return the seconds of the pauses between 10 failed attempts, without waiting."""
    pauses: list[float] = []
    monkeypatch.setattr(transport, "pause", lambda seconds, _: pauses.append(seconds))
    with serving(always(503, "", headers)) as served, suppress(EndpointError):
        http(served.url, attempts=10).predict(FEATURES)
    return [seconds for seconds in pauses if seconds > 0.05]


def test_circuit_breaker_stops_requests(golden: Golden) -> None:
    """After max_failures consecutive failures of any requests, nothing more is sent."""
    with serving(always(503, "down")) as served:
        model = http(served.url, max_request_rows=5, max_failures=6, concurrency=2)
        error = endpoint_error(model)
        assert error.status == 503
        assert "model.max_failures" in error.remedy
        assert 6 <= len(served.seen) <= 7
        assert str(endpoint_error(model)) == str(error)
        assert len(served.seen) <= 7
        golden(error)


def test_success_resets_the_circuit_breaker() -> None:
    """A successful response resets the number of consecutive failures."""
    with serving(failing(always(503, "down"), period=3, failures=2)) as served:
        http(served.url, max_request_rows=50, max_failures=3, concurrency=1).predict(FEATURES)
        assert len(served.seen) == 15


def test_rate_is_limited() -> None:
    """All attempts of all threads together do not exceed the rate."""
    with serving(failing(always(503, "down"), period=4, failures=1)) as served:
        http(served.url, max_request_rows=10, max_requests_per_second=20, concurrency=8).predict(FEATURES)
        times = [seen.at for seen in served.seen]
        assert len(times) >= 27
        assert max(times) - min(times) >= 0.9 * (len(times) - 1) / 20


@pytest.mark.parametrize(
    "responder",
    [reject_batches, lambda seen: Reply(200, SCORING(seen).body.partition("\n")[0])],
    ids=["rejection", "row count mismatch"],
)
def test_rejected_batches_are_sent_record_by_record(
    responder: Responder, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """An endpoint that rejects a batch gets one record per request from then on."""
    with serving(responder) as served, caplog.at_level(logging.WARNING):
        model = http(served.url, max_request_rows=5, concurrency=2)
        assert model.predict(FEATURES[:40]).tobytes() == MODEL.predict(FEATURES[:40]).tobytes()
        assert 1 <= model.calls_made.fallbacks <= 2
        assert model.calls_made.requests == 40 + model.calls_made.fallbacks
        before = model.calls_made
        assert model.planned_calls(FEATURES).requests == 203
        assert model.predict(FEATURES[:10]).tobytes() == MODEL.predict(FEATURES[:10]).tobytes()
        assert model.calls_made - before == model.planned_calls(FEATURES[:10])
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    golden(warning.getMessage())


def test_rejected_record_is_an_error(golden: Golden) -> None:
    """A record that is rejected alone is an error and is not retried."""
    with serving(always(422, "unknown plan")) as served:
        model = http(served.url, max_request_rows=2, concurrency=1)
        error = endpoint_error(model)
        assert (error.status, error.problem) == (422, "unknown plan")
        golden(error)
        assert [seen.body.count(b"\n") for seen in served.seen] == [1, 0]
        assert model.calls_made.retries == 0


@pytest.mark.parametrize("status", [401, 403, 404, 405, 501, 302])
def test_non_retryable_errors_are_not_retried(status: int, golden: Golden) -> None:
    """Errors that do not depend on the batch size are raised at once."""
    with serving(always(status, "no")) as served:
        model = http(served.url, max_request_rows=2, concurrency=1)
        error = endpoint_error(model)
        assert (error.status, error.problem) == (status, "no")
        golden(error)
        assert len(served.seen) == 1
        assert model.calls_made.fallbacks == 0


@given(
    rows=st.integers(0, 60),
    max_rows=st.integers(1, 25),
    max_bytes=st.integers(90, 900),
    settings=st.sampled_from([{}, {"content_type": CSV}, BATCH_REQUESTS, SINGLE_REQUESTS]),
)
def test_calls_made_match_planned_calls(rows: int, max_rows: int, max_bytes: int, settings: dict[str, Any]) -> None:
    """Without failures, requests, rows and bytes equal the plan, and no request is too large."""
    model = http("http://127.0.0.1:9", max_request_rows=max_rows, max_payload_bytes=max_bytes, **settings)
    bodies: list[bytes] = []

    def call(body: bytes, accept: str, inference_id: str) -> Response:
        bodies.append(body)
        return Response(200, '{"score":0.5}\n' * _records(body, settings), retryable=False)

    vars(model)["_call"] = call
    table = FEATURES.head(rows)
    planned = model.planned_calls(table)
    assert model.predict(table).shape == (rows, 1)
    assert model.calls_made == planned == Calls(len(bodies), rows, sum(map(len, bodies)))
    assert all(len(body) <= max_bytes and _records(body, settings) <= max_rows for body in bodies)


def _records(body: bytes, settings: dict[str, Any]) -> int:
    if settings is SINGLE_REQUESTS:
        return 1
    return len(json.loads(body)["instances"]) if settings is BATCH_REQUESTS else len(body.splitlines())


def test_requests_are_as_large_as_allowed() -> None:
    """If the maximum size is one byte smaller, requests contain one record less."""
    line = len('{"features":[1.0,2.0,3.0]}')
    table = pl.DataFrame({"a": [1.0] * 9, "b": [2.0] * 9, "c": [3.0] * 9})
    for missing, requests in ((0, 3), (1, 5)):
        model = http("http://127.0.0.1:9", max_payload_bytes=3 * line + 2 - missing)
        assert model.planned_calls(table).requests == requests


def test_too_large_record_is_an_error(golden: Golden) -> None:
    """The error contains the record's number, and nothing is sent."""
    with serving(SCORING) as served:
        table = pl.DataFrame({"a": ["x", "y" * 90], "b": [0, 0], "c": [0, 0]})
        error = endpoint_error(http(served.url, max_payload_bytes=80), table)
        assert error.status is None
        assert "model.max_payload_bytes" in error.remedy
        assert not served.seen
        golden(error)


def test_nan_cannot_be_encoded(golden: Golden) -> None:
    """The error for a number that is not finite names the feature."""
    error = endpoint_error(http("http://127.0.0.1:9"), pl.DataFrame({"a": [1.0, float("nan")]}))
    assert error.status is None
    golden(error)


def test_scores_keep_the_order_of_records() -> None:
    """Responses that arrive in any order are arranged in the order of the records."""
    generator = random.Random(5)

    def delay(seen: ReceivedRequest) -> Reply:
        time.sleep(generator.random() / 50)
        return SCORING(seen)

    with serving(delay) as served:
        model = http(served.url, max_request_rows=2, concurrency=16)
        assert model.predict(FEATURES).tobytes() == MODEL.predict(FEATURES).tobytes()
        assert len(served.seen) == 102


def test_error_stops_the_other_requests() -> None:
    """After a failed request, pending requests are not sent and pauses end."""
    with serving(lambda seen: Reply(503, "", {"Retry-After": "60"}) if seen.number else Reply(403, "no")) as served:
        model = http(served.url, max_request_rows=2, concurrency=4)
        started = time.monotonic()
        error = endpoint_error(model)
        assert (error.status, error.problem) == (403, "no")
        assert len(served.seen) <= 8
        assert time.monotonic() - started < 20


def test_interrupt_stops_the_requests() -> None:
    """After an interrupt, pending requests are not sent."""

    def interrupt(seen: ReceivedRequest) -> Reply:
        if seen.number == 3:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.1)
        return SCORING(seen)

    with serving(interrupt) as served:
        with pytest.raises(KeyboardInterrupt):
            http(served.url, max_request_rows=1, concurrency=2).predict(FEATURES)
        assert len(served.seen) < 50


def test_error_does_not_wait_for_other_requests() -> None:
    """An error is raised at once, even while another request is in progress."""
    stalled = threading.Event()

    def answer(seen: ReceivedRequest) -> Reply:
        if seen.number == 0:
            stalled.set()
            return Reply(200, "", fault="stall")
        stalled.wait(5)
        return Reply(403, "no")

    with serving(answer) as served:
        model = http(served.url, max_request_rows=2, concurrency=2)
        started = time.monotonic()
        error = endpoint_error(model)
        assert (error.status, error.problem) == (403, "no")
        assert time.monotonic() - started < 5
        assert len(served.seen) == 2


def test_sigterm_does_not_wait_for_requests(tmp_path: Path) -> None:
    """SIGTERM ends a program even if the endpoint never responds."""
    with serving(always(200, "", fault="stall")) as served:
        overrides = ["stage=baseline", "model=http", "~model.artifact", f"model.url={served.url}"]
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "runner", *overrides, f"paths.root={tmp_path}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=CHECKOUT,
        )
        try:
            while not served.seen and process.poll() is None:
                time.sleep(0.05)
            process.terminate()
            printed, _ = process.communicate(timeout=HANG_SECONDS)
        finally:
            process.kill()
            process.communicate()
    assert process.returncode == 130, printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("items", [0, 1, 50])
def test_in_order_returns_results_in_order(items: int) -> None:
    """Results have the order of the items, and all threads have ended."""

    def work(item: int, stopped: threading.Event) -> int:
        time.sleep(item % 3 / 1000)
        return -item

    before = set(threading.enumerate())
    assert transport.in_order(work, range(items), 8) == [-item for item in range(items)]
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("settings", [{}, {"label_headers": ["x", "y", "z"]}], ids=["unnamed", "named"])
def test_varying_number_of_outputs_is_an_error(settings: dict[str, Any], golden: Golden) -> None:
    """A response with another number of outputs than before, or than label_headers, is an error."""
    with serving(lambda seen: scores_per_line(seen, *([0.5, 0.5] if seen.number == 0 else [0.5]))) as served:
        model = http(served.url, max_request_rows=2, concurrency=1, **settings)
        with golden.raises(ModelAnswerError):
            model.predict(FEATURES[:4])


def test_number_of_outputs_is_remembered(golden: Golden) -> None:
    """The number of outputs is remembered for later predictions, also without rows."""
    with serving(lambda seen: scores_per_line(seen, *([0.5, 0.5] if seen.number == 0 else [0.5]))) as served:
        model = http(served.url)
        assert model.predict(FEATURES.clear()).shape == (0, 1)
        assert model.predict(FEATURES).shape == (203, 2)
        assert model.predict(FEATURES.clear()).shape == (0, 2)
        with golden.raises(ModelAnswerError):
            model.predict(FEATURES)
        assert http(served.url, label_headers=["x", "y", "z"]).predict(FEATURES.clear()).shape == (0, 3)


@pytest.mark.parametrize(
    "body", ['{"prediction":1}', "<html>", '{"score":NaN}'], ids=["other key", "no JSON", "not finite"]
)
def test_response_without_scores_is_an_error(body: str, golden: Golden) -> None:
    """The error for an invalid response contains the URL and quotes the response; a few attempts are made."""
    with serving(always(200, body)) as served:
        with golden.raises(ModelAnswerError) as caught:
            http(served.url).predict(FEATURES[:1])
        assert caught.value.problem.startswith(f"{served.url}: ")
        assert len(served.seen) == transport.FIRST_ANSWERS


@pytest.mark.parametrize(
    "body",
    ["", "<html>busy</html>", '{"error":"busy"}', '{"score":NaN}', '{"score":0.5}', '{"score":1}\n' * 99_999],
    ids=["empty", "HTML", "other key", "not finite", "too few rows", "too many rows"],
)
def test_passing_invalid_responses_are_retried(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid responses with status 200 do not change scores; after a valid response, each request has all attempts."""
    monkeypatch.setattr(transport, "FIRST_BACKOFF", 0.001)
    with serving(lambda seen: Reply(200, body) if seen.number in {0, 1, *range(3, 10)} else SCORING(seen)) as served:
        model = http(served.url, max_request_rows=50, concurrency=1)
        assert model.predict(FEATURES).tobytes() == MODEL.predict(FEATURES).tobytes()
        assert model.calls_made.retries == 9
        assert model.calls_made.fallbacks == 0


def test_batch_without_valid_response_is_sent_record_by_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a batch was accepted, only a batch without valid response is divided; the next one is sent whole."""
    monkeypatch.setattr(transport, "FIRST_BACKOFF", 0.001)
    with serving(lambda seen: Reply(200, "<html>") if 1 <= seen.number < 4 else SCORING(seen)) as served:
        model = http(served.url, max_request_rows=50, attempts=3, concurrency=1)
        assert model.predict(FEATURES[:150]).tobytes() == MODEL.predict(FEATURES[:150]).tobytes()
        assert model.calls_made.fallbacks == 1
        assert model.calls_made.requests == 3 + 50
        assert model.planned_calls(FEATURES[:150]).requests == 3


def test_flat_response_is_split_by_record() -> None:
    """With label_headers, a flat list of scores is split by record."""
    settings = {"accept_type": JSON, "score": "data", "label_headers": ["x", "y"]}
    with serving(always(200, '{"data":[1,2,3,4.5,5,6]}')) as served:
        model = http(served.url, **settings)
        assert model.predict(FEATURES[:3]).tolist() == [[1, 2], [3, 4.5], [5, 6]]
        assert model.calls_made.fallbacks == 0


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        ([1, 2, 3, 4], None),
        ([1, 2, 3, 4], ["x"]),
        ([1, 2, 3], ["x", "y"]),
        ([[1], [2], [3], [4]], ["x", "y"]),
        ([1, 2, 3, True], ["x", "y"]),
    ],
)
def test_list_of_other_length_is_not_split(data: list[Any], headers: list[str] | None, golden: Golden) -> None:
    """If a list does not have one score per record and output, records are sent one by one."""
    with serving(lambda seen: Reply(200, json.dumps(data if seen.body.count(b"\n") else [0.5]))) as served:
        model = http(served.url, accept_type=JSON, score=None, label_headers=headers)
        if headers and len(headers) > 1:
            with golden.raises(ModelAnswerError):
                model.predict(FEATURES[:2])
        else:
            assert model.predict(FEATURES[:2]).tolist() == [[0.5], [0.5]]
        assert model.calls_made.fallbacks == 1


def test_requests_are_marked_as_probes() -> None:
    """Each request has an inference id that excludes it from captures; retries have the same id."""
    with serving(failing(always(503, "down"), period=100, failures=1)) as served:
        model = http(served.url, max_request_rows=100, concurrency=1)
        model.predict(FEATURES)
        model.predict(FEATURES[:1])
        ids = [seen.headers["x-amzn-sagemaker-inference-id"] for seen in served.seen]
        assert ids == [probe_id(number) for number in (1, 1, 2, 3, 4)]
        assert [seen.headers["ce-id"] for seen in served.seen] == ids


def test_encode_response_makes_one_request(golden: Golden) -> None:
    """The result is the unchanged response of the endpoint, in the requested media type."""
    with serving(SCORING) as served:
        model = http(served.url, max_request_rows=2)
        assert model.encode_response(FEATURES[:9], JSON) == MODEL.encode_response(FEATURES[:9], JSON)
        (seen,) = served.seen
        assert seen.headers["accept"] == JSON
        assert model.calls_made == Calls(1, 9, len(seen.body))
        with golden.raises(EndpointError) as caught:
            model.encode_response(FEATURES[:9], "image/png")
        assert caught.value.status == 406


def test_encode_response_of_single_record_requests(golden: Golden) -> None:
    """A response to several records needs requests that can contain several."""
    with golden.raises(ValueError):
        http("http://127.0.0.1:9", **SINGLE_REQUESTS).encode_response(FEATURES[:2], JSON)


def test_planning_makes_no_calls() -> None:
    """Planning sends nothing."""
    with serving(SCORING) as served:
        model = http(served.url)
        assert model.identity is None
        assert model.calls_made == Calls()
        model.planned_calls(FEATURES)
        assert model.calls_made == Calls()
        assert served == RunningServer(served.url)


def test_dry_run_counts_calls_without_making_them() -> None:
    """A dry run adds up the planned calls; every engine runs it in this process, where the counts are."""
    with serving(SCORING) as served:
        model = http(served.url)
        dry_run = DryRunModel(model, 2)
        engine = Engine(kind="loky", workers=1, address=None)
        (scores_NL,) = engine.map(lambda model, features: model.predict(features), dry_run, [FEATURES])
        assert scores_NL.tolist() == [[0.5, 0.5]] * FEATURES.height
        assert dry_run.calls_made == model.planned_calls(FEATURES)
        assert served == RunningServer(served.url)


@pytest.mark.parametrize(
    ("settings", "kind", "key"),
    [
        pytest.param({"content_template": "{"}, "value_error", None, id="content_template"),
        pytest.param({"content_type": JSON}, "value_error", None, id="record_template"),
        pytest.param({"score": "a["}, "value_error", "score", id="no JMESPath"),
        pytest.param({"score": "0"}, "value_error", None, id="column of JSON Lines"),
        pytest.param({"score": "a", "accept_type": CSV}, "value_error", None, id="path of CSV"),
        pytest.param({"label_headers": ["x", "x"]}, "value_error", "label_headers", id="label_headers"),
        pytest.param({"attempts": 0}, "greater_than", "attempts", id="attempts"),
        pytest.param({"deploy": None}, "unexpected_keyword_argument", "deploy", id="deploy"),
    ],
)
def test_invalid_settings_are_rejected(settings: dict[str, Any], kind: str, key: str | None, golden: Golden) -> None:
    """Invalid and contradictory settings are one problem with one message."""
    with pytest.raises(ValidationError) as caught:
        http("http://127.0.0.1:9", **settings)
    (problem,) = caught.value.errors()
    assert (problem["type"], problem["loc"]) == (kind, () if key is None else (key,))
    golden(problem["msg"])


def test_score_column_may_be_an_integer() -> None:
    """An integer in YAML is the number of a score column."""
    assert http("http://127.0.0.1:9", accept_type=CSV, score=0).score == "0"


def test_pause_ends_when_work_stops() -> None:
    """A pause ends as soon as the stop event is set."""
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(transport.Stopped):
        transport.pause(60, stopped)
