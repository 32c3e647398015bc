"""SageMaker Linear Learner: published numbers, responses, damaged artifacts, invalid features."""

from __future__ import annotations

import hashlib
import json
import re
from decimal import ROUND_DOWN, Context, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ArtifactError, MissingInput, ModelInputError
from runner.models import linear_learner
from runner.models.linear_learner import LinearLearner
from tests.builders import DEMO_MODEL, PUBLISHED
from tests.demo_files import array_list, linear_learner_archive, tar_gz, zip_archive
from tests.golden import Golden
from tests.models.contract import ModelContract
from tests.models.trees import FEATURES as TREE_FEATURES

WEIGHTS = np.array([1.0, -2.0])
PARAMS = array_list({"arg:fc0_weight": WEIGHTS[:, None], "arg:fc0_bias": np.array([[0.5]])})
EXTRA = b'{"predictor_type":"binary_classifier","threshold":0.5}'


def artifact_model(folder: Path, data: bytes) -> LinearLearner:
    """Return the model of an artifact with these bytes."""
    (folder / "model.tar.gz").write_bytes(data)
    return LinearLearner(kind="linear_learner", artifact=folder / "model.tar.gz", label_headers=None, deploy=None)


def linear_learner_model(folder: Path, bias: float = 0.5, **parameters: Any) -> LinearLearner:
    """Return a model with two features."""
    return artifact_model(folder, linear_learner_archive(WEIGHTS, bias, **parameters))


def contract_model(folder: Path, number: int) -> LinearLearner:
    """Return a logistic regression with four weights; another number makes another model."""
    return artifact_model(folder, linear_learner_archive(np.array([0.5, -1.0, 2.0, 0.25]) * number, 0.5))


CONTRACT = ModelContract(contract_model, TREE_FEATURES.drop_nulls()[:40], exact=True)


def response_lines(model: LinearLearner, features: pl.DataFrame) -> list[str]:
    """Return the lines of a model's response in JSON Lines."""
    body = model.encode_response(features, "application/jsonlines")
    assert body.endswith("\n")
    return body[:-1].split("\n")


def table(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Return rows as a data frame of features."""
    return pl.DataFrame(list(rows), orient="row")


@pytest.fixture
def notebook_model(adult: Path) -> LinearLearner:
    """The model of AWS's notebook."""
    artifact = adult / "ll-adult-prediction-model.tar.gz"
    return LinearLearner(kind="linear_learner", artifact=artifact, label_headers=None, deploy=None)


@pytest.fixture
def traffic(adult: Path) -> pl.DataFrame:
    """The 334 test rows of AWS's notebook."""
    test_lines = (adult / "test-dataset.jsonl").read_text().splitlines()
    return table(*(json.loads(line)["features"] for line in test_lines))


@pytest.mark.parametrize(("row", "response"), PUBLISHED.items())
def test_published_requests_have_the_published_responses(
    notebook_model: LinearLearner, row: tuple[int, ...], response: str
) -> None:
    """Responses equal the bytes that the notebook shows."""
    assert notebook_model.encode_response(table(row), "application/jsonlines") == response + "\n"


def test_batch_has_the_published_responses(notebook_model: LinearLearner) -> None:
    """A batch has the same responses as its records alone, for integers and floats."""
    assert response_lines(notebook_model, table(*PUBLISHED)) == list(PUBLISHED.values())
    assert response_lines(notebook_model, table(*PUBLISHED).cast(pl.Float64)) == list(PUBLISHED.values())


def test_json_and_csv_scores_have_all_digits(notebook_model: LinearLearner) -> None:
    """In JSON and CSV, scores have all digits, as in AWS's notebook for JSON."""
    published, second = PUBLISHED
    assert notebook_model.encode_response(table(published), "application/json") == (
        '{"predictions": [{"score": 0.9899773597717285, "predicted_label": 1}]}'
    )
    assert (
        notebook_model.encode_response(table(published, second), "text/csv")
        == "0.9899773597717285\n0.5041388273239136\n"
    )


def test_scores_have_the_published_statistics(notebook_model: LinearLearner, traffic: pl.DataFrame) -> None:
    """The mean, the number of positives and the scores near the threshold equal the notebook's."""
    records = [json.loads(line) for line in response_lines(notebook_model, traffic)]
    negative = [record["score"] for record in records if not record["predicted_label"]]
    positive = [record["score"] for record in records if record["predicted_label"]]
    assert len(records) == 334
    assert len(positive) == 51
    assert round(float(np.mean(negative + positive)), 6) == 0.234347
    assert (round(max(negative), 5), round(min(positive), 5)) == (0.46173, 0.46436)


def test_scores_agree_with_double_precision(notebook_model: LinearLearner, traffic: pl.DataFrame) -> None:
    """Scores equal the formula in double precision up to rounding errors of single precision."""
    weights_D, bias, *_ = notebook_model.parameters
    scores_N = 1 / (1 + np.exp(-(traffic.to_numpy().astype(np.float64) @ weights_D.astype(np.float64) + float(bias))))
    assert np.abs(notebook_model.predict(traffic)[:, 0] - scores_N).max() < 5e-7


def test_parameters_are_read_from_the_artifact(notebook_model: LinearLearner) -> None:
    """The threshold, the predictor type and one weight per feature are read."""
    weights_D, _, predictor, threshold = notebook_model.parameters
    assert (weights_D.shape, predictor, threshold) == ((14,), "binary_classifier", 0.46301859617233276)


finite = st.floats(-1e6, 1e6, width=32)
demo_rows = st.lists(st.tuples(*[finite] * 10), min_size=1, max_size=40)


@given(demo_rows, st.data())
def test_score_does_not_depend_on_the_batch(rows: list[tuple[float, ...]], data: st.DataObject) -> None:
    """A row's score is bit-identical alone, in a batch, and in any part of the batch."""
    scores_N = DEMO_MODEL.predict(table(*rows))[:, 0]
    i = data.draw(st.integers(0, len(rows) - 1))
    start, stop = data.draw(st.integers(0, i)), data.draw(st.integers(i + 1, len(rows)))
    assert DEMO_MODEL.predict(table(rows[i])).tobytes() == scores_N[i].tobytes()
    assert DEMO_MODEL.predict(table(*rows[start:stop]))[i - start].tobytes() == scores_N[i].tobytes()


def test_scores_have_one_column(demo_model: LinearLearner) -> None:
    """Scores are one column of float64, also without rows."""
    scores_NL = demo_model.predict(pl.DataFrame({f"column_{i}": [0.5] for i in range(10)}).clear())
    assert scores_NL.shape == (0, 1)
    assert scores_NL.dtype == np.float64


def test_identity_changes_with_the_artifact(tmp_path: Path) -> None:
    """The identity is the SHA-256 of the artifact."""
    model = linear_learner_model(tmp_path)
    assert model.identity == hashlib.sha256((tmp_path / "model.tar.gz").read_bytes()).hexdigest()
    assert linear_learner_model(tmp_path, bias=0.6).identity != model.identity


@pytest.mark.parametrize(("threshold", "label"), [(0.25, 1), (0.5, 1), (0.5000001, 0), (1, 0), (None, 1)], ids=str)
def test_label_depends_on_the_threshold(tmp_path: Path, threshold: float | None, label: int) -> None:
    """Scores of at least the artifact's threshold are positive; without a threshold, scores of at least 0.5."""
    lines = response_lines(linear_learner_model(tmp_path, bias=0, threshold=threshold), table((0, 0)))
    assert lines == [f'{{"predicted_label":{label},"score":0.5}}']


def test_extreme_scores_are_0_or_1(tmp_path: Path) -> None:
    """Extreme sums have the probabilities 0 and 1, without a warning."""
    assert response_lines(linear_learner_model(tmp_path), table((1000, 0), (0, 1000))) == [
        '{"predicted_label":1,"score":1.0}',
        '{"predicted_label":0,"score":0.0}',
    ]


@pytest.mark.parametrize(
    ("row", "score"),
    [
        ((3, 1), "1.5"),
        ((0.25, 0.5), "-0.25"),
        ((0, 0), "0.5"),
        ((1e-20, 0.25), "0.0"),
        ((2**24, 0), "16777216.0"),
        ((2**50, 0), "1125899906842624.0"),
    ],
)
def test_regressor_response_is_the_sum(tmp_path: Path, row: tuple[float, float], score: str) -> None:
    """A regressor's score is the sum in decimal notation, without a label."""
    model = linear_learner_model(tmp_path, predictor_type="regressor")
    assert response_lines(model, table(row)) == [f'{{"score":{score}}}']


def test_regressor_responses_in_json_and_csv(tmp_path: Path) -> None:
    """A regressor has no label in JSON, and negative values in CSV."""
    model = linear_learner_model(tmp_path, predictor_type="regressor")
    assert (
        model.encode_response(table((3, 1), (0, 1)), "application/json")
        == '{"predictions": [{"score": 1.5}, {"score": -1.5}]}'
    )
    assert model.encode_response(table((3, 1), (0, 1)), "text/csv") == "1.5\n-1.5\n"


def test_unsupported_media_type_is_rejected(tmp_path: Path, golden: Golden) -> None:
    """The error lists the supported media types."""
    with golden.raises(ValueError):
        linear_learner_model(tmp_path).encode_response(table((1, 2)), "text/html")


@pytest.mark.parametrize("width", [1, 3])
def test_other_number_of_features_is_rejected(tmp_path: Path, width: int, golden: Golden) -> None:
    """The error contains the expected and the actual number of features."""
    with golden.raises(ArtifactError) as caught:
        linear_learner_model(tmp_path).predict(table((1,) * width))
    assert caught.value.path == tmp_path / "model.tar.gz"


@pytest.mark.parametrize(
    ("values", "invalid"),
    [
        pytest.param([1.0, None], None, id="null"),
        pytest.param([None, None], None, id="nulls"),
        pytest.param(["a", "b"], "a", id="string"),
        pytest.param([True, False], True, id="boolean"),
    ],
)
def test_non_numeric_features_are_rejected(tmp_path: Path, values: list[Any], invalid: Any, golden: Golden) -> None:
    """The error for a null, a string or a boolean names the feature."""
    features = pl.DataFrame({"Age": [1, 2], "Sex": values})
    with golden.raises(ModelInputError) as caught:
        linear_learner_model(tmp_path).predict(features)
    assert (caught.value.model, caught.value.feature, caught.value.value) == ("linear_learner", "Sex", invalid)


def test_overflow_names_its_record_and_feature(tmp_path: Path) -> None:
    """The error for a sum beyond float32 contains the value of the right record with the largest term."""
    features = pl.DataFrame({"Age": [1.0, 2.0, 3.0], "Sex": [1.0, 3.4e38, 3.3e38]})
    model = artifact_model(tmp_path, linear_learner_archive(np.array([1.0, 3.0]), 0.5))
    with pytest.raises(ModelInputError) as caught:
        model.predict(features)
    assert (caught.value.feature, caught.value.value) == ("Sex", 3.4e38)


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"predictor_type": "multiclass_classifier"}, id="multiclass"),
        pytest.param({"predictor_type": None}, id="no type"),
        pytest.param({"predictor_type": ["regressor"]}, id="list of types"),
        pytest.param({"threshold": "high"}, id="threshold is a string"),
        pytest.param({"threshold": [0.5]}, id="threshold is a list"),
    ],
)
def test_invalid_parameters_are_rejected(tmp_path: Path, parameters: dict[str, Any], golden: Golden) -> None:
    """Unsupported predictor types and non-numeric thresholds are errors."""
    with golden.raises(ArtifactError) as caught:
        linear_learner_model(tmp_path, **parameters).predict(table((1, 2)))
    assert caught.value.path == tmp_path / "model.tar.gz"


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="empty"),
        pytest.param({"additional-params.json": EXTRA}, id="no weights"),
        pytest.param({"a.params": PARAMS}, id="no parameters"),
        pytest.param(
            {"a.params": PARAMS, "b.params": PARAMS, "additional-params.json": EXTRA}, id="two files of weights"
        ),
        pytest.param({"a.params": PARAMS, "additional-params.json": b"{}"}, id="parameters are missing"),
        pytest.param({"a.params": PARAMS, "additional-params.json": b"[]"}, id="parameters are a list"),
        pytest.param({"a.params": PARAMS, "additional-params.json": b"no JSON"}, id="parameters are no JSON"),
        pytest.param({"a.params": array_list({}), "additional-params.json": EXTRA}, id="weights are missing"),
        pytest.param({"a.params": b"", "additional-params.json": EXTRA}, id="weights are empty"),
        pytest.param(
            {
                "a.params": array_list({"arg:fc0_weight": np.ones((2, 3)), "arg:fc0_bias": np.ones((1, 1))}),
                "additional-params.json": EXTRA,
            },
            id="three outputs",
        ),
        pytest.param(
            {
                "a.params": array_list({"arg:fc0_weight": np.ones((2, 1)), "arg:fc0_bias": np.ones((1, 3))}),
                "additional-params.json": EXTRA,
            },
            id="three biases",
        ),
    ],
)
def test_other_archives_are_rejected(tmp_path: Path, files: dict[str, bytes], golden: Golden) -> None:
    """The error for an incomplete archive or another model states the problem."""
    model = artifact_model(tmp_path, tar_gz({"model_algo-1": zip_archive(files)}))
    with golden.raises(ArtifactError) as caught:
        model.predict(table((1, 2)))
    assert caught.value.path == tmp_path / "model.tar.gz"


def test_missing_artifact_is_an_error(tmp_path: Path) -> None:
    """The error for a missing file has its path and the setting."""
    model = LinearLearner(kind="linear_learner", artifact=tmp_path / "absent.tar.gz", label_headers=None, deploy=None)
    with pytest.raises(MissingInput) as caught:
        model.predict(table((1, 2)))
    assert (caught.value.path, caught.value.key) == (tmp_path / "absent.tar.gz", "model.artifact")


@given(st.floats(allow_nan=False, allow_infinity=False) | st.floats(0, 1))
def test_scores_are_truncated_after_15_decimals(score: float) -> None:
    """The string is the shortest representation of the score, truncated by decimal arithmetic."""
    expected = Decimal(repr(score)).quantize(Decimal("1e-15"), ROUND_DOWN, Context(prec=400))
    text = linear_learner._truncated(score)
    assert Decimal(text) == expected
    assert re.fullmatch(r"-?\d+\.\d{1,15}", text)
    assert text.endswith(".0") or not text.endswith("0")
