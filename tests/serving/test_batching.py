"""Batching: each request gets the response of a separate call, with as few model calls as possible."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runner.errors import EndpointError, ModelInputError
from runner.models.base import LocalModel
from runner.models.linear import LinearModel
from runner.models.linear_learner import LinearLearner
from runner.protocols import Model
from runner.records.fields import Fields
from runner.serving import batching
from runner.serving.batching import MAX_BATCH_ROWS, RequestBatcher
from runner.serving.requests import ClientDisconnected, RequestError, RequestReader, encode_response
from tests.conftest import DEMO
from tests.formula_models import Formula, additive
from tests.golden import Golden
from tests.processes import wait_until

LINES, JSON, CSV = "application/jsonlines", "application/json", "text/csv"
FIELDS = Fields("features", "score")
DEMO_MODEL = LinearLearner(kind="linear_learner", artifact=DEMO / "model.tar.gz", label_headers=None, deploy=None)
PLANS = LinearModel(
    kind="linear",
    link="softmax",
    intercept=(0.5, -1.25),
    coefficients={
        "column_0": {"north": (0.5, -0.5), "Zürich\u2028": (-1.0, 1.0)},
        "column_1": (-0.01, 0.02),
        "column_2": {"true": (-0.75, 1.0)},
    },
    label_headers=("basic\u2028", "pro"),
    deploy=None,
)

ONE = RequestReader(FIELDS).with_types([[1.0]])

Row = Sequence[Any]
Request = tuple[Sequence[Row], str]


def responses_to(model: Model, *requests: Request) -> list[str | RequestError]:
    """Return the responses to requests that arrive together."""

    async def respond() -> list[Any]:
        batches = RequestBatcher(model, FIELDS.names, is_fast=isinstance(model, LocalModel) and model.is_fast)
        reader = RequestReader(FIELDS)
        responses = [
            batches.respond(reader.with_types([list(row) for row in rows]), accept) for rows, accept in requests
        ]
        return await asyncio.gather(*responses, return_exceptions=True)

    return asyncio.run(respond())


def response_alone(model: Model, rows: Sequence[Row], accept: str) -> str:
    """Return the response to one request, with column types inferred by polars."""
    names = [f"column_{d}" for d in range(len(rows[0]))]
    return encode_response(
        model, pl.DataFrame(rows, names, orient="row", strict=False, infer_schema_length=None), accept
    )


def failing_formula(function: Callable[[pl.DataFrame], NDArray[np.float64]], error: BaseException) -> Formula:
    """Return a model that raises an error if the first feature is negative."""

    def scores(features: pl.DataFrame) -> NDArray[np.float64]:
        if (features[:, 0] < 0).any():
            raise error
        return function(features)

    return Formula(scores)


number = st.integers(-(2**70), 2**70) | st.floats(-1e30, 1e30)
accepts = st.sampled_from([LINES, LINES, JSON, CSV])
demo_rows = st.lists(st.tuples(*[number] * 10), min_size=1, max_size=4)
plans_rows = st.lists(
    st.tuples(
        st.none() | st.sampled_from(["north", "Zürich\u2028", "else"]),
        st.none() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6),
        st.none() | st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@hypothesis_settings(max_examples=60)
@given(st.lists(st.tuples(demo_rows, accepts), min_size=1, max_size=12))
def test_linear_learner_responses_equal_those_of_single_calls(requests: list[Request]) -> None:
    """Responses are byte-identical for any mixture of integers, floats and integers beyond 64 bits."""
    expected = [
        response_alone(DEMO_MODEL, [[_json(v) for v in row] for row in rows], accept) for rows, accept in requests
    ]
    assert responses_to(DEMO_MODEL, *requests) == expected


@hypothesis_settings(max_examples=60)
@given(st.lists(st.tuples(plans_rows, accepts), min_size=1, max_size=12))
def test_linear_responses_equal_those_of_single_calls(requests: list[Request]) -> None:
    """Responses are equal for strings, booleans and nulls, also with line separators in labels."""
    assert responses_to(PLANS, *requests) == [response_alone(PLANS, rows, accept) for rows, accept in requests]


def _json(value: float) -> float:
    """Return a number as JSON parsers read it, with integers of at most 64 bits."""
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def test_requests_of_one_type_are_one_call() -> None:
    """Single records and mini-batches that arrive together are joined."""
    model = Formula(additive)
    assert responses_to(model, ([[1.0]], LINES), ([[2.0], [3.0]], LINES), ([[4.0]], LINES)) == [
        '{"score":1.0}\n',
        '{"score":2.0}\n{"score":3.0}\n',
        '{"score":4.0}\n',
    ]
    assert model.batches == [4]


def test_requests_of_different_types_are_separate_calls() -> None:
    """Other requests never change the types of a request."""
    types = []

    def record_types(features: pl.DataFrame) -> NDArray[np.float64]:
        types.append((str(features.dtypes[0]), features.height))
        return np.zeros(features.height)

    rows: list[list[Row]] = [[[1]], [[1.5]], [[2]], [[1], [2.5]], [["a"]], [[None]], [[True]], [[2**63]], [[1], [None]]]
    responses_to(Formula(record_types), *((each, LINES) for each in rows))
    assert types == [("Int64", 4), ("Float64", 4), ("String", 1), ("Null", 1), ("Boolean", 1)]


def test_rows_of_a_call_are_limited() -> None:
    """Requests are joined up to MAX_BATCH_ROWS; a larger request is one call."""
    model = Formula(additive)
    rows = [[0.0]] * (MAX_BATCH_ROWS // 2 + 1)
    responses_to(model, (rows, LINES), (rows, LINES), ([[1.0]], LINES), (rows * 2, LINES))
    assert model.batches == [len(rows), len(rows) + 1, 2 * len(rows)]


def test_requests_during_a_call_form_the_next_batch() -> None:
    """Requests that arrive during a call are joined into the next one."""
    started, ended = threading.Event(), threading.Event()

    def slow(features: pl.DataFrame) -> NDArray[np.float64]:
        started.set()
        assert ended.wait(20)
        return additive(features)

    async def send_requests(batches: RequestBatcher) -> None:
        running = asyncio.create_task(batches.respond(ONE, LINES))
        await asyncio.to_thread(started.wait, 20)
        pending = [asyncio.create_task(batches.respond(ONE, LINES)) for _ in range(5)]
        await asyncio.sleep(0)
        pending.pop().cancel()
        ended.set()
        assert {await task for task in [running, *pending]} == {'{"score":1.0}\n'}
        assert batches.answered == 5

    model = Formula(slow)
    asyncio.run(send_requests(RequestBatcher(model, FIELDS.names)))
    assert model.batches == [1, 4]


def test_requests_of_disconnected_clients_are_withdrawn() -> None:
    """They do not reach the model unless it has begun; the records are forgotten at once."""
    started, ended = threading.Event(), threading.Event()

    def slow(features: pl.DataFrame) -> NDArray[np.float64]:
        started.set()
        assert ended.wait(20)
        return additive(features)

    async def send_requests(accept: str) -> list[Any]:
        started.clear()
        ended.clear()
        loop = asyncio.get_running_loop()
        batches = RequestBatcher(model, FIELDS.names)
        clients = [loop.create_future() for _ in range(4)]
        running = asyncio.create_task(batches.respond(ONE, accept, clients[0]))
        await asyncio.to_thread(started.wait, 20)
        pending = [asyncio.create_task(batches.respond(ONE, accept, client)) for client in clients[1:]]
        await asyncio.sleep(0)
        for client in clients[:3]:
            client.set_result(None)
        withdrawn = await asyncio.gather(*pending[:2], return_exceptions=True)
        ended.set()
        assert [type(error) for error in withdrawn] == [ClientDisconnected] * 2
        return [await running, await pending[2]]

    for accept in (LINES, JSON):
        model = Formula(slow)
        first, last = asyncio.run(send_requests(accept))
        assert first == last
        assert model.batches == [1, 1]


def test_only_the_invalid_request_is_rejected(golden: Golden) -> None:
    """The other requests of its batch are answered."""
    model = failing_formula(additive, ModelInputError("formula", "column_0", -1.0, "positive numbers"))
    first, error_response, third = responses_to(model, ([[1.0]], LINES), ([[5.0], [-1.0]], LINES), ([[2.0]], LINES))
    assert (first, third) == ('{"score":1.0}\n', '{"score":2.0}\n')
    assert isinstance(error_response, RequestError)
    assert (error_response.status, error_response.kind) == (400, None)
    golden(error_response)


@pytest.mark.parametrize(
    "error",
    [
        *(KeyError("secret"), StopIteration(), SystemExit(3), ValueError("secret"), BaseException("secret")),
        *(KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_model_failure_is_answered_and_logged(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """The request is answered with 500, the exception is logged, and the other requests are answered."""
    with caplog.at_level(logging.ERROR, "shapwatch"):
        error_response, other = responses_to(failing_formula(additive, error), ([[-1.0]], LINES), ([[2.0]], LINES))
    assert other == '{"score":2.0}\n'
    assert isinstance(error_response, RequestError)
    assert error_response.status == 500
    assert "secret" not in str(error_response)
    (record,) = caplog.records
    assert record.exc_info
    assert record.exc_info[1] is error


def test_repeated_failures_are_logged_in_few_lines(caplog: pytest.LogCaptureFixture, golden: Golden) -> None:
    """The traceback is logged once for each kind; 100 failures are seven lines."""

    def scores(features: pl.DataFrame) -> NDArray[np.float64]:
        value = float(features[0, 0])
        if value < 0:
            raise ValueError(f"record {value:g}")
        raise KeyError(value)

    requests = [([[float(x)]], LINES) for x in (*range(-100, 0), 1)]
    with caplog.at_level(logging.ERROR, "shapwatch"):
        assert all(isinstance(each, RequestError) for each in responses_to(Formula(scores), *requests))
    assert [bool(record.exc_info) for record in caplog.records] == [True] + [False] * 6 + [True]
    golden(caplog.records[1].getMessage(), (r"line \d+", "line {number}"))


def test_panic_of_native_code_costs_its_own_request_only() -> None:
    """A panic in polars is no Exception; the request gets its 500, later ones are answered."""

    def scores(features: pl.DataFrame) -> NDArray[np.float64]:
        if (features[:, 0] < 0).any():
            pl.Series(["a"]).str.zfill(2**40)
        return additive(features)

    async def send_requests() -> list[Any]:
        batches = RequestBatcher(Formula(scores), FIELDS.names)
        responses = [batches.respond(RequestReader(FIELDS).with_types([[x]]), LINES) for x in (1.0, -1.0, 2.0)]
        return [*await asyncio.gather(*responses, return_exceptions=True), await batches.respond(ONE, LINES)]

    first, error_response, third, later = asyncio.run(send_requests())
    assert (first, third, later) == ('{"score":1.0}\n', '{"score":2.0}\n', '{"score":1.0}\n')
    assert isinstance(error_response, RequestError)
    assert error_response.status == 500


def test_hanging_call_is_left_to_its_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """Its request fails, other requests get another thread, and the server is unhealthy until the call ends."""
    monkeypatch.setattr(batching, "MODEL_SECONDS", 0.5)
    ended = threading.Event()

    def scores(features: pl.DataFrame) -> NDArray[np.float64]:
        if features[0, 0] < 0:
            assert ended.wait(20)
        return additive(features)

    async def send_requests() -> None:
        batches = RequestBatcher(Formula(scores), FIELDS.names)
        assert await batches.respond(ONE, LINES) == '{"score":1.0}\n'
        assert batches.problem is None
        with pytest.raises(RequestError) as caught:
            await batches.respond(RequestReader(FIELDS).with_types([[-1.0]]), LINES)
        assert caught.value.status == 500
        assert await batches.respond(ONE, LINES) == '{"score":1.0}\n'
        golden(f"{batches.problem}\n{caplog.messages}".replace("0.5 s", "60 s"))
        ended.set()
        await asyncio.to_thread(wait_until, lambda: batches.problem is None)
        assert batches.answered == 2

    with caplog.at_level(logging.ERROR, "shapwatch"):
        asyncio.run(send_requests())


def test_thread_that_has_died_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request of a thread that has died fails, and a new thread answers the next one."""
    monkeypatch.setattr(batching, "CHECK_SECONDS", 0.05)

    async def send_requests() -> list[Any]:
        batches = RequestBatcher(Formula(additive), FIELDS.names)
        with monkeypatch.context() as patch:
            patch.setattr(batching.ModelThread, "run", lambda thread, _: thread.close())
            (failed,) = await asyncio.gather(batches.respond(ONE, LINES), return_exceptions=True)
        return [failed, await batches.respond(ONE, LINES)]

    failed, later = asyncio.run(send_requests())
    assert isinstance(failed, RequestError)
    assert (failed.status, later) == (500, '{"score":1.0}\n')


def test_requests_fail_while_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """They get their 500, and later ones are answered."""

    def no_more_threads(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def send_requests() -> list[Any]:
        batches = RequestBatcher(Formula(additive), FIELDS.names)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more_threads)
            failed = await asyncio.gather(*[batches.respond(ONE, LINES) for _ in range(2)], return_exceptions=True)
        return [*failed, await batches.respond(ONE, LINES)]

    *failed, later = asyncio.run(send_requests())
    assert [error.status for error in failed] == [500, 500]
    assert later == '{"score":1.0}\n'


def test_endpoint_error_is_passed_on() -> None:
    """The response contains the message of a remote model."""
    error = EndpointError("http://far/away", 503, "busy", "wait")
    (error_response,) = responses_to(failing_formula(additive, error), ([[-1.0]], LINES))
    assert isinstance(error_response, RequestError)
    assert (error_response.status, str(error_response)) == (500, str(error))


def test_unsupported_media_type_is_rejected(golden: Golden) -> None:
    """The status is 406 with the model's message; other requests are answered."""
    first, second, third = responses_to(
        Formula(additive), ([[1.0]], "image/png"), ([[2.0]], "image/png"), ([[3.0]], LINES)
    )
    assert isinstance(first, RequestError)
    assert isinstance(second, RequestError)
    assert (first.status, second.status, third) == (406, 406, '{"score":3.0}\n')
    golden(first)


@pytest.mark.parametrize("body", ["1.0,2.0\n", "1.0\n2.0", "1.0\n2.0\n\n", ""])
def test_responses_that_cannot_be_split_are_requested_separately(body: str) -> None:
    """A model without one line per record is called for each request."""

    class UnsplittableFormula(Formula):
        def encode_response(self, features: pl.DataFrame, accept: str) -> str:
            assert accept == CSV
            return body if features.height == 2 else encode_response(Formula(self.function), features, LINES)

    responses = responses_to(UnsplittableFormula(additive), ([[1.0]], CSV), ([[2.0]], CSV))
    assert responses == [
        '{"score":1.0}\n',
        '{"score":2.0}\n',
    ]


def test_user_code_runs_in_one_separate_thread() -> None:
    """A model may use its own event loop and thread-local state."""
    threads = set()

    def scores(features: pl.DataFrame) -> NDArray[np.float64]:
        asyncio.run(asyncio.sleep(0))
        threads.add(threading.current_thread())
        return features.to_numpy()[:, 0]

    async def send_requests() -> list[str]:
        batches = RequestBatcher(Formula(scores), FIELDS.names)
        return [await batches.respond(RequestReader(FIELDS).with_types([[float(i)]]), LINES) for i in range(4)]

    assert asyncio.run(send_requests()) == [f'{{"score":{i}.0}}\n' for i in range(4)]
    (thread,) = threads
    assert thread is not threading.main_thread()
    assert thread.daemon
