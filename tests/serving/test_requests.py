"""Request parsing: content types, column types, and invalid bodies."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.errors import RecordError
from runner.records import payloads
from runner.records.fields import Fields
from runner.records.payloads import MAX_VALUES, SCORES_PER_CALL, Format
from runner.serving.requests import MAX_FEATURES, RequestError, RequestReader, encode_response
from tests.formula_models import Formula
from tests.golden import Golden

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
