"""scikit-learn models: scores of the original estimator, untrusted types, invalid features."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import skops.io
from sklearn.cluster import KMeans
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, SVR, NuSVC, NuSVR, OneClassSVM

from runner.errors import ArtifactError, ModelAnswerError, ModelInputError
from runner.models import sklearn
from runner.models.sklearn import Sklearn
from tests.golden import Golden
from tests.models.contract import ModelContract
from tests.models.people import LEAVES_N, PEOPLE, pipeline, skops_file
from tests.models.trees import FEATURES, LABELS_N, VALUES_ND

WHOLE_ND = np.nan_to_num(VALUES_ND)
CLASSES_N = np.arange(len(VALUES_ND)) % 3
PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"


def estimator_model(
    folder: Path, estimator: Any, method: Any = "predict_proba", trusted: tuple[str, ...] = ()
) -> Sklearn:
    """Return the model with an estimator."""
    return Sklearn(
        kind="sklearn",
        artifact=skops_file(folder, estimator),
        trusted=trusted,
        method=method,
        columns=None,
        label_headers=None,
        deploy=None,
    )


CONTRACT = ModelContract(lambda folder, number: estimator_model(folder, pipeline(1 / number)), PEOPLE, library="skops")


def frame(values_ND: Any) -> pl.DataFrame:
    """Return a matrix as a data frame of features."""
    return pl.DataFrame(values_ND, schema=[f"column_{d}" for d in range(values_ND.shape[1])]).fill_nan(None)


def test_pipeline_gets_strings(tmp_path: Path) -> None:
    """A pipeline trained on a data frame has the original scores, for any order of features."""
    expected = pipeline().predict_proba(PEOPLE)[:, 1]
    assert LEAVES_N.any()
    model = estimator_model(tmp_path, pipeline())
    assert model.predict(PEOPLE)[:, 0].tolist() == expected.tolist()
    assert model.predict(PEOPLE.select(reversed(PEOPLE.columns)))[:, 0].tolist() == expected.tolist()


def test_unknown_categories_and_nulls_are_passed_to_the_pipeline(tmp_path: Path) -> None:
    """The encoder ignores unknown categories and nulls."""
    features = PEOPLE.with_columns(plan=pl.Series(["platinum", None] * 80))
    expected = pipeline().predict_proba(features)[:, 1]
    assert estimator_model(tmp_path, pipeline()).predict(features)[:, 0].tolist() == expected.tolist()


def test_columns_select_both_classes(tmp_path: Path) -> None:
    """`columns` selects the probabilities of both classes, and changes the identity."""
    model = estimator_model(tmp_path, pipeline())
    both = replace(model, columns=(0, 1))
    assert both.predict(PEOPLE).tolist() == pipeline().predict_proba(PEOPLE).tolist()
    assert both.predict(PEOPLE.clear()).shape == (0, 2)
    assert both.identity != model.identity


def test_forest_scores_are_reproducible(tmp_path: Path) -> None:
    """Scores of a forest are bit-identical in each call, also if the forest was trained on several threads."""
    forest = RandomForestClassifier(60, min_samples_leaf=7, n_jobs=4, random_state=0).fit(WHOLE_ND, LABELS_N)
    model = estimator_model(tmp_path, forest, trusted=("sklearn.tree._tree.Tree",))
    features = frame(WHOLE_ND)
    first = model.predict(features)
    assert all(model.predict(features).tobytes() == first.tobytes() for _ in range(5))
    assert model.predict(features[7:8]).tobytes() == first[7:8].tobytes()
    np.testing.assert_allclose(first[:, 0], forest.predict_proba(WHOLE_ND)[:, 1], rtol=1e-14)


def test_untrusted_types_are_rejected(tmp_path: Path, golden: Golden) -> None:
    """The error names the untrusted type; with that type in `trusted`, the model is loaded."""
    estimator = HistGradientBoostingClassifier(max_iter=4, random_state=0).fit(VALUES_ND, LABELS_N)
    with pytest.raises(ArtifactError) as caught:
        estimator_model(tmp_path, estimator, trusted=("some.Other",)).predict(FEATURES)
    golden(str(caught.value))
    scores = estimator_model(tmp_path, estimator, trusted=(PREDICTOR,)).predict(FEATURES)[:, 0]
    assert scores.tolist() == estimator.predict_proba(VALUES_ND)[:, 1].tolist()


@pytest.mark.parametrize("machine", [SVC, NuSVC, SVR, NuSVR, OneClassSVM])
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("support_", lambda values: values[:1]),
        ("support_", lambda values: values + 10**6),
        ("support_vectors_", lambda values: values[:, :1]),
        ("support_vectors_", lambda values: values[:1]),
        ("_n_support", lambda values: values[::-1] * np.array([-1, 3])),
        ("_n_support", lambda values: values[:1]),
        ("_dual_coef_", lambda values: values[:, :1]),
        ("_intercept_", lambda values: values[:0]),
        ("_probA", lambda _: np.zeros(2)),
    ],
)
def test_damaged_support_vector_machines_are_not_computed(
    tmp_path: Path, machine: Any, name: str, damage: Callable[[Any], Any]
) -> None:
    """A support vector machine with arrays of wrong sizes is an error before libsvm reads it."""
    estimator = machine().fit(WHOLE_ND, LABELS_N)
    method = "decision_function" if machine in {SVC, NuSVC, OneClassSVM} else "predict"
    assert estimator_model(tmp_path, estimator, method).predict(frame(WHOLE_ND)).shape == (len(WHOLE_ND), 1)
    values = getattr(estimator, name)
    setattr(estimator, name, np.ascontiguousarray(damage(values), dtype=values.dtype))
    with pytest.raises(ArtifactError):
        estimator_model(tmp_path, make_pipeline(estimator), method).predict(frame(WHOLE_ND))


@pytest.mark.parametrize(
    ("estimator", "name"), [(KMeans(3), "cluster_centers_"), (KNeighborsClassifier(algorithm="brute"), "_fit_X")]
)
def test_matrix_with_too_few_columns_is_not_computed(tmp_path: Path, estimator: Any, name: str) -> None:
    """A matrix with fewer columns than features is an error, also deep in a pipeline."""
    fitted = estimator.fit(WHOLE_ND, LABELS_N)
    setattr(fitted, name, np.ascontiguousarray(getattr(fitted, name)[:, :1]))
    with pytest.raises(ArtifactError):
        estimator_model(tmp_path, make_pipeline("passthrough", fitted), "predict").predict(frame(WHOLE_ND))


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
        (SVC().fit(WHOLE_ND, CLASSES_N), "decision_function", 3),
        (KMeans(3, random_state=0).fit(WHOLE_ND), "predict", 1),
        (KNeighborsClassifier(algorithm="brute").fit(WHOLE_ND, CLASSES_N), "predict_proba", 3),
    ],
    ids=str,
)
def test_scores_come_from_the_method(tmp_path: Path, estimator: Any, method: str, outputs: int) -> None:
    """Each method returns the original scores, with one output per column except for two probabilities."""
    model = estimator_model(tmp_path, estimator, method, ("sklearn.tree._tree.Tree",))
    expected = np.asarray(getattr(estimator, method)(WHOLE_ND), dtype=np.float64).reshape(-1, outputs)
    assert model.predict(frame(WHOLE_ND)).tolist() == expected.tolist()
    assert model.predict(frame(WHOLE_ND).clear()).shape == (0, outputs)


def test_bomb_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose content is much larger is an error."""
    estimator = LogisticRegression().fit(WHOLE_ND, LABELS_N)
    estimator.coef_ = np.zeros((1, 100_000))
    path = tmp_path / "bomb.skops"
    skops.io.dump(estimator, path, compression=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(sklearn, "MAX_UNPACKED_BYTES", 100_000)
    model = replace(estimator_model(tmp_path, estimator), artifact=path)
    with pytest.raises(ArtifactError) as caught:
        model.predict(frame(WHOLE_ND))
    assert "contain" in caught.value.problem


def test_identity_depends_on_the_method(tmp_path: Path) -> None:
    """`method` changes the identity, `trusted` does not."""
    model = estimator_model(tmp_path, pipeline())
    assert replace(model, method="decision_function").identity != model.identity
    assert replace(model, trusted=("some.Type",)).identity == model.identity


def test_missing_features_are_an_error(tmp_path: Path, golden: Golden) -> None:
    """The error names the missing features and the features of the records."""
    with pytest.raises(ArtifactError) as caught:
        estimator_model(tmp_path, pipeline()).predict(PEOPLE.rename({"use": "column_0"}))
    golden(str(caught.value))
    assert "data.headers" in str(caught.value)


def test_strings_in_a_matrix_are_rejected(tmp_path: Path, golden: Golden) -> None:
    """An estimator trained on a matrix accepts no strings."""
    model = estimator_model(tmp_path, LogisticRegression().fit(WHOLE_ND, LABELS_N))
    with golden.raises(ModelInputError):
        model.predict(FEATURES.with_columns(years=pl.lit("x")))


def test_library_errors_are_reported(tmp_path: Path, golden: Golden) -> None:
    """The error names the estimator and quotes its exception."""
    model = estimator_model(tmp_path, LogisticRegression().fit(WHOLE_ND, LABELS_N))
    with golden.raises(ModelAnswerError):
        model.predict(FEATURES)


def test_string_classes_are_rejected(tmp_path: Path, golden: Golden) -> None:
    """Predictions that are strings are an error."""
    classes = np.where(LABELS_N, "yes", "no")
    with golden.raises(ModelAnswerError):
        estimator_model(tmp_path, LogisticRegression().fit(WHOLE_ND, classes), "predict").predict(frame(WHOLE_ND))


@pytest.mark.parametrize(("estimator", "name"), [({"a": 1}, "dict"), (LinearRegression(), "LinearRegression")])
def test_objects_without_the_method_are_rejected(tmp_path: Path, estimator: Any, name: str, golden: Golden) -> None:
    """The error names the type of the object."""
    with golden.raises(ArtifactError):
        estimator_model(tmp_path, estimator).predict(FEATURES)
