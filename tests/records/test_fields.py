"""Where features and scores stand in the documents of a body."""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.records import Payload
from runner.errors import RecordError
from runner.records.fields import Fields
from runner.records.payloads import Format, Scalar
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


def requested(fields: Fields, body: str, encoding: str = "JSON") -> list[list[Scalar]]:
    """Return the features of a request with this body."""
    return fields.request_rows(Payload("", body, encoding))


def responded(fields: Fields, body: str, count: int, encoding: str = "JSON") -> list[list[float]]:
    """Return the scores of a response with this body to a request of `count` records."""
    return fields.response_scores(Payload("", body, encoding), count)


def encoded(body: str) -> str:
    """Return a body in BASE64."""
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
def test_features_keep_their_types(expression: str | None, document: Any, values: list[Scalar]) -> None:
    """The values come as they were captured, from lists and from flat objects."""
    found = Fields(expression, "score").feature_values(document)
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
def test_features_not_found(document: Any, shown: str, golden: Golden) -> None:
    """Where the expression finds no list the error names the setting and shows what was found and searched."""
    with golden.raises(RecordError) as caught:
        FIELDS.feature_values(document)
    assert caught.value.kind == "features_not_found"
    assert "data.features='features'" in str(caught.value)
    assert shown in str(caught.value)


@pytest.mark.parametrize("expression", ["values(features)", "max(features)", "[Age, Sex]"])
def test_expression_that_does_not_fit_the_document_rejects_the_record(expression: str, golden: Golden) -> None:
    """A function that meets a value it cannot take, or names that all are missing, are the record's problem."""
    with golden.raises(RecordError) as caught:
        Fields(expression, "score").feature_values({"features": [1, "x"]})
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
def test_nested_feature_is_named(values: list[Any], name: str, shown: str, golden: Golden) -> None:
    """A value that is no scalar is rejected, with the feature's name and the value."""
    with golden.raises(RecordError) as caught:
        NAMED.feature_values({"features": values})
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
def test_rows_of_a_dense_json(expression: str | None, body: str, rows: list[list[Scalar]]) -> None:
    """A JSON body has a list for each record, or is one record itself."""
    fields = Fields(expression, None, content_type=JSON)
    assert requested(fields, body) == rows
    assert types(requested(fields, body)) == types(rows)


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
def test_rows_not_found_in_a_dense_json(expression: str | None, body: str, golden: Golden) -> None:
    """What is no list of values for each record is not guessed about."""
    with golden.raises(RecordError) as caught:
        requested(Fields(expression, None, content_type=JSON), body)
    assert caught.value.kind == "features_not_found"
    assert "data.features=" in str(caught.value)


def test_nested_feature_of_a_dense_json_is_named(golden: Golden) -> None:
    """A value that is no scalar is named in every record of a JSON body."""
    with golden.raises(RecordError) as caught:
        requested(Fields("i", None, ("Age", "Workclass"), content_type=JSON), '{"i":[[1,2],[1,[2]]]}')
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
def test_columns_become_rows(expression: str | None, body: str, rows: list[list[Scalar]]) -> None:
    """Lists of columns, an object of lists and pandas' object of objects are the records they hold."""
    fields = Fields(expression, None, content_type=JSON, columnar=True)
    assert requested(fields, body) == rows
    assert types(requested(fields, body)) == types(rows)


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
def test_columns_that_are_none_are_refused(body: str, kind: str, shown: str, golden: Golden) -> None:
    """Columns of different lengths, or what is no column, have their reasons."""
    with golden.raises(RecordError) as caught:
        requested(Fields(None, None, content_type=JSON, columnar=True), body)
    assert caught.value.kind == kind
    assert shown in str(caught.value)


@pytest.mark.parametrize("request_", [LINES, JSON, CSV])
def test_the_encoding_of_a_request_decides(request_: Format) -> None:
    """A request that was captured as CSV is one whatever the settings say, and JSON is never one."""
    assert requested(Fields("nothing", None, content_type=request_), '1,"x"\n2,\n', "CSV") == [[1, "x"], [2, None]]
    assert requested(Fields("features", None, content_type=request_), '{"features":[1,2]}') == [[1, 2]]


@pytest.mark.parametrize(
    ("request_", "body", "rows"),
    [
        (LINES, '{"features":[1]}\n{"features":[2]}', [[1], [2]]),
        (JSON, '{"features":[[1],[2]]}', [[1], [2]]),
        (CSV, "1\n2", [[1], [2]]),
    ],
)
def test_the_settings_decide_about_base64(request_: Format, body: str, rows: list[list[Scalar]]) -> None:
    """A request that was captured as BASE64 is what the settings say."""
    assert requested(Fields("features", None, content_type=request_), encoded(body), "BASE64") == rows


def test_both_sides_decide_alone() -> None:
    """A JSON request may have a CSV response, and a CSV request a JSON response."""
    fields = Fields("features", "score", content_type=LINES, accept_type=LINES)
    assert responded(Fields("features", None), "0.5\n0.25", 2, "CSV") == [[0.5], [0.25]]
    assert requested(fields, "1,2", "CSV") == [[1, 2]]
    assert responded(fields, '{"score":0.5}', 1, "JSON") == [[0.5]]
    mixed = Fields("features", "predictions[*].score", content_type=CSV, accept_type=JSON)
    assert requested(mixed, encoded("1,2"), "BASE64") == [[1, 2]]
    assert responded(mixed, encoded('{"predictions":[{"score":0.5}]}'), 1, "BASE64") == [[0.5]]


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
def test_scores_of_a_csv(score: str | None, body: str, scores: list[list[float]]) -> None:
    """Scores stand in lines, in one line for several records, in a column, or as a list in a cell."""
    assert responded(Fields("features", score), body, len(scores), "CSV") == scores
    assert types(responded(Fields("features", score), body, len(scores), "CSV")) == types(scores)


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
    """A score is one number or a list of class probabilities, or either inside a text, in each line."""
    assert responded(Fields("features", score), body, len(scores)) == scores
    assert types(responded(Fields("features", score), body, len(scores))) == types(scores)


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
def test_scores_of_a_dense_json(score: str | None, body: str, scores: list[list[float]]) -> None:
    """A document has a score for each record; a list for one record is its class probabilities."""
    fields = Fields("features", score, accept_type=JSON)
    expected = [[float(value) for value in row] for row in scores]
    assert responded(fields, body, len(scores)) == expected
    assert types(responded(fields, body, len(scores))) == types(expected)


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
def test_wrong_number_of_scores(
    fields: Fields, body: str, encoding: str, count: int, found: int, golden: Golden
) -> None:
    """A response with another number of records than its request is not guessed about."""
    with pytest.raises(RecordError) as caught:
        responded(fields, body, count, encoding)
    assert caught.value.kind == "row_count"
    assert re.findall(r"\d+", str(caught.value)) == [str(count), str(found)]


@pytest.mark.parametrize("count", [1, 3])
def test_the_error_about_a_wrong_number_of_scores_reads_well(count: int, golden: Golden) -> None:
    """For one record and for several."""
    with golden.raises(RecordError):
        responded(FIELDS, '{"score":0.5}\n{"score":0.5}', count)


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
def test_score_not_found(body: str, shown: str, golden: Golden) -> None:
    """Where no number is the error names the setting and shows what stands there."""
    with golden.raises(RecordError) as caught:
        responded(FIELDS, body, 1)
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
def test_score_setting_that_does_not_fit_rejects_the_record(
    fields: Fields, body: str, encoding: str, golden: Golden
) -> None:
    """For a missing score, a missing column or another format than the setting's, the error names the setting."""
    with golden.raises(RecordError) as caught:
        responded(fields, body, len(body.splitlines()), encoding)
    assert caught.value.kind == "score_not_found"
    assert f"data.score={fields.score!r}" in str(caught.value)


@pytest.mark.parametrize("constant", ["NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize("fields", [FIELDS, MANY])
def test_numbers_that_are_none_reject_the_record(fields: Fields, constant: str) -> None:
    """A JSON side with a number that is none has its own reason."""
    for call in (lambda: requested(fields, f"[{constant}]"), lambda: responded(fields, f"[{constant}]", 1)):
        with pytest.raises(RecordError) as caught:
            call()
        assert caught.value.kind == "not_finite"


@pytest.mark.parametrize("format_", [LINES, JSON])
@pytest.mark.parametrize("columnar", [False, True])
@pytest.mark.parametrize("expression", ["features", "features[]", "to_string(features)", "features[?@ == features]"])
def test_deep_features_are_refused(expression: str, columnar: bool, format_: Format) -> None:
    """Features nested as deeply as JSON allows are a record error."""
    with pytest.raises(RecordError):
        requested(Fields(expression, None, content_type=format_, columnar=columnar), f'{{"features":{DEEPEST}}}')


@pytest.mark.parametrize("format_", [LINES, JSON])
@pytest.mark.parametrize("score", [DEEPEST, f'"{DEEPEST}"', f'["{DEEPEST}"]'])
def test_deep_scores_never_crash(score: str, format_: Format) -> None:
    """A score in more lists than Python can call is still one."""
    assert responded(Fields(None, "score", accept_type=format_), f'{{"score":{score}}}', 1) == [[0.5]]


@given(json_values, st.sampled_from([LINES, JSON]), st.booleans(), st.sampled_from(["score", "a", None, "[*].a"]))
def test_no_document_raises_anything_else(document: Any, format_: Format, columnar: bool, path: str | None) -> None:
    """Any document is plain values and one or more numbers, or a record error."""
    fields = Fields(path, path, content_type=format_, accept_type=format_, columnar=columnar)
    body = orjson.dumps(document).decode()
    with suppress(RecordError):
        rows = requested(fields, body)
        assert all(type(value) in {int, float, str, bool, type(None)} for row in rows for value in row)
    with suppress(RecordError):
        (scores,) = responded(fields, body, 1)
        assert scores
        assert {type(score) for score in scores} == {float}


def test_one_record_is_one(golden: Golden) -> None:
    """A document that should hold one record is refused where it holds two."""
    assert MANY.feature_values({"instances": [{"features": [1]}]}) == [1]
    with golden.raises(RecordError) as caught:
        MANY.feature_values({"instances": [{"features": [1]}, {"features": [2]}]})
    assert caught.value.kind == "features_not_found"


def test_names_are_headers_or_numbered() -> None:
    """Features without headers are numbered from 0."""
    assert NAMED.names(2) == ("Age", "Workclass")
    assert NAMED.names(3) == ("Age", "Workclass", "column_2")
    assert FIELDS.names(2) == ("column_0", "column_1")
