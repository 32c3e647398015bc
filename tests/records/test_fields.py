"""Locations of features and scores in the documents of a body."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jmespath
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.records import Payload
from runner.errors import RecordError
from runner.records.fields import Fields, compiled, finder, is_structural
from runner.records.payloads import Body, Format, Scalar
from tests.golden import Golden

LINES: Format = "application/jsonlines"
JSON: Format = "application/json"
CSV: Format = "text/csv"
FIELDS = Fields("features", "score")
NAMED = Fields("features", "score", ("Age", "Workclass"))
MANY = Fields("instances[*].features", "predictions[*].score", content_type=JSON, accept_type=JSON)
DEEP = orjson.loads("[" * 400 + "]" * 400)
DEEPEST = "[" * 990 + "0.5" + "]" * 990

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "score"]), inner, max_size=3),
    max_leaves=6,
)


def request_rows(fields: Fields, body: str, encoding: str = "JSON") -> list[list[Scalar]]:
    """Return the features of a request with this body."""
    return fields.request_rows(Payload("", body, encoding))


def feature_values(fields: Fields, document: Any) -> list[Scalar]:
    """Return the features of a line of a request."""
    (row,) = fields.rows(Body([document], LINES))
    return row


def response_scores(fields: Fields, body: str, count: int, encoding: str = "JSON") -> list[list[float]]:
    """Return the scores of a response with this body to a request of `count` records."""
    return fields.response_scores(Payload("", body, encoding), count)


def base64_of(body: str) -> str:
    """Return a body as BASE64."""
    return base64.b64encode(body.encode()).decode()


def types(rows: list[list[Any]]) -> list[list[type]]:
    """Return the types of values."""
    return [[type(value) for value in row] for row in rows]


@pytest.mark.parametrize(
    ("expression", "document", "values"),
    [
        ("features", {"features": [28, 0.5, "x", True, None]}, [28, 0.5, "x", True, None]),
        ("a.b", {"a": {"b": [1]}}, [1]),
        ("@", [1, 2], [1, 2]),
        (None, [1, 2], [1, 2]),
        ('["Age","Hours per week"]', {"Age": 28, "Hours per week": 55}, [28, 55]),
        ("[Age, Sex]", {"Age": 28}, [28, None]),
        ("[Age, Sex]", {"Sex": "x", "Age": 28}, [28, "x"]),
        ("values(@)", {"Age": 28, "Sex": "x"}, [28, "x"]),
        ("instances[0].features", {"instances": [{"features": [1]}]}, [1]),
    ],
)
def test_features_have_their_captured_types(expression: str | None, document: Any, values: list[Scalar]) -> None:
    """Values from lists and from flat objects have their captured types."""
    found = feature_values(Fields(expression, "score"), document)
    assert found == values
    assert types([found]) == types([values])


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        ({"featuers": [1]}, '{"featuers":[1]}'),
        ({"features": []}, "[]"),
        ({"features": {"a": 1}}, '{"a":1}'),
        ({"features": "1,2"}, '"1,2"'),
        ([1], "[1]"),
        (None, "null"),
        ({"other": DEEP}, ""),
    ],
    ids=["misspelled", "empty", "object", "string", "list", "null", "deep"],
)
def test_missing_features_are_an_error(document: Any, shown: str, golden: Golden) -> None:
    """The message contains the setting, its result and the document."""
    with golden.raises(RecordError) as caught:
        feature_values(FIELDS, document)
    assert caught.value.kind == "features_not_found"
    assert "data.features='features'" in str(caught.value)
    assert shown in str(caught.value)


@pytest.mark.parametrize("expression", ["values(features)", "max(features)", "[Age, Sex]"])
def test_expression_that_does_not_fit_the_document_is_an_error(expression: str, golden: Golden) -> None:
    """A function with a wrong type, or names without values, are an error of the record."""
    with golden.raises(RecordError) as caught:
        feature_values(Fields(expression, "score"), {"features": [1, "x"]})
    assert caught.value.kind == "features_not_found"
    assert "data.features=" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "name", "shown"),
    [
        ([1, [2]], "Workclass", "[2]"),
        ([{"a": 1}, 2], "Age", '{"a":1}'),
        ([1, 2, []], "column_2", "[]"),
        ([1, DEEP], "Workclass", ""),
    ],
    ids=["list", "object", "empty list", "deep"],
)
def test_nested_feature_is_an_error(values: list[Any], name: str, shown: str, golden: Golden) -> None:
    """A list or object as a feature is an error with the feature's name and the value."""
    with golden.raises(RecordError) as caught:
        feature_values(NAMED, {"features": values})
    assert caught.value.kind == "feature_type"
    assert repr(name) in str(caught.value)
    assert shown in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "body", "rows"),
    [
        ("i[*].features", '{"i":[{"features":[1,"x"]},{"features":[2.5,null]}]}', [[1, "x"], [2.5, None]]),
        ("instances", '{"instances":[[1,2],[3,4]]}', [[1, 2], [3, 4]]),
        ("instances[*].[a, b]", '{"instances":[{"a":1,"b":2},{"b":4,"a":3}]}', [[1, 2], [3, 4]]),
        ("instances[*].[a, b]", '{"instances":[{"a":1},{"b":4}]}', [[1, None], [None, 4]]),
        ("[*].[a, b]", '[{"a":1,"b":2}]', [[1, 2]]),
        ("[*].values(@)", '[{"a":1,"b":2},{"a":3,"b":4}]', [[1, 2], [3, 4]]),
        (None, "[[1],[2]]", [[1], [2]]),
        ("@", "[[1],[2]]", [[1], [2]]),
        ("features", '{"features":[1,2]}', [[1, 2]]),
        ("[a, b]", '{"a":1,"b":"x"}', [[1, "x"]]),
        (None, "", []),
    ],
)  # fmt: skip
def test_rows_of_json(expression: str | None, body: str, rows: list[list[Scalar]]) -> None:
    """A JSON body has one list per record, or is one record."""
    fields = Fields(expression, None, content_type=JSON)
    assert request_rows(fields, body) == rows
    assert types(request_rows(fields, body)) == types(rows)


@pytest.mark.parametrize(
    ("expression", "body"),
    [
        ("instances", '{"data":[[1]]}'),
        ("instances", '{"instances":[]}'),
        ("instances", '{"instances":[[]]}'),
        ("instances", '{"instances":[[1],2]}'),
        ("instances", '{"instances":[[1],null]}'),
        ("instances", '{"instances":{"a":[1]}}'),
        ("instances[*].features", '{"instances":[{"a":[1]}]}'),
        (None, "7"),
    ],
    ids=["absent", "no record", "empty record", "number", "null", "object", "misspelled", "no list"],
)
def test_rows_not_found_in_json_are_an_error(expression: str | None, body: str, golden: Golden) -> None:
    """Any value other than a list per record is an error."""
    with golden.raises(RecordError) as caught:
        request_rows(Fields(expression, None, content_type=JSON), body)
    assert caught.value.kind == "features_not_found"
    assert "data.features=" in str(caught.value)


def test_nested_feature_in_json_is_an_error(golden: Golden) -> None:
    """A list or object as a feature of any record of a JSON body is an error with the feature's name."""
    with golden.raises(RecordError) as caught:
        request_rows(Fields("i", None, ("Age", "Workclass"), content_type=JSON), '{"i":[[1,2],[1,[2]]]}')
    assert caught.value.kind == "feature_type"
    assert "'Workclass'" in str(caught.value)
    assert "[2]" in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "body", "rows"),
    [
        (None, "[[1,2],[3,4]]", [[1, 3], [2, 4]]),
        ("columns", '{"columns":[[1,2,3],["x",null,"y"]]}', [[1, "x"], [2, None], [3, "y"]]),
        (None, '{"Age":[1,2],"Sex":["x","y"]}', [[1, "x"], [2, "y"]]),
        (None, '{"Age":{"0":1,"1":2},"Sex":{"0":"x","1":"y"}}', [[1, "x"], [2, "y"]]),
        ("data", '{"data":{"Age":{"7":1}}}', [[1]]),
        ("[Age, Sex]", '{"Sex":["x","y"],"Age":[1,2]}', [[1, "x"], [2, "y"]]),
        (None, "[[null,1]]", [[None], [1]]),
        (None, "", []),
    ],
)
def test_columns_are_transposed_to_rows(expression: str | None, body: str, rows: list[list[Scalar]]) -> None:
    """Lists of columns, an object of lists and pandas' object of objects are transposed to records."""
    fields = Fields(expression, None, content_type=JSON, columnar=True)
    assert request_rows(fields, body) == rows
    assert types(request_rows(fields, body)) == types(rows)


@pytest.mark.parametrize(
    ("body", "kind", "shown"),
    [
        ("[[1,2],[3]]", "row_count", "[2, 1]"),
        ('{"a":[1],"b":[2,3]}', "row_count", "[1, 2]"),
        ('{"a":{"0":1},"b":{"0":1,"1":2}}', "row_count", ""),
        ("[]", "features_not_found", "[]"),
        ("{}", "features_not_found", "{}"),
        ("7", "features_not_found", "7"),
        ("null", "features_not_found", "null"),
        ("[1,2]", "features_not_found", "[1,2]"),
        ('{"a":[1],"b":2}', "features_not_found", '{"a":[1],"b":2}'),
        ("[[],[]]", "features_not_found", "[[],[]]"),
        ("[[1],[[2]]]", "feature_type", "'column_1'"),
    ],
    ids=[
        "lengths", "lengths in an object", "rows", "empty list", "empty object", "number", "null", "no columns",
        "one is none", "empty columns", "nested value",
    ],
)  # fmt: skip
def test_invalid_columns_are_an_error(body: str, kind: str, shown: str, golden: Golden) -> None:
    """Columns of different lengths, and values that are not columns, have their reasons."""
    with golden.raises(RecordError) as caught:
        request_rows(Fields(None, None, content_type=JSON, columnar=True), body)
    assert caught.value.kind == kind
    assert shown in str(caught.value)


@pytest.mark.parametrize("request_", [LINES, JSON, CSV])
def test_encoding_of_a_request_overrides_the_setting(request_: Format) -> None:
    """A request captured as CSV is CSV, and one captured as JSON is not, with any setting."""
    assert request_rows(Fields("nothing", None, content_type=request_), '1,"x"\n2,\n', "CSV") == [[1, "x"], [2, None]]
    assert request_rows(Fields("features", None, content_type=request_), '{"features":[1,2]}') == [[1, 2]]


@pytest.mark.parametrize(
    ("request_", "body", "rows"),
    [
        (LINES, '{"features":[1]}\n{"features":[2]}', [[1], [2]]),
        (JSON, '{"features":[[1],[2]]}', [[1], [2]]),
        (CSV, "1\n2", [[1], [2]]),
    ],
)
def test_setting_decides_the_format_of_base64(request_: Format, body: str, rows: list[list[Scalar]]) -> None:
    """A request captured as BASE64 has the format of the setting."""
    assert request_rows(Fields("features", None, content_type=request_), base64_of(body), "BASE64") == rows


def test_formats_of_request_and_response_are_independent() -> None:
    """A JSON request may have a CSV response, and a CSV request a JSON response."""
    fields = Fields("features", "score", content_type=LINES, accept_type=LINES)
    assert response_scores(Fields("features", None), "0.5\n0.25", 2, "CSV") == [[0.5], [0.25]]
    assert request_rows(fields, "1,2", "CSV") == [[1, 2]]
    assert response_scores(fields, '{"score":0.5}', 1, "JSON") == [[0.5]]
    mixed = Fields("features", "predictions[*].score", content_type=CSV, accept_type=JSON)
    assert request_rows(mixed, base64_of("1,2"), "BASE64") == [[1, 2]]
    assert response_scores(mixed, base64_of('{"predictions":[{"score":0.5}]}'), 1, "BASE64") == [[0.5]]


@pytest.mark.parametrize(
    ("score", "body", "scores"),
    [
        (None, "0.6", [[0.6]]),
        (None, "0.6\n", [[0.6]]),
        (None, "0.6,0.3", [[0.6], [0.3]]),
        (None, "0.6,0.3\n", [[0.6], [0.3]]),
        (None, "0.6\n0.3", [[0.6], [0.3]]),
        (None, "0.6\r\n0.3\r\n", [[0.6], [0.3]]),
        (None, "0.1,0.6,0.3", [[0.1, 0.6, 0.3]]),
        (None, "0.1,0.6,0.3\n0.2,0.2,0.6", [[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]]),
        ("1", "1,0.6", [[0.6]]),
        ("1", "1,0.6\n0,0.3", [[0.6], [0.3]]),
        ("0", "0.6\n0.3", [[0.6], [0.3]]),
        ("0", "0.6,0.3,0.1", [[0.6], [0.3], [0.1]]),
        ("1", "\"dog\",0.6,\"['cat','dog','fish']\",\"[0.1,0.6,0.3]\"", [[0.6]]),
        ("3", "\"dog\",0.6,\"['cat','dog','fish']\",\"[0.1,0.6,0.3]\"", [[0.1, 0.6, 0.3]]),
        (None, '"[0.1,0.9]"\n"[0.2,0.8]"', [[0.1, 0.9], [0.2, 0.8]]),
        (None, '"[0.1,0.9]","[0.2,0.8]"', [[0.1, 0.9], [0.2, 0.8]]),
        (None, '"0.6"', [[0.6]]),
        (None, "1", [[1.0]]),
        (None, "+.5,1.e0", [[0.5], [1.0]]),
    ],
)
def test_scores_of_csv(score: str | None, body: str, scores: list[list[float]]) -> None:
    """Scores are lines, one line for several records, a column, or lists in cells."""
    assert response_scores(Fields("features", score), body, len(scores), "CSV") == scores
    assert types(response_scores(Fields("features", score), body, len(scores), "CSV")) == types(scores)


@pytest.mark.parametrize(
    ("score", "body", "scores"),
    [
        ("score", '{"score":0.25,"predicted_label":1}\n', [[0.25]]),
        ("score", '{"score":1}', [[1.0]]),
        ("score", '{"score":0.25}\n{"score":0.75}\n', [[0.25], [0.75]]),
        ("probabilities", '{"probabilities":[0.25,0.75]}\n{"probabilities":[1,0]}', [[0.25, 0.75], [1.0, 0.0]]),
        ("probabilities", '{"probabilities":"[0.25,0.75]"}', [[0.25, 0.75]]),
        ("score", '{"score":"0.5"}', [[0.5]]),
        ("score", '{"score":[0.5]}', [[0.5]]),
        ("score", '{"score":["[0.25, 0.75]"]}', [[0.25, 0.75]]),
        ("score", '{"score":[[0.25,0.75]]}', [[0.25, 0.75]]),
        ("predictions[0].score", '{"predictions":[{"score":0.5}]}', [[0.5]]),
        ("predictions[*].score", '{"predictions":[{"score":0.5}]}', [[0.5]]),
        ("max(scores)", '{"scores":[0.25,0.75]}', [[0.75]]),
        (None, "0.5\n0.25", [[0.5], [0.25]]),
        (None, "[0.25,0.75]", [[0.25, 0.75]]),
    ],
)
def test_scores_of_json_lines(score: str | None, body: str, scores: list[list[float]]) -> None:
    """In each line a score is a number, a list of class probabilities, or a string with either."""
    assert response_scores(Fields("features", score), body, len(scores)) == scores
    assert types(response_scores(Fields("features", score), body, len(scores))) == types(scores)


@pytest.mark.parametrize(
    ("score", "body", "scores"),
    [
        ("predictions[*].score", '{"predictions": [{"score": 0.5, "predicted_label": 1}]}', [[0.5]]),
        ("predictions[*].score", '{"predictions":[{"score":0.5},{"score":1}]}', [[0.5], [1.0]]),
        ("[*].probabilities", '[{"probabilities":[0.25,0.75]},{"probabilities":[1,0]}]', [[0.25, 0.75], [1.0, 0.0]]),
        ("[*].probabilities", '[{"probabilities":[0.25,0.75]}]', [[0.25, 0.75]]),
        ("[*].probabilities", '[{"probabilities":"[0.25,0.75]"},{"probabilities":"[1,0]"}]', [[0.25, 0.75], [1, 0]]),
        ("[*]", "[0.5,0.25]", [[0.5], [0.25]]),
        ("[*]", "[[0.25,0.75],[1,0]]", [[0.25, 0.75], [1.0, 0.0]]),
        ("[*]", "[0.5]", [[0.5]]),
        (None, "[0.5,0.25]", [[0.5], [0.25]]),
        (None, "0.5", [[0.5]]),
        ("score", '{"score":0.5}', [[0.5]]),
        ("probabilities", '{"probabilities":[0.25,0.25,0.5]}', [[0.25, 0.25, 0.5]]),
        ("probabilities", '{"probabilities":"[0.25,0.75]"}', [[0.25, 0.75]]),
        ("probabilities", '{"probabilities":[[0.25,0.75]]}', [[0.25, 0.75]]),
        ("outputs[0].data", '{"outputs":[{"data":[0.25,0.75]}]}', [[0.25, 0.75]]),
    ],
)
def test_scores_of_json(score: str | None, body: str, scores: list[list[float]]) -> None:
    """A document has one score per record; a list for one record contains its class probabilities."""
    fields = Fields("features", score, accept_type=JSON)
    expected = [[float(value) for value in row] for row in scores]
    assert response_scores(fields, body, len(scores)) == expected
    assert types(response_scores(fields, body, len(scores))) == types(expected)


@pytest.mark.parametrize(
    ("fields", "body", "encoding", "count", "found"),
    [
        (FIELDS, '{"score":0.5}', "JSON", 2, 1),
        (FIELDS, '{"score":0.5}\n{"score":0.5}', "JSON", 1, 2),
        (FIELDS, "", "JSON", 1, 0),
        (FIELDS, '{"score":[0.5,0.5]}', "JSON", 2, 1),
        (MANY, '{"predictions":[{"score":0.5}]}', "JSON", 2, 1),
        (MANY, '{"predictions":[{"score":0.5},{"score":0.5}]}', "JSON", 3, 2),
        (MANY, "", "JSON", 2, 1),
        (Fields(None, None), "0.6\n0.3", "CSV", 1, 2),
        (Fields(None, None), "0.6\n0.3", "CSV", 3, 2),
        (Fields(None, None), "0.6,0.3,0.1", "CSV", 2, 1),
        (Fields(None, "0"), "0.6,0.3", "CSV", 3, 1),
        (Fields(None, None), "", "CSV", 1, 0),
    ],
)
def test_wrong_number_of_scores_is_an_error(
    fields: Fields, body: str, encoding: str, count: int, found: int, golden: Golden
) -> None:
    """A response with another number of records than its request is an error with both numbers."""
    with pytest.raises(RecordError) as caught:
        response_scores(fields, body, count, encoding)
    assert caught.value.kind == "row_count"
    assert re.findall(r"\d+", str(caught.value)) == [str(count), str(found)]


@pytest.mark.parametrize("count", [1, 3])
def test_message_of_a_wrong_number_of_scores(count: int, golden: Golden) -> None:
    """The message has the right plurals for one record and for several."""
    with golden.raises(RecordError):
        response_scores(FIELDS, '{"score":0.5}\n{"score":0.5}', count)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ('{"predicted_label":1}', '{"predicted_label":1}'),
        ('{"score":"high"}', '"high"'),
        ('{"score":"NaN"}', '"NaN"'),
        ('{"score":"1e999"}', '"1e999"'),
        ('{"score":true}', "true"),
        ('{"score":"true"}', '"true"'),
        ('{"score":[]}', "[]"),
        ('{"score":""}', '""'),
        ('{"score":[0.5,null]}', "[0.5,null]"),
        ('{"score":"[0.5,\\"x\\"]"}', "x"),
        ('{"score":[[0.5],[0.5]]}', "[[0.5],[0.5]]"),
        ('{"score":{"a":1}}', '{"a":1}'),
    ],
    ids=[
        "absent", "string", "NaN", "too large", "boolean", "boolean in a string", "no score", "empty string",
        "null in a list", "string in a list", "two records", "object",
    ],
)  # fmt: skip
def test_missing_score_is_an_error(body: str, shown: str, golden: Golden) -> None:
    """The message contains the setting and the value at its location."""
    with golden.raises(RecordError) as caught:
        response_scores(FIELDS, body, 1)
    assert caught.value.kind == "score_not_found"
    assert "data.score='score'" in str(caught.value)
    assert shown in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "body", "encoding"),
    [
        pytest.param(Fields(None, "max(scores)"), '{"features":[1]}', "JSON", id="function"),
        pytest.param(Fields(None, "1"), "0.6", "CSV", id="no column"),
        pytest.param(Fields(None, "1"), "0.6,\n0.3,0.5", "CSV", id="empty cell"),
        pytest.param(Fields(None, "0"), '"dog",0.6', "CSV", id="string"),
        pytest.param(Fields(None, "0"), "nan", "CSV", id="nan"),
        pytest.param(FIELDS, "0.6", "CSV", id="path for a CSV"),
        pytest.param(Fields(None, "²"), "0.6", "CSV", id="no digit"),
        pytest.param(Fields(None, "0"), '{"score":0.5}', "JSON", id="column of a JSON"),
        pytest.param(MANY, "{}", "JSON", id="absent"),
        pytest.param(MANY, '{"predictions":[]}', "JSON", id="no score"),
    ],
)
def test_score_setting_that_does_not_fit_is_an_error(fields: Fields, body: str, encoding: str, golden: Golden) -> None:
    """A missing score or column, or another format, is an error with the setting."""
    with golden.raises(RecordError) as caught:
        response_scores(fields, body, len(body.splitlines()), encoding)
    assert caught.value.kind == "score_not_found"
    assert f"data.score={fields.score!r}" in str(caught.value)


@pytest.mark.parametrize("constant", ["NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize("fields", [FIELDS, MANY])
def test_numbers_that_are_not_finite_are_an_error(fields: Fields, constant: str) -> None:
    """NaN and infinite numbers in a JSON body have their own reason."""
    for call in (lambda: request_rows(fields, f"[{constant}]"), lambda: response_scores(fields, f"[{constant}]", 1)):
        with pytest.raises(RecordError) as caught:
            call()
        assert caught.value.kind == "not_finite"


@pytest.mark.parametrize("format_", [LINES, JSON])
@pytest.mark.parametrize("columnar", [False, True])
@pytest.mark.parametrize("expression", ["features", "features[]", "to_string(features)", "features[?@ == features]"])
def test_deeply_nested_features_are_an_error(expression: str, columnar: bool, format_: Format) -> None:
    """Features with the maximum nesting of JSON are a record error."""
    with pytest.raises(RecordError):
        request_rows(Fields(expression, None, content_type=format_, columnar=columnar), f'{{"features":{DEEPEST}}}')


@pytest.mark.parametrize("format_", [LINES, JSON])
@pytest.mark.parametrize("score", [DEEPEST, f'"{DEEPEST}"', f'["{DEEPEST}"]'])
def test_deeply_nested_scores_are_read(score: str, format_: Format) -> None:
    """A score in more nested lists than Python's recursion limit is read."""
    assert response_scores(Fields(None, "score", accept_type=format_), f'{{"score":{score}}}', 1) == [[0.5]]


@given(json_values, st.sampled_from([LINES, JSON]), st.booleans(), st.sampled_from(["score", "a", None, "[*].a"]))
def test_any_document_is_read_or_a_record_error(
    document: Any, format_: Format, columnar: bool, path: str | None
) -> None:
    """Any document gives scalars and numbers, or a record error."""
    fields = Fields(path, path, content_type=format_, accept_type=format_, columnar=columnar)
    body = orjson.dumps(document).decode()
    with suppress(RecordError):
        rows = request_rows(fields, body)
        assert all(type(value) in {int, float, str, bool, type(None)} for row in rows for value in row)
    with suppress(RecordError):
        (scores,) = response_scores(fields, body, 1)
        assert scores
        assert {type(score) for score in scores} == {float}


def test_names_are_headers_or_numbered() -> None:
    """Features without headers are numbered from 0."""
    assert NAMED.names(2) == ("Age", "Workclass")
    assert NAMED.names(3) == ("Age", "Workclass", "column_2")
    assert FIELDS.names(2) == ("column_0", "column_1")


STRUCTURAL = [
    "a",
    "a.b",
    "@",
    "a[*]",
    "a[*].b",
    "[*].a",
    "[*].[a, b]",
    '[*]["a","b"]',
    "[a, b.a]",
    "a[0]",
    "a[-1].b",
    "a[*].b[*].a",
    "a[*][0]",
    "a.b[*].[a]",
]

documents = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=12,
)


def without_nulls(found: Any, depth: int) -> Any:
    """Return the result of projections as jmespath has it, without nulls."""
    if depth == 0 or not isinstance(found, list):
        return found
    return [without_nulls(element, depth - 1) for element in found if element is not None]


@pytest.mark.parametrize(
    "expression",
    ["features[", "", "a b", "[?x", "unheard_of(features)"],
    ids=["open bracket", "empty", "two words", "open filter", "unknown function"],
)
def test_malformed_expression_is_refused(expression: str, golden: Golden) -> None:
    """An invalid expression is refused by a message of one line with the expression."""
    with golden.raises(ValueError) as caught:
        compiled(expression)
    assert repr(expression) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("terms", [101, 3_000, 30_000])
@pytest.mark.parametrize(
    "expression",
    [
        lambda n: "||".join("a" * n),
        lambda n: "|".join("a" * n),
        lambda n: "!" * n + "a",
        lambda n: "a[?" * n + "b" + "]" * n,
    ],
    ids=["or", "pipe", "not", "filter"],
)
def test_deep_expression_is_refused(expression: Callable[[int], str], terms: int) -> None:
    """It is parsed and evaluated by recursion; the message is short. Long but flat expressions are accepted."""
    with pytest.raises(ValueError, match="nested") as caught:
        compiled(expression(terms))
    assert len(str(caught.value)) < 300
    compiled(f"[{','.join('a' * 3_000)}]")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("features", True),
        ("a.b", True),
        ("@", True),
        ("instances[*].features", True),
        ("instances[0]", True),
        ("[Age, Sex]", True),
        ("instances[*].[Age, Sex]", True),
        ("items[?kind=='a']", False),
        ("sort(x)", False),
        ("a || b", False),
        ("features[]", False),
        ("values(@)", False),
        ("instances[*].values(@)", False),
        ("{a: b}", False),
        ("features[1:]", False),
    ],
)
def test_expressions_with_filters_or_functions_are_not_structural(expression: str, expected: bool) -> None:
    """An expression is structural unless it filters, flattens, selects or computes."""
    assert is_structural(expression) == expected


@pytest.mark.parametrize("expression", STRUCTURAL)
@given(document=documents)
def test_structural_expressions_agree_with_jmespath(expression: str, document: Any) -> None:
    """A structural expression has jmespath's result, except for the nulls in projections."""
    assert is_structural(expression)
    projections = expression.count("[*]")
    assert without_nulls(finder(expression)(document), projections) == jmespath.search(expression, document)


def test_projection_contains_null_for_a_missing_value() -> None:
    """An element without the value is null, so that later scores stay with their records."""
    assert finder("p[*].score")({"p": [{"score": 1}, {}, {"score": 3}]}) == [1, None, 3]


def test_other_expressions_are_evaluated_by_jmespath() -> None:
    """Functions, filters and slices are evaluated by jmespath; a type error gives null."""
    assert finder("items[?kind=='a'].x")({"items": [{"kind": "a", "x": 1}, {"kind": "b", "x": 2}]}) == [1]
    assert finder("x[:2]")({"x": [1, 2, 3]}) == [1, 2]
    assert finder("max(x)")({"x": ["a", 1]}) is None
    assert finder(None)({"x": 1}) == {"x": 1}
