"""Models behind a wire, against real servers that fail by script."""

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

import numpy as np
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
from runner.models.transport import Response
from runner.records.fields import Fields
from tests.cli_runner import CHECKOUT
from tests.golden import Golden
from tests.models.servers import Answerer, Reply, Seen, Served, always, credentials, http, lasting, scoring, serving

LINES, JSON, CSV = "application/jsonlines", "application/json", "text/csv"
MANY = {"content_type": JSON, "content_template": '{"instances":$records}', "record_template": "$features"}
ONE = MANY | {"content_template": '{"instance":$record}'}
NAMES = ["a", "b", "c"]
MODEL = LinearModel(
    kind="linear",
    link="logistic",
    intercept=(0.25,),
    coefficients={"a": (0.1,), "b": (-2.5,), "c": (1 / 3,)},
    label_headers=None,
    deploy=None,
)
FEATURES = pl.DataFrame(np.random.default_rng(7).normal(size=(203, 3)), NAMES)
ANSWER = scoring(MODEL, NAMES)


def failing(fault: Callable[[Seen], Reply], every: int = 10, of: int = 3) -> Answerer:
    """Return what answers well but for some of the calls: the first `of` in every `every`."""
    return lambda seen: fault(seen) if seen.number % every < of else ANSWER(seen)


def refusing_batches(seen: Seen) -> Reply:
    """Response requests of one record only."""
    return Reply(400, "one record at a time, please") if seen.body.count(b"\n") else ANSWER(seen)


def answering(seen: Seen, *scores: Any) -> Reply:
    """Response each line with the scores."""
    return Reply(200, "".join(json.dumps({"score": scores}) + "\n" for _ in seen.body.splitlines()))


def failure(model: Http, features: pl.DataFrame = FEATURES) -> EndpointError:
    """Return the endpoint's error that a prediction ends in."""
    with pytest.raises(EndpointError) as caught:
        model.predict(features)
    assert caught.value.url == model.url
    return caught.value


@pytest.mark.parametrize(
    ("settings", "features"),
    [
        ({}, "features"),
        (MANY, "instances"),
        (ONE, "[instance]"),
        ({"content_type": CSV}, None),
        ({"accept_type": JSON, "score": "predictions[*].score"}, "features"),
        ({"accept_type": CSV, "score": "0"}, "features"),
        ({"accept_type": CSV, "score": None}, "features"),
    ],
)
def test_scores_are_the_models_own(settings: dict[str, Any], features: str | None) -> None:
    """A model behind a URL scores as it does in this process, to the bit, in every media type."""
    fields = Fields(features, None, content_type=settings.get("content_type", LINES))
    with serving(scoring(MODEL, NAMES, fields)) as served:
        model = http(served.url, max_request_rows=20, **settings)
        assert model.predict(FEATURES[:50]).tobytes() == MODEL.predict(FEATURES[:50]).tobytes()
        assert model.calls_made == model.planned_calls(FEATURES[:50])


@pytest.mark.parametrize("kind", ["http", "sagemaker"])
def test_servers_may_last(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lasts as long as its model ends with it."""
    credentials(monkeypatch)
    model = lasting(kind, MODEL, NAMES)
    assert model.predict(FEATURES).tobytes() == MODEL.predict(FEATURES).tobytes()
    threads = threading.active_count()
    del model
    gc.collect()
    assert threading.active_count() < threads


def test_values_of_every_kind_survive() -> None:
    """Texts, whole numbers, booleans and nulls reach the model as they are."""
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
        lambda seen: ANSWER(seen)._replace(fault="truncate"),
    ],
    ids=["503", "reset", "stall", "truncate"],
)
def test_retryable_errors_change_no_scores(fault: Callable[[Seen], Reply]) -> None:
    """An endpoint that fails three calls in ten gives the same scores, and the retries are counted."""
    with serving(failing(fault)) as served:
        model = http(served.url, max_request_rows=15, timeout_seconds=0.5)
        assert model.predict(FEATURES).tobytes() == MODEL.predict(FEATURES).tobytes()
        failed = sum(seen.number % 10 < 3 for seen in served.seen)
        assert failed >= 4
        assert model.calls_made.retries == failed
        assert model.calls_made.requests == 14 == len(served.seen) - failed
        assert model.calls_made.rows == 203


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_an_endpoint_that_always_fails_is_an_error(status: int) -> None:
    """The error names the URL, the status, the answer and what to do."""
    with serving(always(status, "out of memory\nin line 3")) as served:
        model = http(served.url + "/invocations", attempts=2, concurrency=1)
        error = failure(model)
        assert error.status == status
        assert error.problem.startswith(r"out of memory\n")
        assert "model.attempts" in error.remedy
        assert model.calls_made == Calls(1, 203, len(served.seen[0].body), retries=1)


def test_a_refused_connection_is_an_error(golden: Golden) -> None:
    """A refused connection is tried again, and the error names the URL."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        model = http(url, attempts=2)
        error = failure(model)
        assert error.status is None
        assert model.calls_made.retries == 1
        golden(error, (r"Errno \d+", "Errno {number}"))


def test_pauses_double_up_to_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause is twice as long as the last, and never longer than ten seconds."""
    assert _pauses(monkeypatch, {}) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]


@pytest.mark.parametrize(("advice", "seconds"), [("3", 3), ("3600", 60), ("soon", 0.1), ("0", 0.1), ("-5", 0.1)])
def test_retry_after_is_heeded(monkeypatch: pytest.MonkeyPatch, advice: str, seconds: float) -> None:
    """An endpoint may ask for a longer pause, up to a minute."""
    assert _pauses(monkeypatch, {"Retry-After": advice})[0] == seconds


def _pauses(monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]) -> list[float]:
    """Return how long a client pauses between ten tries that all fail, without letting it."""
    pauses: list[float] = []
    monkeypatch.setattr(transport, "pause", lambda seconds, _: pauses.append(seconds))
    with serving(always(503, "", headers)) as served, suppress(EndpointError):
        http(served.url, attempts=10).predict(FEATURES)
    return [seconds for seconds in pauses if seconds > 0.05]


def test_the_circuit_breaks(golden: Golden) -> None:
    """After many failures in a row, whichever request they belong to, nothing more is sent."""
    with serving(always(503, "down")) as served:
        model = http(served.url, max_request_rows=5, max_failures=6, concurrency=2)
        error = failure(model)
        assert error.status == 503
        assert "model.max_failures" in error.remedy
        assert 6 <= len(served.seen) <= 7
        assert str(failure(model)) == str(error)
        assert len(served.seen) <= 7
        golden(error)


def test_the_circuit_counts_failures_in_a_row() -> None:
    """A successful response resets the count."""
    with serving(failing(always(503, "down"), every=3, of=2)) as served:
        http(served.url, max_request_rows=50, max_failures=3, concurrency=1).predict(FEATURES)
        assert len(served.seen) == 15


def test_the_rate_is_limited() -> None:
    """All threads and tries together keep to the rate."""
    with serving(failing(always(503, "down"), every=4, of=1)) as served:
        http(served.url, max_request_rows=10, max_requests_per_second=20, concurrency=8).predict(FEATURES)
        times = [seen.at for seen in served.seen]
        assert len(times) >= 27
        assert max(times) - min(times) >= 0.9 * (len(times) - 1) / 20


@pytest.mark.parametrize(
    "answer",
    [refusing_batches, lambda seen: Reply(200, ANSWER(seen).body.partition("\n")[0])],
    ids=["refusing", "miscounting"],
)
def test_refused_batches_are_sent_record_by_record(
    answer: Answerer, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """An endpoint that takes one record a request gets one, and is not shown batches again."""
    with serving(answer) as served, caplog.at_level(logging.WARNING):
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


def test_a_refused_record_is_an_error(golden: Golden) -> None:
    """A record that is refused alone ends the prediction, without another try."""
    with serving(always(422, "unknown plan")) as served:
        model = http(served.url, max_request_rows=2, concurrency=1)
        error = failure(model)
        assert (error.status, error.problem) == (422, "unknown plan")
        golden(error)
        assert [seen.body.count(b"\n") for seen in served.seen] == [1, 0]
        assert model.calls_made.retries == 0


@pytest.mark.parametrize("status", [401, 403, 404, 405, 501, 302])
def test_non_retryable_errors_are_not_retried(status: int, golden: Golden) -> None:
    """Errors that do not depend on the batch size are raised at once."""
    with serving(always(status, "no")) as served:
        model = http(served.url, max_request_rows=2, concurrency=1)
        error = failure(model)
        assert (error.status, error.problem) == (status, "no")
        golden(error)
        assert len(served.seen) == 1
        assert model.calls_made.fallbacks == 0


@given(
    rows=st.integers(0, 60),
    most=st.integers(1, 25),
    size=st.integers(90, 900),
    settings=st.sampled_from([{}, {"content_type": CSV}, MANY, ONE]),
)
def test_calls_made_match_planned_calls(rows: int, most: int, size: int, settings: dict[str, Any]) -> None:
    """A healthy endpoint gets exactly the requests, rows and bytes that were planned, none too large."""
    model = http("http://127.0.0.1:9", max_request_rows=most, max_payload_bytes=size, **settings)
    bodies: list[bytes] = []

    def call(body: bytes, accept: str, inference_id: str) -> Response:
        bodies.append(body)
        return Response(200, '{"score":0.5}\n' * _records(body, settings), retryable=False)

    vars(model)["_call"] = call
    table = FEATURES.head(rows)
    planned = model.planned_calls(table)
    assert model.predict(table).shape == (rows, 1)
    assert model.calls_made == planned == Calls(len(bodies), rows, sum(map(len, bodies)))
    assert all(len(body) <= size and _records(body, settings) <= most for body in bodies)


def _records(body: bytes, settings: dict[str, Any]) -> int:
    if settings is ONE:
        return 1
    return len(json.loads(body)["instances"]) if settings is MANY else len(body.splitlines())


def test_requests_are_as_large_as_they_may_be() -> None:
    """One byte less, and one record fewer fits."""
    line = len('{"features":[1.0,2.0,3.0]}')
    table = pl.DataFrame({"a": [1.0] * 9, "b": [2.0] * 9, "c": [3.0] * 9})
    for less, requests in ((0, 3), (1, 5)):
        model = http("http://127.0.0.1:9", max_payload_bytes=3 * line + 2 - less)
        assert model.planned_calls(table).requests == requests


def test_a_record_that_fits_in_no_request_is_an_error(golden: Golden) -> None:
    """The record is named, and nothing is sent."""
    with serving(ANSWER) as served:
        table = pl.DataFrame({"a": ["x", "y" * 90], "b": [0, 0], "c": [0, 0]})
        error = failure(http(served.url, max_payload_bytes=80), table)
        assert error.status is None
        assert "model.max_payload_bytes" in error.remedy
        assert not served.seen
        golden(error)


def test_numbers_that_no_request_can_carry_are_an_error(golden: Golden) -> None:
    """A feature that is not finite is named."""
    error = failure(http("http://127.0.0.1:9"), pl.DataFrame({"a": [1.0, float("nan")]}))
    assert error.status is None
    golden(error)


def test_scores_keep_the_order_of_records() -> None:
    """Answers that come in any order are put in the order of the rows."""
    chance = random.Random(5)

    def delayed(seen: Seen) -> Reply:
        time.sleep(chance.random() / 50)
        return ANSWER(seen)

    with serving(delayed) as served:
        model = http(served.url, max_request_rows=2, concurrency=16)
        assert model.predict(FEATURES).tobytes() == MODEL.predict(FEATURES).tobytes()
        assert len(served.seen) == 102


def test_an_error_stops_the_other_requests() -> None:
    """After a failed request, pending requests are not sent and pauses end."""
    with serving(lambda seen: Reply(503, "", {"Retry-After": "60"}) if seen.number else Reply(403, "no")) as served:
        model = http(served.url, max_request_rows=2, concurrency=4)
        started = time.monotonic()
        error = failure(model)
        assert (error.status, error.problem) == (403, "no")
        assert len(served.seen) <= 8
        assert time.monotonic() - started < 20


def test_an_interrupt_stops_the_requests() -> None:
    """After an interrupt, pending requests are not sent."""

    def interrupting(seen: Seen) -> Reply:
        if seen.number == 3:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.1)
        return ANSWER(seen)

    with serving(interrupting) as served:
        with pytest.raises(KeyboardInterrupt):
            http(served.url, max_request_rows=1, concurrency=2).predict(FEATURES)
        assert len(served.seen) < 50


def test_an_error_does_not_wait_for_other_requests() -> None:
    """An error is raised at once, even while another request is in progress."""
    stalled = threading.Event()

    def answer(seen: Seen) -> Reply:
        if seen.number == 0:
            stalled.set()
            return Reply(200, "", fault="stall")
        stalled.wait(5)
        return Reply(403, "no")

    with serving(answer) as served:
        model = http(served.url, max_request_rows=2, concurrency=2)
        started = time.monotonic()
        error = failure(model)
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
            printed, _ = process.communicate(timeout=5)
        finally:
            process.kill()
            process.communicate()
    assert process.returncode == 130, printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("items", [0, 1, 50])
def test_in_order(items: int) -> None:
    """Results stand in the order of the items, however long each takes, and no thread is left."""

    def work(item: int, stopped: threading.Event) -> int:
        time.sleep(item % 3 / 1000)
        return -item

    before = set(threading.enumerate())
    assert transport.in_order(work, range(items), 8) == [-item for item in range(items)]
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("settings", [{}, {"label_headers": ["x", "y", "z"]}], ids=["unnamed", "named"])
def test_a_changed_number_of_outputs_is_an_error(settings: dict[str, Any], golden: Golden) -> None:
    """Answers with another number of outputs are an error."""
    with serving(lambda seen: answering(seen, *([0.5, 0.5] if seen.number == 0 else [0.5]))) as served:
        model = http(served.url, max_request_rows=2, concurrency=1, **settings)
        with golden.raises(ModelAnswerError):
            model.predict(FEATURES[:4])


def test_outputs_are_remembered(golden: Golden) -> None:
    """The number of outputs is remembered for later predictions, also without rows."""
    with serving(lambda seen: answering(seen, *([0.5, 0.5] if seen.number == 0 else [0.5]))) as served:
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
def test_answers_without_scores_are_an_error(body: str, golden: Golden) -> None:
    """An answer that cannot be read names the endpoint and what was found, and is not asked for again."""
    with serving(always(200, body)) as served:
        with golden.raises(ModelAnswerError) as caught:
            http(served.url).predict(FEATURES[:1])
        assert caught.value.problem.startswith(f"{served.url}: ")
        assert len(served.seen) == 1


def test_flat_answers_are_cut_into_rows() -> None:
    """Where the outputs have names, a flat list of all scores is read record after record."""
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
def test_other_counts_are_not_cut(data: list[Any], headers: list[str] | None, golden: Golden) -> None:
    """A list of another length than records times outputs is not split; records are then sent one by one."""
    with serving(lambda seen: Reply(200, json.dumps(data if seen.body.count(b"\n") else [0.5]))) as served:
        model = http(served.url, accept_type=JSON, score=None, label_headers=headers)
        if headers and len(headers) > 1:
            with golden.raises(ModelAnswerError):
                model.predict(FEATURES[:2])
        else:
            assert model.predict(FEATURES[:2]).tolist() == [[0.5], [0.5]]
        assert model.calls_made.fallbacks == 1


def test_calls_are_marked_as_probes() -> None:
    """Each request carries an inference id that captures of it are dropped by, the same in all its tries."""
    with serving(failing(always(503, "down"), every=100, of=1)) as served:
        model = http(served.url, max_request_rows=100, concurrency=1)
        model.predict(FEATURES)
        model.predict(FEATURES[:1])
        ids = [seen.headers["x-amzn-sagemaker-inference-id"] for seen in served.seen]
        assert ids == [f"shapwatch-probe-{number}" for number in (1, 1, 2, 3, 4)]
        assert [seen.headers["ce-id"] for seen in served.seen] == ids


def test_encode_response_makes_one_request(golden: Golden) -> None:
    """The body of the endpoint's answer comes back as it is, in the media type that was asked for."""
    with serving(ANSWER) as served:
        model = http(served.url, max_request_rows=2)
        assert model.encode_response(FEATURES[:9], JSON) == MODEL.encode_response(FEATURES[:9], JSON)
        (seen,) = served.seen
        assert seen.headers["accept"] == JSON
        assert model.calls_made == Calls(1, 9, len(seen.body))
        with golden.raises(EndpointError) as caught:
            model.encode_response(FEATURES[:9], "image/png")
        assert caught.value.status == 406


def test_encode_response_of_single_record_requests(golden: Golden) -> None:
    """A request that carries one record cannot carry two."""
    with golden.raises(ValueError):
        http("http://127.0.0.1:9", **ONE).encode_response(FEATURES[:2], JSON)


def test_planning_makes_no_calls() -> None:
    """A model behind a wire has no identity, and planning sends nothing."""
    with serving(ANSWER) as served:
        model = http(served.url)
        assert model.identity is None
        assert model.calls_made == Calls()
        model.planned_calls(FEATURES)
        assert model.calls_made == Calls()
        assert served == Served(served.url)


def test_dry_run_counts_calls_without_making_them() -> None:
    """A dry run adds up the planned calls; every engine runs it in this process, where the counts are."""
    with serving(ANSWER) as served:
        model = http(served.url)
        dry_run = DryRunModel(model, 2)
        engine = Engine(kind="loky", workers=1, address=None)
        (scores_NL,) = engine.map(lambda model, features: model.predict(features), dry_run, [FEATURES])
        assert scores_NL.tolist() == [[0.5, 0.5]] * FEATURES.height
        assert dry_run.calls_made == model.planned_calls(FEATURES)
        assert served == Served(served.url)


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
def test_settings_that_cannot_work_are_refused(
    settings: dict[str, Any], kind: str, key: str | None, golden: Golden
) -> None:
    """A model is not made of settings that contradict each other."""
    with pytest.raises(ValidationError) as caught:
        http("http://127.0.0.1:9", **settings)
    (problem,) = caught.value.errors()
    assert (problem["type"], problem["loc"]) == (kind, () if key is None else (key,))
    golden(problem["msg"])


def test_a_column_may_be_a_number() -> None:
    """YAML has the number of a column as a number."""
    assert http("http://127.0.0.1:9", accept_type=CSV, score=0).score == "0"


def test_pause_ends_when_work_stops() -> None:
    """A pause ends as soon as the stop event is set."""
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(transport.Stopped):
        transport.pause(60, stopped)
