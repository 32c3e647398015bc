"""The linear model: definition, types of features, responses, invalid coefficients."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import ValidationError

from runner.errors import ModelInputError, SettingsError
from runner.models.linear import LinearModel
from tests.cli_runner import CHECKOUT
from tests.golden import Golden
from tests.models.contract import ModelContract
from tests.models.people import PEOPLE
from tests.models.people import linear_model as people_model

LINES, JSON, CSV = "application/jsonlines", "application/json", "text/csv"
CATEGORIES = ("north", "Zürich", 'so-called "west", inner')


def linear_model(**parameters: Any) -> LinearModel:
    """Return a logistic regression with one feature x, or with other parameters."""
    defaults: dict[str, Any] = {"link": "logistic", "intercept": [0], "coefficients": {"x": 1}}
    defaults |= {"label_headers": None, "deploy": None}
    return LinearModel(kind="linear", **(defaults | parameters))


CONTRACT = ModelContract(lambda _, number: people_model(number), PEOPLE, exact=True)

PLANS = linear_model(
    link="softmax",
    intercept=[0.5, 0, -1.25],
    coefficients={
        "region": {"north": [0.5, 0.25, -0.5], "Zürich": [-1, 0, 1], 'so-called "west", inner': [0.125, 0, 0]},
        "age": [-0.01, 0.003, 0.02],
        "member": {True: [-0.75, 0.25, 1], False: [0.1, 0, 0]},
    },
    label_headers=["basic", "plus", "pro"],
)

plans_rows = st.lists(
    st.tuples(
        st.none() | st.sampled_from(CATEGORIES) | st.text(),
        st.none() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6),
        st.none() | st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


def table(rows: list[Any]) -> pl.DataFrame:
    """Return rows of region, age and membership as a data frame of features."""
    schema = {"region": pl.String, "age": pl.Float64, "member": pl.Boolean}
    return pl.DataFrame(
        [(region, None if age is None else float(age), member) for region, age, member in rows], schema, orient="row"
    )


def softmax_scores(region: str | None, age: float | None, member: bool | None) -> list[float]:
    """Return the probabilities of PLANS by the definition of softmax."""
    sums = list(PLANS.intercept)
    coefficients: Any = PLANS.coefficients
    for i in range(3):
        sums[i] += coefficients["region"].get(region, (0, 0, 0))[i]
        sums[i] += coefficients["age"][i] * (age or 0)
        sums[i] += 0 if member is None else coefficients["member"][str(member).lower()][i]
    powers = [math.exp(number - max(sums)) for number in sums]
    return [power / sum(powers) for power in powers]


@given(plans_rows)
def test_softmax_matches_its_definition(rows: list[Any]) -> None:
    """Scores equal the definition, and sum to 1; nulls and unknown categories contribute 0."""
    scores_NL = PLANS.predict(table(rows))
    np.testing.assert_allclose(scores_NL, [softmax_scores(*row) for row in rows], atol=1e-9)
    np.testing.assert_allclose(scores_NL.sum(axis=1), 1)


@pytest.mark.parametrize("link", ["identity", "logistic", "softmax"])
@given(rows=plans_rows, data=st.data())
def test_score_does_not_depend_on_the_batch(link: Any, rows: list[Any], data: st.DataObject) -> None:
    """A row's scores are bit-identical alone, in a batch, and in any part of the batch."""
    model = linear_model(link=link, intercept=PLANS.intercept, coefficients=PLANS.coefficients)
    scores_NL = model.predict(table(rows))
    i = data.draw(st.integers(0, len(rows) - 1))
    start, stop = data.draw(st.integers(0, i)), data.draw(st.integers(i + 1, len(rows)))
    assert model.predict(table([rows[i]])).tobytes() == scores_NL[i].tobytes()
    assert model.predict(table(rows[start:stop]))[i - start].tobytes() == scores_NL[i].tobytes()
    assert model.predict(table(rows * 9))[i].tobytes() == scores_NL[i].tobytes()


@pytest.mark.parametrize("link", ["identity", "logistic", "softmax"])
def test_large_batch_equals_single_rows(link: Any) -> None:
    """The scores of 250 rows are bit-identical to those of each row alone."""
    rng = np.random.default_rng(3)
    rows = [(CATEGORIES[i % 3], age, bool(i % 2)) for i, age in enumerate(rng.normal(40, 300, 250))]
    model = linear_model(link=link, intercept=PLANS.intercept, coefficients=PLANS.coefficients)
    alone = b"".join(model.predict(table([row])).tobytes() for row in rows)
    assert model.predict(table(rows)).tobytes() == alone


@pytest.mark.parametrize(
    ("column", "coefficient", "sums"),
    [
        (pl.Series([1, -2, None]), 0.5, [0.5, -1.0, 0.0]),
        (pl.Series([0.5, None, 1e90]), 2, [1.0, 0.0, 2e90]),
        (pl.Series([True, False, None]), 3, [3.0, 0.0, 0.0]),
        (pl.Series([True, False, None]), {"true": 3, "false": -1}, [3.0, -1.0, 0.0]),
        (pl.Series([True, False, None]), {False: 7}, [0.0, 7.0, 0.0]),
        (pl.Series(["a", None, "b", ""]), {"a": 1, "": 2}, [1.0, 0.0, 0.0, 2.0]),
        (pl.Series(["true", "True"]), {True: 1}, [1.0, 0.0]),
        (pl.Series([None, None]), {"a": 1}, [0.0, 0.0]),
        (pl.Series([None, None]), 5, [0.0, 0.0]),
        (pl.Series([2**62, 3], dtype=pl.UInt64), 1, [float(2**62), 3.0]),
    ],
)
def test_feature_types(column: pl.Series, coefficient: Any, sums: list[float]) -> None:
    """Numbers, booleans, strings and nulls contribute according to their coefficient."""
    model = linear_model(link="identity", coefficients={"x": coefficient})
    assert model.predict(pl.DataFrame({"x": column}))[:, 0].tolist() == sums


def test_features_are_matched_by_name() -> None:
    """Scores do not depend on the order of columns or coefficients."""
    features = pl.DataFrame({"a": [0.1, 0.7], "b": [0.2, 0.3], "c": [0.3, 0.1]})
    one = linear_model(coefficients={"a": 0.1, "b": 0.2, "c": 0.3})
    other = linear_model(coefficients={"c": 0.3, "b": 0.2, "a": 0.1})
    assert one.predict(features).tobytes() == other.predict(features.select("c", "a", "b")).tobytes()
    assert one.identity == other.identity


def test_extreme_scores_are_0_or_1() -> None:
    """Extreme sums have the probabilities 0 and 1, without a warning."""
    extreme = pl.DataFrame({"x": [1e90, -1e90]})
    assert linear_model().predict(extreme).tolist() == [[1.0], [0.0]]
    softmax = linear_model(link="softmax", intercept=[0, 0], coefficients={"x": [1, -1]})
    assert softmax.predict(extreme).tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("model", [PLANS, linear_model(coefficients={"region": {"a": 1}, "age": 1, "member": 1})])
def test_empty_input_has_empty_scores(model: LinearModel) -> None:
    """Without rows, scores have one column per output and responses have no records."""
    scores_NL = model.predict(table([]))
    assert scores_NL.shape == (0, len(model.intercept))
    assert scores_NL.dtype == np.float64
    assert model.encode_response(table([]), LINES) == model.encode_response(table([]), CSV) == ""
    assert model.encode_response(table([]), JSON) == '{"predictions": []}'


@pytest.mark.parametrize(
    "change",
    [
        {"link": "identity"},
        {"intercept": [1]},
        {"coefficients": {"x": 2}},
        {"coefficients": {"y": 1}},
        {"coefficients": {"x": {"true": 1}}},
    ],
)
def test_identity_changes_with_the_parameters(change: dict[str, Any]) -> None:
    """Every parameter except label_headers changes the identity."""
    assert linear_model(**change).identity != linear_model().identity
    assert (
        linear_model(label_headers=["a"], intercept=0.0, coefficients={"x": [1.0]}).identity == linear_model().identity
    )


TWO_ROWS = pl.DataFrame({"x": [0.0, -0.5]})


@pytest.mark.parametrize(
    ("link", "accept", "body"),
    [
        ("logistic", LINES, '{"predicted_label":1,"score":0.5}\n{"predicted_label":0,"score":0.3775406687981454}\n'),
        (
            "logistic",
            JSON,
            '{"predictions": [{"score": 0.5, "predicted_label": 1}, '
            '{"score": 0.3775406687981454, "predicted_label": 0}]}',
        ),
        ("logistic", CSV, "0.5\n0.3775406687981454\n"),
        ("identity", LINES, '{"score":0.0}\n{"score":-0.5}\n'),
        ("identity", JSON, '{"predictions": [{"score": 0.0}, {"score": -0.5}]}'),
        ("identity", CSV, "0.0\n-0.5\n"),
    ],
)
def test_responses_with_one_output(link: str, accept: str, body: str) -> None:
    """A probability has a label, 1 from 0.5; a sum has none."""
    assert linear_model(link=link).encode_response(TWO_ROWS, accept) == body


@pytest.mark.parametrize(
    ("link", "accept", "body"),
    [
        (
            "softmax",
            LINES,
            '{"predicted_label":"é","probabilities":[0.5,0.5]}\n'
            '{"predicted_label":"b","probabilities":[0.25,0.75]}\n',
        ),
        (
            "softmax",
            JSON,
            '{"predictions": [{"probabilities": [0.5, 0.5], "predicted_label": "\\u00e9"}, '
            '{"probabilities": [0.25, 0.75], "predicted_label": "b"}]}',
        ),
        ("softmax", CSV, "0.5,0.5\n0.25,0.75\n"),
        ("identity", LINES, '{"score":[0.0,0.0]}\n{"score":[0.0,1.0986122886681098]}\n'),
        ("identity", JSON, '{"predictions": [{"score": [0.0, 0.0]}, {"score": [0.0, 1.0986122886681098]}]}'),
        ("identity", CSV, "0.0,0.0\n0.0,1.0986122886681098\n"),
    ],
)  # fmt: skip
def test_responses_with_several_outputs(link: str, accept: str, body: str) -> None:
    """Probabilities have the name of the largest, or of the first of equal ones."""
    model = linear_model(link=link, intercept=[0, 0], coefficients={"x": [0, math.log(3)]}, label_headers=["é", "b"])
    assert model.encode_response(pl.DataFrame({"x": [0, 1]}), accept) == body


def test_responses_contain_exact_scores() -> None:
    """Decoded responses equal the scores."""
    features = table([("north", 1 / 3, True), ("Zürich", 1e-7, None)])
    scores_NL = PLANS.predict(features).tolist()
    assert [
        json.loads(line)["probabilities"] for line in PLANS.encode_response(features, LINES).splitlines()
    ] == scores_NL
    assert [
        record["probabilities"] for record in json.loads(PLANS.encode_response(features, JSON))["predictions"]
    ] == scores_NL
    assert [
        [float(cell) for cell in line.split(",")] for line in PLANS.encode_response(features, CSV).splitlines()
    ] == scores_NL


def test_unsupported_media_type_is_rejected(golden: Golden) -> None:
    """The error lists the supported media types."""
    with golden.raises(ValueError):
        linear_model().encode_response(TWO_ROWS, "text/html")


@pytest.mark.parametrize(
    ("values", "coefficient"),
    [
        pytest.param([None, "a"], 1, id="string"),
        pytest.param([None, 3], {"a": 1}, id="number"),
        pytest.param([1.5], {"true": 1}, id="number for a boolean"),
        pytest.param([1.0, math.nan], 1, id="NaN"),
        pytest.param([1.0, -math.inf], 1, id="infinite"),
        pytest.param([1e101], 1, id="too large"),
    ],
)
def test_invalid_values_are_rejected(values: list[Any], coefficient: Any, golden: Golden) -> None:
    """Values that do not fit their coefficient, and numbers that are not finite, are errors."""
    with golden.raises(ModelInputError) as caught:
        linear_model(coefficients={"x": coefficient}).predict(pl.DataFrame({"x": values}))
    assert (caught.value.model, caught.value.feature) == ("linear", "x")
    assert repr(caught.value.value) == repr(values[-1])


def test_other_features_are_rejected(golden: Golden) -> None:
    """One error lists all features without a coefficient and all coefficients without a feature."""
    model = linear_model(coefficients={"x": 1, "age": 2, "Sex": 3})
    with golden.raises(SettingsError) as caught:
        model.predict(pl.DataFrame({"x": [1], "Age": [2]}))
    assert len(caught.value.problems) == 3
    assert all(problem.startswith("model.coefficients: ") for problem in caught.value.problems)


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"coefficients": {"x": [1, 2]}}, id="two numbers for one output"),
        pytest.param({"intercept": [0, 1]}, id="one number for two outputs"),
        pytest.param({"intercept": [0, 1], "coefficients": {"x": {"a": [1, 2], "b": 1}}}, id="one for two in b"),
        pytest.param({"intercept": []}, id="no intercept"),
        pytest.param({"intercept": [True]}, id="boolean intercept"),
        pytest.param({"intercept": ["1"]}, id="string intercept"),
        pytest.param({"coefficients": {"x": math.nan}}, id="NaN"),
        pytest.param({"coefficients": {"x": math.inf}}, id="infinite"),
        pytest.param({"coefficients": {"x": 10**400}}, id="too large"),
        pytest.param({"coefficients": {"x": None}}, id="null"),
        pytest.param({"coefficients": {"x": "1"}}, id="string"),
        pytest.param({"coefficients": {"x": {"a": {"b": 1}}}}, id="nested categories"),
        pytest.param({"coefficients": {"x": {}}}, id="no category"),
        pytest.param({"coefficients": {"x": {1: 2}}}, id="number as category"),
        pytest.param({"coefficients": {"x": {None: 2}}}, id="null as category"),
        pytest.param({"coefficients": {"x": {"true": 1, True: 2}}}, id="category twice"),
        pytest.param({"coefficients": {}}, id="no coefficient"),
        pytest.param({"label_headers": ["a", "b"]}, id="two names for one output"),
        pytest.param({"label_headers": []}, id="no name"),
        pytest.param(
            {"label_headers": ["a", "a"], "intercept": [0, 1], "coefficients": {"x": [1, 2]}}, id="name twice"
        ),
        pytest.param({"link": "softmax"}, id="softmax of one output"),
        pytest.param({"link": "probit"}, id="unknown link"),
        pytest.param({"artifact": "x"}, id="unknown parameter"),
    ],
)
def test_invalid_parameters_are_rejected(parameters: dict[str, Any], golden: Golden) -> None:
    """Invalid parameters are one problem with one message."""
    with pytest.raises(ValidationError) as caught:
        linear_model(**parameters)
    (problem,) = caught.value.errors()
    golden(f"{'.'.join(map(str, problem['loc'])) or '-'}: {problem['msg']}")


def test_option_requires_intercept_and_coefficients() -> None:
    """conf/model/linear.yaml has a value for each parameter, except for two that users must set."""
    option = OmegaConf.load(CHECKOUT / "conf/model/linear.yaml")
    assert OmegaConf.missing_keys(option) == {"intercept", "coefficients"}
