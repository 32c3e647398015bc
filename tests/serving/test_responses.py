"""Response bodies of models without their own response format."""

from __future__ import annotations

import polars as pl
import pytest

from runner.serving.responses import encode_response
from tests.formula_models import Formula

FEATURES = pl.DataFrame({"x": [1.0, 2.0], "y": [0.5, 0.25]})
LINES, JSON, CSV = "application/jsonlines", "application/json", "text/csv"


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
