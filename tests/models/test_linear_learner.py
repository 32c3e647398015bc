"""SageMaker Linear Learner: the notebook's numbers, hostile artefacts, values it cannot take."""

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

from runner.demo.build import array_list, artefact, tar_gz, zip_archive
from runner.errors import ArtifactError, MissingInput, ModelInputError
from runner.models import linear_learner
from runner.models.linear_learner import LinearLearner
from tests.builders import DEMO_MODEL, PUBLISHED
from tests.golden import Golden

WEIGHTS = np.array([1.0, -2.0])
PARAMS = array_list({"arg:fc0_weight": WEIGHTS[:, None], "arg:fc0_bias": np.array([[0.5]])})
EXTRA = b'{"predictor_type":"binary_classifier","threshold":0.5}'


def stored(folder: Path, data: bytes) -> LinearLearner:
    """Return the model of an artefact with these bytes."""
    (folder / "model.tar.gz").write_bytes(data)
    return LinearLearner(kind="linear_learner", artifact=folder / "model.tar.gz", label_headers=None, deploy=None)


def made(folder: Path, bias: float = 0.5, **parameters: Any) -> LinearLearner:
    """Return a model of two features."""
    return stored(folder, artefact(WEIGHTS, bias, **parameters))


def lines(model: LinearLearner, features: pl.DataFrame) -> list[str]:
    """Return the lines of the JSON Lines that a model answers with."""
    body = model.encode_response(features, "application/jsonlines")
    assert body.endswith("\n")
    return body[:-1].split("\n")


def table(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Return rows as features."""
    return pl.DataFrame(list(rows), orient="row")


@pytest.fixture
def notebook_model(adult: Path) -> LinearLearner:
    """The notebook's model."""
    artifact = adult / "ll-adult-prediction-model.tar.gz"
    return LinearLearner(kind="linear_learner", artifact=artifact, label_headers=None, deploy=None)


@pytest.fixture
def traffic(adult: Path) -> pl.DataFrame:
    """The notebook's 334 test rows."""
    lines = (adult / "test-dataset.jsonl").read_text().splitlines()
    return table(*(json.loads(line)["features"] for line in lines))


@pytest.mark.parametrize(("row", "reply"), PUBLISHED.items())
def test_published_replies(notebook_model: LinearLearner, row: tuple[int, ...], reply: str) -> None:
    """The model answers the published requests with the published bytes."""
    assert notebook_model.encode_response(table(row), "application/jsonlines") == reply + "\n"


def test_published_mini_batch(notebook_model: LinearLearner) -> None:
    """The model answers both rows at once as it does one by one, whatever type the numbers have."""
    assert lines(notebook_model, table(*PUBLISHED)) == list(PUBLISHED.values())
    assert lines(notebook_model, table(*PUBLISHED).cast(pl.Float64)) == list(PUBLISHED.values())


def test_published_json(notebook_model: LinearLearner) -> None:
    """Asked for JSON or CSV, the model answers with all digits, as the notebook of the JSON format publishes it."""
    published, second = PUBLISHED
    assert notebook_model.encode_response(table(published), "application/json") == (
        '{"predictions": [{"score": 0.9899773597717285, "predicted_label": 1}]}'
    )
    assert (
        notebook_model.encode_response(table(published, second), "text/csv")
        == "0.9899773597717285\n0.5041388273239136\n"
    )


def test_published_statistics(notebook_model: LinearLearner, traffic: pl.DataFrame) -> None:
    """Mean, number of positives and scores around the threshold equal the notebooks' figures."""
    replies = [json.loads(reply) for reply in lines(notebook_model, traffic)]
    negative = [reply["score"] for reply in replies if not reply["predicted_label"]]
    positive = [reply["score"] for reply in replies if reply["predicted_label"]]
    assert len(replies) == 334
    assert len(positive) == 51
    assert round(float(np.mean(negative + positive)), 6) == 0.234347
    assert (round(max(negative), 5), round(min(positive), 5)) == (0.46173, 0.46436)


def test_scores_agree_with_double_precision(notebook_model: LinearLearner, traffic: pl.DataFrame) -> None:
    """The formula in double precision gives the same scores but for the rounding of 14 sums in single precision."""
    weights_D, bias, *_ = notebook_model.parameters
    scores_N = 1 / (1 + np.exp(-(traffic.to_numpy().astype(np.float64) @ weights_D.astype(np.float64) + float(bias))))
    assert np.abs(notebook_model.predict(traffic)[:, 0] - scores_N).max() < 5e-7


def test_notebook_parameters(notebook_model: LinearLearner) -> None:
    """The artefact's own threshold and type are read, with one weight a feature."""
    weights_D, _, predictor, threshold = notebook_model.parameters
    assert (weights_D.shape, predictor, threshold) == ((14,), "binary_classifier", 0.46301859617233276)


finite = st.floats(-1e6, 1e6, width=32)
demo_rows = st.lists(st.tuples(*[finite] * 10), min_size=1, max_size=40)


@given(demo_rows, st.data())
def test_score_does_not_depend_on_the_batch(rows: list[tuple[float, ...]], data: st.DataObject) -> None:
    """A row's score is equal to the bit alone, in a batch, and in any part of it."""
    scores_N = DEMO_MODEL.predict(table(*rows))[:, 0]
    i = data.draw(st.integers(0, len(rows) - 1))
    start, stop = data.draw(st.integers(0, i)), data.draw(st.integers(i + 1, len(rows)))
    assert DEMO_MODEL.predict(table(rows[i])).tobytes() == scores_N[i].tobytes()
    assert DEMO_MODEL.predict(table(*rows[start:stop]))[i - start].tobytes() == scores_N[i].tobytes()


def test_scores_have_one_column(demo_model: LinearLearner) -> None:
    """Scores are one column of float64, also for no row."""
    scores_NL = demo_model.predict(pl.DataFrame({f"column_{i}": [0.5] for i in range(10)}).clear())
    assert scores_NL.shape == (0, 1)
    assert scores_NL.dtype == np.float64


def test_identity_changes_with_the_artefact(tmp_path: Path) -> None:
    """The identity is the SHA-256 of the artefact."""
    model = made(tmp_path)
    assert model.identity == hashlib.sha256((tmp_path / "model.tar.gz").read_bytes()).hexdigest()
    assert made(tmp_path, bias=0.6).identity != model.identity


@pytest.mark.parametrize(("threshold", "label"), [(0.25, 1), (0.5, 1), (0.5000001, 0), (1, 0), (None, 1)], ids=str)
def test_threshold_is_the_artefacts(tmp_path: Path, threshold: float | None, label: int) -> None:
    """A score that reaches the artefact's threshold, or a half where it has none, is positive."""
    reply = lines(made(tmp_path, bias=0, threshold=threshold), table((0, 0)))
    assert reply == [f'{{"predicted_label":{label},"score":0.5}}']


def test_far_scores_saturate(tmp_path: Path) -> None:
    """Scores far from the threshold end at 0 and 1, without a warning."""
    assert lines(made(tmp_path), table((1000, 0), (0, 1000))) == [
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
def test_regressor_replies_with_its_value(tmp_path: Path, row: tuple[float, float], score: str) -> None:
    """A regressor's score is the sum itself, in decimal notation, without a label."""
    assert lines(made(tmp_path, predictor_type="regressor"), table(row)) == [f'{{"score":{score}}}']


def test_regressor_replies_in_every_form(tmp_path: Path) -> None:
    """A regressor has no label in JSON either, and negative values in CSV."""
    model = made(tmp_path, predictor_type="regressor")
    assert (
        model.encode_response(table((3, 1), (0, 1)), "application/json")
        == '{"predictions": [{"score": 1.5}, {"score": -1.5}]}'
    )
    assert model.encode_response(table((3, 1), (0, 1)), "text/csv") == "1.5\n-1.5\n"


def test_other_media_types_are_refused(tmp_path: Path, golden: Golden) -> None:
    """The error for a media type that the container does not write names those it does."""
    with golden.raises(ValueError):
        made(tmp_path).encode_response(table((1, 2)), "text/html")


@pytest.mark.parametrize("width", [1, 3])
def test_other_number_of_features_is_refused(tmp_path: Path, width: int, golden: Golden) -> None:
    """The error for records of another width has both numbers."""
    with golden.raises(ArtifactError) as caught:
        made(tmp_path).predict(table((1,) * width))
    assert caught.value.path == tmp_path / "model.tar.gz"


@pytest.mark.parametrize(
    ("values", "held"),
    [
        pytest.param([1.0, None], None, id="null"),
        pytest.param([None, None], None, id="nulls"),
        pytest.param(["a", "b"], "a", id="string"),
        pytest.param([True, False], True, id="boolean"),
    ],
)
def test_features_that_are_no_numbers_are_refused(tmp_path: Path, values: list[Any], held: Any, golden: Golden) -> None:
    """The error for a null, a string or a boolean names its feature."""
    features = pl.DataFrame({"Age": [1, 2], "Sex": values})
    with golden.raises(ModelInputError) as caught:
        made(tmp_path).predict(features)
    assert (caught.value.model, caught.value.feature, caught.value.value) == ("linear_learner", "Sex", held)


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"predictor_type": "multiclass_classifier"}, id="multiclass"),
        pytest.param({"predictor_type": None}, id="no type"),
        pytest.param({"predictor_type": ["regressor"]}, id="list of types"),
        pytest.param({"threshold": "high"}, id="threshold is a word"),
        pytest.param({"threshold": [0.5]}, id="threshold is a list"),
    ],
)
def test_other_parameters_are_refused(tmp_path: Path, parameters: dict[str, Any], golden: Golden) -> None:
    """A predictor of another kind, and a threshold that is no number, are errors."""
    with golden.raises(ArtifactError) as caught:
        made(tmp_path, **parameters).predict(table((1, 2)))
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
def test_other_archives_are_refused(tmp_path: Path, files: dict[str, bytes], golden: Golden) -> None:
    """The error of an incomplete archive, or of another model, states the problem."""
    model = stored(tmp_path, tar_gz({"model_algo-1": zip_archive(files)}))
    with golden.raises(ArtifactError) as caught:
        model.predict(table((1, 2)))
    assert caught.value.path == tmp_path / "model.tar.gz"


def test_missing_artefact_is_an_error(tmp_path: Path) -> None:
    """The error for a file that is not there names its path and the setting."""
    model = LinearLearner(kind="linear_learner", artifact=tmp_path / "absent.tar.gz", label_headers=None, deploy=None)
    with pytest.raises(MissingInput) as caught:
        model.predict(table((1, 2)))
    assert (caught.value.path, caught.value.key) == (tmp_path / "absent.tar.gz", "model.artifact")


@given(st.floats(allow_nan=False, allow_infinity=False) | st.floats(0, 1))
def test_scores_are_cut_after_fifteen_decimals(score: float) -> None:
    """The text is the score's shortest one, in decimal notation, cut by decimal arithmetic."""
    cut = Decimal(repr(score)).quantize(Decimal("1e-15"), ROUND_DOWN, Context(prec=400))
    text = linear_learner._truncated(score)
    assert Decimal(text) == cut
    assert re.fullmatch(r"-?\d+\.\d{1,15}", text)
    assert text.endswith(".0") or not text.endswith("0")
