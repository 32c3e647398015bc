"""Where features and scores stand in a document."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from runner.errors import RecordError
from runner.records.fields import Fields, Scalar, compiled

FIELDS = Fields("features", "score")
NAMED = Fields("features", "score", ("Age", "Workclass"))
DEEP = orjson.loads("[" * 400 + "]" * 400)


@pytest.mark.parametrize("expression", ["features[", "", "a b", "[?x", "unheard_of(features)"])
def test_malformed_expression_is_said(expression: str) -> None:
    """An expression that can never be searched is refused in one line that shows it."""
    with pytest.raises(ValueError, match="is no JMESPath expression") as caught:
        compiled(expression)
    assert repr(expression) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "document", "values"),
    [
        ("features", {"features": [28, 0.5, "x", True, None]}, [28, 0.5, "x", True, None]),
        ("@", [1, 2], [1, 2]),
        ('["Age","Hours per week"]', {"Age": 28, "Hours per week": 55}, [28, 55]),
        ("[Age, Sex]", {"Age": 28}, [28, None]),
        ("instances[0].features", {"instances": [{"features": [1]}]}, [1]),
    ],
)
def test_features_keep_their_types(expression: str, document: Any, values: list[Scalar]) -> None:
    """The values come as they were captured."""
    found = Fields(expression, "score").feature_values(document)
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"featuers": [1]}, """data.features='features' finds nothing in {"featuers":[1]}"""),
        ({"features": []}, "finds [], which is no list of values,"),
        ({"features": {"a": 1}}, """finds {"a":1}, which is no list of values,"""),
        ({"features": "1,2"}, 'finds "1,2", which is no list of values,'),
        ([1], "finds nothing in [1]"),
        (None, "finds nothing in null"),
        ({"other": DEEP}, "finds nothing in "),
    ],
)
def test_features_not_found(document: Any, said: str) -> None:
    """A document in which the expression finds no list says what it finds and where it looked."""
    with pytest.raises(RecordError) as caught:
        FIELDS.feature_values(document)
    assert caught.value.kind == "features_not_found"
    assert said in str(caught.value)


def test_expression_that_does_not_fit_the_document_rejects_the_record() -> None:
    """A function that meets a value it cannot take is the record's problem."""
    with pytest.raises(RecordError, match=r"data\.features=") as caught:
        Fields("values(features)", "score").feature_values({"features": [1]})
    assert caught.value.kind == "features_not_found"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, [2]], "feature 'Workclass' holds [2], expected a number, a text, a boolean or null"),
        ([{"a": 1}, 2], """feature 'Age' holds {"a":1}"""),
        ([1, 2, []], "feature 'column_2' holds []"),
        ([1, DEEP], "feature 'Workclass' holds "),
    ],
)
def test_nested_feature_is_named(values: list[Any], said: str) -> None:
    """A value that is no scalar is rejected under the feature's name."""
    with pytest.raises(RecordError) as caught:
        NAMED.feature_values({"features": values})
    assert caught.value.kind == "feature_type"
    assert said in str(caught.value)


@pytest.mark.parametrize(("score", "values"), [(0.25, [0.25]), (1, [1.0]), ([0.25, 0.75], [0.25, 0.75])])
def test_scores_are_numbers(score: Any, values: list[float]) -> None:
    """A score is one number or a list of class probabilities."""
    assert FIELDS.score_values({"score": score}) == values


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"predicted_label": 1}, """data.score='score' finds nothing in {"predicted_label":1}"""),
        ({"score": "0.5"}, 'finds "0.5", which is no number,'),
        ({"score": True}, "finds true, which is no number,"),
        ({"score": []}, "finds [], which is no number,"),
        ({"score": [0.5, None]}, "finds [0.5,null], which is no number,"),
        ({"score": {"a": 1}}, """finds {"a":1}, which is no number,"""),
    ],
)
def test_score_not_found(document: Any, said: str) -> None:
    """A document without a number where the score should be says what stands there."""
    with pytest.raises(RecordError) as caught:
        FIELDS.score_values(document)
    assert caught.value.kind == "score_not_found"
    assert said in str(caught.value)


def test_score_expression_that_does_not_fit_the_document_rejects_the_record() -> None:
    """A function that meets a missing score is the record's problem."""
    with pytest.raises(RecordError, match=r"data\.score=") as caught:
        Fields("features", "max(scores)").score_values({"features": [1]})
    assert caught.value.kind == "score_not_found"


def test_names_are_headers_or_numbered() -> None:
    """Features without headers are numbered from 0."""
    assert NAMED.names(2) == ("Age", "Workclass")
    assert FIELDS.names(2) == ("column_0", "column_1")


@pytest.mark.parametrize(
    ("fields", "said"),
    [(NAMED, "1 feature where data.headers names 2: [28]"), (FIELDS, "1 feature where most records have 2: [28]")],
)
def test_width_says_who_expects_it(fields: Fields, said: str) -> None:
    """A record with too few features says whether the settings or the other records expect more."""
    fields.check_width([28, 2], 2)
    with pytest.raises(RecordError) as caught:
        fields.check_width([28], 2)
    assert (caught.value.kind, str(caught.value)) == ("feature_count", said)
