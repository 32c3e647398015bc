"""The linear model: scores worked out by hand, values of every kind, coefficients that do not fit."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import ValidationError

from runner.errors import ModelInputError, SettingsError
from runner.models.linear import Linear
from tests.cli_runner import CHECKOUT
from tests.golden import Golden

LINES, JSON, CSV = "application/jsonlines", "application/json", "text/csv"
CATEGORIES = ("north", "Zürich", 'so-called "west", inner')


def made(**parameters: Any) -> Linear:
    """Return a logistic model of one feature x, or another."""
    usual: dict[str, Any] = {"link": "logistic", "intercept": [0], "coefficients": {"x": 1}}
    usual |= {"label_headers": None, "deploy": None}
    return Linear(kind="linear", **(usual | parameters))


PLANS = made(
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
    """Return rows of a region, an age and a membership as features."""
    schema = {"region": pl.String, "age": pl.Float64, "member": pl.Boolean}
    return pl.DataFrame(
        [(region, None if age is None else float(age), member) for region, age, member in rows], schema, orient="row"
    )


def by_hand(region: str | None, age: float | None, member: bool | None) -> list[float]:
    """Return the shares of PLANS by the definition of softmax."""
    sums = list(PLANS.intercept)
    coefficients: Any = PLANS.coefficients
    for i in range(3):
        sums[i] += coefficients["region"].get(region, (0, 0, 0))[i]
        sums[i] += coefficients["age"][i] * (age or 0)
        sums[i] += 0 if member is None else coefficients["member"][str(member).lower()][i]
    powers = [math.exp(number - max(sums)) for number in sums]
    return [power / sum(powers) for power in powers]


@given(plans_rows)
def test_softmax_is_the_definition(rows: list[Any]) -> None:
    """Categories are looked up, numbers multiplied, nulls and other categories ignored, shares add up to 1."""
    scores_NL = PLANS.predict(table(rows))
    np.testing.assert_allclose(scores_NL, [by_hand(*row) for row in rows], atol=1e-9)
    np.testing.assert_allclose(scores_NL.sum(axis=1), 1)


@pytest.mark.parametrize("link", ["identity", "logistic", "softmax"])
@given(rows=plans_rows, data=st.data())
def test_score_does_not_depend_on_the_batch(link: Any, rows: list[Any], data: st.DataObject) -> None:
    """A row's scores are equal to the bit alone, in a batch, and in any part of it."""
    model = made(link=link, intercept=PLANS.intercept, coefficients=PLANS.coefficients)
    scores_NL = model.predict(table(rows))
    i = data.draw(st.integers(0, len(rows) - 1))
    start, stop = data.draw(st.integers(0, i)), data.draw(st.integers(i + 1, len(rows)))
    assert model.predict(table([rows[i]])).tobytes() == scores_NL[i].tobytes()
    assert model.predict(table(rows[start:stop]))[i - start].tobytes() == scores_NL[i].tobytes()
    assert model.predict(table(rows * 9))[i].tobytes() == scores_NL[i].tobytes()


@pytest.mark.parametrize("link", ["identity", "logistic", "softmax"])
def test_long_batches_have_the_bits_of_short_ones(link: Any) -> None:
    """Many rows at once score as each of them alone."""
    rng = np.random.default_rng(3)
    rows = [(CATEGORIES[i % 3], age, bool(i % 2)) for i, age in enumerate(rng.normal(40, 300, 250))]
    model = made(link=link, intercept=PLANS.intercept, coefficients=PLANS.coefficients)
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
def test_values_of_every_kind(column: pl.Series, coefficient: Any, sums: list[float]) -> None:
    """Numbers, booleans, texts and nulls add what their coefficient says."""
    model = made(link="identity", coefficients={"x": coefficient})
    assert model.predict(pl.DataFrame({"x": column}))[:, 0].tolist() == sums


def test_features_are_found_by_name() -> None:
    """The order of the columns changes no bit, nor does the order of the coefficients."""
    features = pl.DataFrame({"a": [0.1, 0.7], "b": [0.2, 0.3], "c": [0.3, 0.1]})
    one = made(coefficients={"a": 0.1, "b": 0.2, "c": 0.3})
    other = made(coefficients={"c": 0.3, "b": 0.2, "a": 0.1})
    assert one.predict(features).tobytes() == other.predict(features.select("c", "a", "b")).tobytes()
    assert one.identity == other.identity


def test_far_scores_saturate() -> None:
    """Sums far from 0 end at 0 and 1, without a warning."""
    far = pl.DataFrame({"x": [1e90, -1e90]})
    assert made().predict(far).tolist() == [[1.0], [0.0]]
    shares = made(link="softmax", intercept=[0, 0], coefficients={"x": [1, -1]})
    assert shares.predict(far).tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("model", [PLANS, made(coefficients={"region": {"a": 1}, "age": 1, "member": 1})])
def test_no_row_has_no_score(model: Linear) -> None:
    """Scores have a column for each output, also for no row."""
    scores_NL = model.predict(table([]))
    assert scores_NL.shape == (0, len(model.intercept))
    assert scores_NL.dtype == np.float64
    assert model.reply(table([]), LINES) == model.reply(table([]), CSV) == ""
    assert model.reply(table([]), JSON) == '{"predictions": []}'


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
def test_identity_changes_with_the_model(change: dict[str, Any]) -> None:
    """Every parameter counts; the names of the outputs are none."""
    assert made(**change).identity != made().identity
    assert made(label_headers=["a"], intercept=0.0, coefficients={"x": [1.0]}).identity == made().identity


HALVES = pl.DataFrame({"x": [0.0, -0.5]})


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
def test_replies_with_one_output(link: str, accept: str, body: str) -> None:
    """A probability comes with a label, 1 from a half on; a value comes alone."""
    assert made(link=link).reply(HALVES, accept) == body


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
def test_replies_with_several_outputs(link: str, accept: str, body: str) -> None:
    """Shares come with the name of the largest, the first of equal ones."""
    model = made(link=link, intercept=[0, 0], coefficients={"x": [0, math.log(3)]}, label_headers=["é", "b"])
    assert model.reply(pl.DataFrame({"x": [0, 1]}), accept) == body


def test_replies_keep_every_bit() -> None:
    """What stands in the answers are the scores themselves."""
    features = table([("north", 1 / 3, True), ("Zürich", 1e-7, None)])
    scores_NL = PLANS.predict(features).tolist()
    assert [json.loads(line)["probabilities"] for line in PLANS.reply(features, LINES).splitlines()] == scores_NL
    assert [answer["probabilities"] for answer in json.loads(PLANS.reply(features, JSON))["predictions"]] == scores_NL
    assert [[float(cell) for cell in line.split(",")] for line in PLANS.reply(features, CSV).splitlines()] == scores_NL


def test_other_forms_are_refused(golden: Golden) -> None:
    """A media type that there is no answer in is told with those there are."""
    with golden.raises(ValueError):
        made().reply(HALVES, "text/html")


@pytest.mark.parametrize(
    ("values", "coefficient", "said"),
    [
        ([None, "a"], 1, "holds 'a', but a linear model takes numbers or booleans there, unless its coefficient is"),
        ([None, 3], {"a": 1}, "holds 3, but a linear model takes texts or booleans there, as in its coefficients"),
        ([1.5], {"true": 1}, "holds 1.5, but a linear model takes texts or booleans there"),
        ([1.0, math.nan], 1, "holds nan, but a linear model takes finite numbers up to 1e+100"),
        ([1.0, -math.inf], 1, "holds -inf, but a linear model takes finite numbers"),
        ([1e101], 1, "holds 1e+101, but a linear model takes finite numbers"),
    ],
)
def test_values_of_another_kind_are_refused(values: list[Any], coefficient: Any, said: str) -> None:
    """A number where categories are expected, a text where numbers are, and numbers that are none are told."""
    with pytest.raises(ModelInputError) as caught:
        made(coefficients={"x": coefficient}).predict(pl.DataFrame({"x": values}))
    assert str(caught.value).startswith(f"feature 'x' {said}")


def test_other_features_are_refused(golden: Golden) -> None:
    """Features without a coefficient and coefficients without a feature are told, all of them."""
    model = made(coefficients={"x": 1, "age": 2, "Sex": 3})
    with golden.raises(SettingsError):
        model.predict(pl.DataFrame({"x": [1], "Age": [2]}))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"coefficients": {"x": [1, 2]}}, "'x' has 2 numbers, expected 1: one for each output, as in intercept"),
        ({"intercept": [0, 1]}, "'x' has 1 number, expected 2"),
        ({"intercept": [0, 1], "coefficients": {"x": {"a": [1, 2], "b": 1}}}, "'x' has 1 number, expected 2"),
        ({"intercept": []}, "expected a number, or a list of one number for each output"),
        ({"intercept": [True]}, "expected a number"),
        ({"intercept": ["1"]}, "expected a number"),
        ({"coefficients": {"x": math.nan}}, "expected a number"),
        ({"coefficients": {"x": math.inf}}, "expected a number"),
        ({"coefficients": {"x": 10**400}}, "expected a number"),
        ({"coefficients": {"x": None}}, "expected a number"),
        ({"coefficients": {"x": "1"}}, "expected a number"),
        ({"coefficients": {"x": {"a": {"b": 1}}}}, "expected a number"),
        ({"coefficients": {"x": {}}}, "expected at least one category"),
        ({"coefficients": {"x": {1: 2}}}, "each a text (write numbers in quotes), true or false"),
        ({"coefficients": {"x": {None: 2}}}, "each a text"),
        ({"coefficients": {"x": {"true": 1, True: 2}}}, "a category occurs twice"),
        ({"coefficients": {}}, "expected a coefficient for each feature"),
        ({"label_headers": ["a", "b"]}, "2 names, expected 1: one for each output"),
        ({"label_headers": []}, "0 names, expected 1"),
        ({"label_headers": ["a", "a"], "intercept": [0, 1], "coefficients": {"x": [1, 2]}}, "names must be unique"),
        ({"link": "softmax"}, "softmax needs several outputs, a number for each; take logistic for one"),
        ({"link": "probit"}, "'identity', 'logistic' or 'softmax'"),
        ({"artifact": "x"}, "Unexpected keyword argument"),
    ],
)  # fmt: skip
def test_parameters_that_do_not_fit_are_refused(parameters: dict[str, Any], said: str) -> None:
    """Numbers of another count or kind are told in one sentence."""
    with pytest.raises(ValidationError) as caught:
        made(**parameters)
    (problem,) = caught.value.errors()
    assert said in problem["msg"]


def test_every_parameter_stands_in_the_configuration() -> None:
    """conf/model/linear.yaml names the parameters of the class, and asks for those only a user can know."""
    option = OmegaConf.load(CHECKOUT / "conf/model/linear.yaml")
    assert list(option) == [parameter.name for parameter in fields(Linear)]
    assert OmegaConf.missing_keys(option) == {"intercept", "coefficients"}
