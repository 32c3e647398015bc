"""scikit-learn estimators: what the original predicts, types that are not trusted, features that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from runner.errors import ArtifactError, ModelAnswerError, ModelInputError
from runner.models.sklearn import Sklearn
from tests.golden import Golden
from tests.models.pipelines import LEAVES_N, PEOPLE, pipeline, skops_file
from tests.models.trees import FEATURES, LABELS_N, VALUES_ND

WHOLE_ND = np.nan_to_num(VALUES_ND)
CLASSES_N = np.arange(len(VALUES_ND)) % 3
PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"


def stored(folder: Path, estimator: Any, method: Any = "predict_proba", trusted: tuple[str, ...] = ()) -> Sklearn:
    """Return the model of an estimator."""
    return Sklearn(
        kind="sklearn",
        artifact=skops_file(folder, estimator),
        trusted=trusted,
        method=method,
        columns=None,
        label_headers=None,
        deploy=None,
    )


def frame(values_ND: Any) -> pl.DataFrame:
    """Return a matrix as features of any names."""
    return pl.DataFrame(values_ND, schema=[f"column_{d}" for d in range(values_ND.shape[1])]).fill_nan(None)


def test_pipeline_takes_texts(tmp_path: Path) -> None:
    """A pipeline that was trained on a frame scores the positive class as the original, in any order of features."""
    expected = pipeline().predict_proba(PEOPLE)[:, 1]
    assert LEAVES_N.any()
    model = stored(tmp_path, pipeline())
    assert model.predict(PEOPLE)[:, 0].tolist() == expected.tolist()
    assert model.predict(PEOPLE.select(reversed(PEOPLE.columns)))[:, 0].tolist() == expected.tolist()


def test_unknown_texts_and_nulls_go_through(tmp_path: Path) -> None:
    """Unknown categories and nulls are ignored, as by the encoder."""
    odd = PEOPLE.with_columns(plan=pl.Series(["platinum", None] * 80))
    expected = pipeline().predict_proba(odd)[:, 1]
    assert stored(tmp_path, pipeline()).predict(odd)[:, 0].tolist() == expected.tolist()


def test_both_classes_can_be_asked_for(tmp_path: Path) -> None:
    """The probabilities of both classes are there for the asking, and make another identity."""
    model = stored(tmp_path, pipeline())
    both = replace(model, columns=(0, 1))
    assert both.predict(PEOPLE).tolist() == pipeline().predict_proba(PEOPLE).tolist()
    assert both.predict(PEOPLE.clear()).shape == (0, 2)
    assert both.identity != model.identity


def test_forests_score_alike_each_time(tmp_path: Path) -> None:
    """Forest scores are bit-identical in any batch, even if the forest was trained on several threads."""
    forest = RandomForestClassifier(60, min_samples_leaf=7, n_jobs=4, random_state=0).fit(WHOLE_ND, LABELS_N)
    model = stored(tmp_path, forest, trusted=("sklearn.tree._tree.Tree",))
    features = frame(WHOLE_ND)
    first = model.predict(features)
    assert all(model.predict(features).tobytes() == first.tobytes() for _ in range(5))
    assert model.predict(features[7:8]).tobytes() == first[7:8].tobytes()
    np.testing.assert_allclose(first[:, 0], forest.predict_proba(WHOLE_ND)[:, 1], rtol=1e-14)


def test_untrusted_types_are_named(tmp_path: Path, golden: Golden) -> None:
    """A type that skops does not trust is named with the setting that would trust it, and then it scores."""
    estimator = HistGradientBoostingClassifier(max_iter=4, random_state=0).fit(VALUES_ND, LABELS_N)
    with pytest.raises(ArtifactError) as caught:
        stored(tmp_path, estimator, trusted=("some.Other",)).predict(FEATURES)
    golden(str(caught.value))
    golden(str(caught.value))
    scores = stored(tmp_path, estimator, trusted=(PREDICTOR,)).predict(FEATURES)[:, 0]
    assert scores.tolist() == estimator.predict_proba(VALUES_ND)[:, 1].tolist()


@pytest.mark.parametrize(
    ("estimator", "method", "outputs"),
    [
        (LogisticRegression().fit(WHOLE_ND, LABELS_N), "decision_function", 1),
        (LogisticRegression().fit(WHOLE_ND, LABELS_N), "predict", 1),
        (LogisticRegression().fit(WHOLE_ND, CLASSES_N), "predict_proba", 3),
        (LogisticRegression().fit(WHOLE_ND, CLASSES_N), "decision_function", 3),
        (LinearRegression().fit(WHOLE_ND, WHOLE_ND[:, 0]), "predict", 1),
        (IsolationForest(n_estimators=5, random_state=0).fit(WHOLE_ND), "decision_function", 1),
        (DummyClassifier().fit(WHOLE_ND, np.zeros(len(WHOLE_ND))), "predict_proba", 1),
    ],
    ids=str,
)
def test_methods(tmp_path: Path, estimator: Any, method: str, outputs: int) -> None:
    """Each method gives the original's scores, all columns of them unless they are two probabilities."""
    model = stored(tmp_path, estimator, method, ("sklearn.tree._tree.Tree",))
    expected = np.asarray(getattr(estimator, method)(WHOLE_ND), dtype=np.float64).reshape(-1, outputs)
    assert model.predict(frame(WHOLE_ND)).tolist() == expected.tolist()
    assert model.predict(frame(WHOLE_ND).clear()).shape == (0, outputs)


def test_identity_knows_the_method(tmp_path: Path) -> None:
    """Another method is another model; trusting more is not."""
    model = stored(tmp_path, pipeline())
    assert replace(model, method="decision_function").identity != model.identity
    assert replace(model, trusted=("some.Type",)).identity == model.identity


def test_missing_features_are_named(tmp_path: Path, golden: Golden) -> None:
    """The error names features missing from the records, and the records' features."""
    with pytest.raises(ArtifactError) as caught:
        stored(tmp_path, pipeline()).predict(PEOPLE.rename({"use": "column_0"}))
    golden(str(caught.value))
    assert "data.headers" in str(caught.value)


def test_strings_in_a_matrix_are_refused(tmp_path: Path, golden: Golden) -> None:
    """An estimator that was trained on a matrix takes no text."""
    model = stored(tmp_path, LogisticRegression().fit(WHOLE_ND, LABELS_N))
    with golden.raises(ModelInputError):
        model.predict(FEATURES.with_columns(years=pl.lit("x")))


def test_library_errors_are_reported(tmp_path: Path, golden: Golden) -> None:
    """The error quotes the exception and names the estimator."""
    model = stored(tmp_path, LogisticRegression().fit(WHOLE_ND, LABELS_N))
    with golden.raises(ModelAnswerError):
        model.predict(FEATURES)


def test_classes_are_no_scores(tmp_path: Path, golden: Golden) -> None:
    """Predicted words are refused."""
    words = np.where(LABELS_N, "yes", "no")
    with golden.raises(ModelAnswerError):
        stored(tmp_path, LogisticRegression().fit(WHOLE_ND, words), "predict").predict(frame(WHOLE_ND))


@pytest.mark.parametrize(("held", "name"), [({"a": 1}, "dict"), (LinearRegression(), "LinearRegression")])
def test_other_objects_are_refused(tmp_path: Path, held: Any, name: str, golden: Golden) -> None:
    """A file with an object that lacks the method is refused."""
    with golden.raises(ArtifactError):
        stored(tmp_path, held).predict(FEATURES)
