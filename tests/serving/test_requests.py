"""Request parsing: content types, column types, and invalid bodies; the process that reads large requests."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from runner.errors import RecordError
from runner.records import payloads
from runner.records.fields import Fields
from runner.records.payloads import MAX_VALUES, SCORES_PER_CALL, Format
from runner.serving import requests
from runner.serving.requests import (
    MAX_FEATURES,
    LargeRequestReader,
    RequestError,
    RequestReader,
    as_table,
    encode_response,
)
from tests.builders import DEMO_MODEL
from tests.formula_models import Formula, additive
from tests.golden import Golden
from tests.processes import wait_until
from tests.serving.served import serving
from tests.serving.test_app import CONTAINER, TRAFFIC, app_of, lines

LINES, JSON, CSV = "application/jsonlines", "application/json", "text/csv"
LINE = b'{"features":[1,"a"]}'
DOCUMENT = b'{"instances":[{"features":[1,"a"]}]}'


def fields(request: Format = "application/jsonlines", headers: tuple[str, ...] | None = None) -> Fields:
    """Return the positions of features for a default content type."""
    is_json = request == "application/json"
    return Fields("instances[*].features" if is_json else "features", None, headers, request)


@pytest.mark.parametrize(
    ("content_type", "body", "default"),
    [
        (None, LINE, "application/jsonlines"),
        (None, DOCUMENT, "application/json"),
        (None, b'1,"a"', "text/csv"),
        (b"application/jsonlines", LINE + b"\n", "application/jsonlines"),
        (b"Application/JSONLines; charset=UTF-8", LINE, "application/jsonlines"),
        (b"text/csv", b"1,a\r\n", "application/jsonlines"),
        (b'text/csv; header=absent; charset="utf-8"', b"1,a", "application/jsonlines"),
        (b"application/json;charset=us-ascii", DOCUMENT, "application/json"),
    ],
)
def test_content_type_selects_the_format(content_type: bytes | None, body: bytes, default: Format) -> None:
    """A request without a content type has the default one."""
    records = RequestReader(fields(default)).read(content_type, body)
    assert records.rows == [[1, "a"]]
    assert records.types == (pl.Int64, pl.String)


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"text/csv; charset=latin-1",
        b"\xff/\xff",
        b"text/csvx",
    ],
)
def test_unsupported_content_types_are_rejected(content_type: bytes, golden: Golden) -> None:
    """The status is 415, also for other charsets than UTF-8; the message lists the supported types."""
    with golden.raises(RequestError) as caught:
        RequestReader(fields()).read(content_type, LINE)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n\n", id="blank"),
        pytest.param(b'{"features":[1,', id="no JSON"),
        pytest.param(b'{"features":[1,NaN]}', id="NaN"),
        pytest.param(b'{"feature":[1]}', id="other key"),
        pytest.param(b'{"features":[[1]]}', id="list"),
        pytest.param(b'{"features":["\xff"]}', id="no UTF-8"),
        pytest.param(b'{"features":[1]}\n{"features":[1,2]}', id="two widths"),
        pytest.param(b'{"features":[0,1]}\n{"features":[0,"1"]}', id="number and string"),
        pytest.param(b'{"features":[true]}\n{"features":[1]}', id="boolean and number"),
    ],
)
def test_invalid_bodies_are_rejected(body: bytes, golden: Golden) -> None:
    """The message names the problem and its position."""
    with golden.raises(RequestError) as caught:
        RequestReader(fields()).read(None, body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body", [b'{"features":[1]}', b'{"features":[1,2,3]}\n{"features":[1,2]}'], ids=["fewer", "more"]
)
def test_other_number_of_values_than_headers_is_rejected(body: bytes, golden: Golden) -> None:
    """Each record needs one value per name in data.headers."""
    with golden.raises(RequestError) as caught:
        RequestReader(fields(headers=("Age", "Sex"))).read(None, body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"1," * MAX_FEATURES, id="wide"),
        pytest.param(b"1\n" * (MAX_VALUES + 1), id="long"),
        pytest.param(b"\n".join(b"1" + b",1" * width for width in range(2000)), id="many widths"),
    ],
)
def test_too_many_values_are_rejected(body: bytes, golden: Golden) -> None:
    """The message is short, and no table is built."""
    with golden.raises(RequestError) as caught:
        RequestReader(fields("text/csv")).read(None, body)
    assert caught.value.status == 400
    assert len(caught.value.message) < 300


def test_large_json_responses_are_one_document() -> None:
    """Records are encoded in parts; the body is the same."""
    model = Formula(lambda features: features["x"].to_numpy())
    scores = [float(number) for number in range(2 * SCORES_PER_CALL + 1)]
    features = pl.DataFrame({"x": scores})
    expected = json.dumps({"predictions": [{"score": score} for score in scores]})
    assert encode_response(model, features, JSON) == expected
    assert encode_response(model, features, "text/csv") == "".join(f"{score}\n" for score in scores)
    assert encode_response(model, features, LINES) == "".join(f'{{"score":{score}}}\n' for score in scores)


@pytest.mark.parametrize("accept", [JSON, "text/csv", LINES])
def test_too_large_responses_are_errors(accept: str, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error occurs before all scores are encoded."""
    monkeypatch.setattr(payloads, "MAX_RESPONSE_CHARACTERS", 1000)
    model = Formula(lambda features: np.ones((features.height, 100)), ("x",) * 100)
    with golden.raises(RecordError) as caught:
        encode_response(model, pl.DataFrame({"x": [1.0] * 11}), accept)
    assert caught.value.kind == "too_long"


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        ([1, 2], pl.Int64),
        ([1, None], pl.Int64),
        ([2**63 - 1, -(2**63)], pl.Int64),
        ([2**63], pl.Float64),
        ([1, -(2**63) - 1], pl.Float64),
        ([1.5], pl.Float64),
        ([1, 2.5, None], pl.Float64),
        ([None, "a"], pl.String),
        ([True, None], pl.Boolean),
        ([None, None], pl.Null),
    ],
)
def test_column_types(column: list[Any], dtype: type[pl.DataType]) -> None:
    """Integers become floats if a column also has floats or integers beyond 64 bits."""
    assert RequestReader(fields()).with_types([[value] for value in column]).types == (dtype,)


FEATURES = pl.DataFrame({"x": [1.0, 2.0], "y": [0.5, 0.25]})


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        (LINES, '{"score":1.0}\n{"score":2.0}\n'),
        (JSON, '{"predictions": [{"score": 1.0}, {"score": 2.0}]}'),
        (CSV, "1.0\n2.0\n"),
    ],
)
def test_one_output_is_a_number(accept: str, body: str) -> None:
    """Each record has one score."""
    model = Formula(lambda features: features["x"].to_numpy())
    assert encode_response(model, FEATURES, accept) == body


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        (LINES, '{"score":[1.0,0.5]}\n{"score":[2.0,0.25]}\n'),
        (JSON, '{"predictions": [{"score": [1.0, 0.5]}, {"score": [2.0, 0.25]}]}'),
        (CSV, "1.0,0.5\n2.0,0.25\n"),
    ],
)
def test_several_outputs_are_a_list(accept: str, body: str) -> None:
    """Each record has a list of scores, or several columns in CSV."""
    model = Formula(lambda features: features.to_numpy(), label_headers=("x", "y"))
    assert encode_response(model, FEATURES, accept) == body


def test_no_records_have_no_lines() -> None:
    """Without records, the list of predictions is empty."""
    model = Formula(lambda features: features["x"].to_numpy())
    assert encode_response(model, FEATURES.clear(), JSON) == '{"predictions": []}'
    assert encode_response(model, FEATURES.clear(), LINES) == encode_response(model, FEATURES.clear(), CSV) == ""


FIELDS = Fields("features", "score", ("a", "b", "c", "ü"))
ROWS = [[1, 0.1, "x", True], [None, -1e300, "\u2028", None], [2**70, 3, "", False]]


@pytest.fixture(scope="module")
def reader() -> LargeRequestReader:
    """A reader for all tests."""
    return LargeRequestReader(FIELDS)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """An event loop for all tests."""
    with asyncio.Runner() as runner:
        yield runner


def pid(reader: LargeRequestReader) -> int:
    """Return the id of the reader's process, which runs."""
    assert reader._process is not None
    assert reader._process.poll() is None
    return reader._process.pid


def failure(loop: asyncio.Runner, read: Coroutine[Any, Any, pl.DataFrame]) -> tuple[int, str]:
    """Return the status and the message of the error."""
    with pytest.raises(RequestError) as caught:
        loop.run(read)
    return caught.value.status, caught.value.message


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (None, lines(ROWS * 5)),
        (b"application/json; charset=utf-8", json.dumps({"features": ROWS})),
        (b"text/csv", "1,2.5,a,true\n,-1,b,\n"),
    ],
)
def test_tables_equal_those_of_small_requests(
    reader: LargeRequestReader, loop: asyncio.Runner, content_type: bytes | None, body: str
) -> None:
    """Types, values and names are equal for all formats."""
    expected = as_table(RequestReader(FIELDS).read(content_type, body.encode()), FIELDS.names)
    assert_frame_equal(loop.run(reader.read(content_type, body.encode())), expected)


@pytest.mark.parametrize(
    ("content_type", "body"), [(b"image/png", "x"), (None, '{"features":[1'), (None, ""), (None, '{"features":[1,2]}')]
)
def test_errors_equal_those_of_small_requests(
    reader: LargeRequestReader, loop: asyncio.Runner, content_type: bytes | None, body: str
) -> None:
    """Status and message are equal."""
    with pytest.raises(RequestError) as caught:
        RequestReader(FIELDS).read(content_type, body.encode())
    expected = caught.value.status, caught.value.message
    assert failure(loop, reader.read(content_type, body.encode())) == expected


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_process_that_has_ended_is_replaced(
    reader: LargeRequestReader, loop: asyncio.Runner, number: signal.Signals
) -> None:
    """The next request is read."""
    body = lines(ROWS).encode()
    loop.run(reader.read(None, body))
    before = pid(reader)
    os.kill(before, number)
    wait_until(lambda: reader._process and reader._process.poll() is not None)
    assert loop.run(reader.read(None, body)).height == len(ROWS)
    assert pid(reader) != before


def test_interrupt_of_the_terminal_does_not_end_the_process(reader: LargeRequestReader, loop: asyncio.Runner) -> None:
    """Ctrl-C reaches all processes of a terminal; the server decides when they end."""
    body = lines(ROWS).encode()
    loop.run(reader.read(None, body))
    before = pid(reader)
    os.kill(before, signal.SIGINT)
    assert loop.run(reader.read(None, body)).height == len(ROWS)
    assert pid(reader) == before


def test_request_that_takes_too_long_fails(
    reader: LargeRequestReader, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is 500, and the next request is read by a new process."""
    body = lines(ROWS).encode()
    loop.run(reader.read(None, body))
    os.kill(pid(reader), signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(requests, "READ_SECONDS", 0.1)
        assert failure(loop, reader.read(None, body))[0] == 500
    assert loop.run(reader.read(None, body)).height == len(ROWS)


def test_process_ends_with_its_reader(loop: asyncio.Runner) -> None:
    """No process remains."""
    reader = LargeRequestReader(FIELDS)
    loop.run(reader.read(None, lines(ROWS).encode()))
    process = reader._process
    assert process is not None
    del reader

    def has_ended() -> bool:
        gc.collect()
        return process.poll() is not None

    wait_until(has_ended)


def test_cancelled_request_does_not_change_the_next_one(reader: LargeRequestReader, loop: asyncio.Runner) -> None:
    """The response to a cancelled request is ignored."""

    async def read() -> list[int]:
        await reader.read(None, lines(ROWS).encode())
        os.kill(pid(reader), signal.SIGSTOP)
        cancelled = asyncio.create_task(reader.read(None, lines(ROWS * 7).encode()))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        later = [asyncio.create_task(reader.read(None, lines(ROWS * count).encode())) for count in (1, 2)]
        await asyncio.sleep(0)
        os.kill(pid(reader), signal.SIGCONT)
        return [table.height for table in await asyncio.gather(*later)]

    assert loop.run(read()) == [3, 6]


def test_requests_of_clients_that_have_gone_are_not_read(
    reader: LargeRequestReader, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the one that has reached the process; the others do not delay later requests."""
    sizes: list[int] = []
    exchange = LargeRequestReader._exchange

    def record(reader: LargeRequestReader, content_type: bytes | None, body: bytes) -> tuple[int, bytes]:
        sizes.append(len(body))
        return exchange(reader, content_type, body)

    async def read() -> None:
        await reader.read(None, lines(ROWS).encode())
        os.kill(pid(reader), signal.SIGSTOP)
        bodies = [lines(ROWS * count).encode() for count in range(2, 20)]
        tasks = []
        for body in bodies:
            tasks.append(asyncio.create_task(reader.read(None, body)))
            await asyncio.sleep(0)
            tasks[-1].cancel()
        last = asyncio.create_task(reader.read(None, b" "))
        await asyncio.sleep(0)
        os.kill(pid(reader), signal.SIGCONT)
        with pytest.raises(RequestError):
            await last
        await asyncio.gather(*tasks, return_exceptions=True)

    monkeypatch.setattr(LargeRequestReader, "_exchange", record)
    loop.run(read())
    assert len(sizes) <= 3
    assert (sizes[0], sizes[-1]) == (len(lines(ROWS)), 1)


def test_closed_reader_ends_its_process_while_it_reads(loop: asyncio.Runner) -> None:
    """The request fails with the status 500 at once."""
    reader = LargeRequestReader(FIELDS)

    async def read() -> tuple[int, str]:
        await reader.read(None, lines(ROWS).encode())
        os.kill(pid(reader), signal.SIGSTOP)
        reading = asyncio.create_task(reader.read(None, lines(ROWS).encode()))
        await asyncio.sleep(0.05)
        reader.close()
        with pytest.raises(RequestError) as caught:
            await reading
        return caught.value.status, caught.value.message

    assert loop.run(read())[0] == 500


def test_other_requests_do_not_wait_for_a_large_one() -> None:
    """While the process does not proceed, small requests and /ping have responses."""
    app = app_of(DEMO_MODEL)
    reader = app._exact[CONTAINER].large_requests
    large = lines(TRAFFIC * 10)
    with serving(app) as url, httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(1) as pool:
        for accept in (LINES, JSON, CSV):
            response = client.post(CONTAINER, content=large, headers={"accept": accept})
            assert response.text == DEMO_MODEL.encode_response(pl.DataFrame(TRAFFIC * 10, orient="row"), accept)
        os.kill(pid(reader), signal.SIGSTOP)
        waiting = pool.submit(client.post, CONTAINER, content=large)
        assert client.get("/ping").status_code == 200
        assert client.post(CONTAINER, content=lines(TRAFFIC[:1])).status_code == 200
        assert not waiting.done()
        os.kill(pid(reader), signal.SIGCONT)
        assert waiting.result().text == DEMO_MODEL.encode_response(pl.DataFrame(TRAFFIC * 10, orient="row"), LINES)


@pytest.mark.parametrize(("rows", "is_large"), [(400, False), (5000, True)])
def test_short_body_with_many_values_is_a_large_one(rows: int, is_large: bool) -> None:
    """The process reads it, and the response is the same."""
    app = app_of(Formula(additive), content_type=CSV, accept_type=CSV)
    with serving(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert client.post(CONTAINER, content="1\n" * rows).text == "1.0\n" * rows
        assert (app._exact[CONTAINER].large_requests._process is not None) == is_large


@pytest.mark.parametrize("width", [MAX_FEATURES + 1, 1_000_000])
def test_wide_records_are_rejected(width: int) -> None:
    """The number of columns is checked before a table is built."""
    with serving(app_of(DEMO_MODEL)) as url, httpx.Client(base_url=url, timeout=60) as client:
        response = client.post(CONTAINER, content=lines([[1] * width]))
    assert (response.status_code, f"{width:,}" in response.text) == (400, True)
