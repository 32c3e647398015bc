"""XGBoost models: what the library itself predicts, names and orders of features, files that would mislead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xgboost
from numpy.typing import NDArray

from runner.errors import ArtifactError, ModelAnswerError, ModelInputError
from runner.models.xgboost import Xgboost
from tests.golden import Golden
from tests.models.trees import FEATURES, LABELS_N, NAMES, VALUES_ND, booster, xgboost_file

CLASSES_N = np.arange(len(VALUES_ND)) % 3


def stored(folder: Path, model: Any, name: str = "model.ubj", columns: tuple[int, ...] | None = None) -> Xgboost:
    """Return the model of a booster or estimator."""
    model.save_model(folder / name)
    return read(folder / name, columns)


def read(path: Path, columns: tuple[int, ...] | None = None) -> Xgboost:
    """Return the model of a file."""
    return Xgboost(kind="xgboost", artifact=path, columns=columns, label_headers=None, deploy=None)


def trained(values_ND: NDArray[np.float64], labels_N: NDArray[np.int64], **parameters: Any) -> xgboost.Booster:
    """Return a booster of three rounds without names."""
    return xgboost.train({"nthread": 1, **parameters}, xgboost.DMatrix(values_ND, labels_N), 3)


@pytest.mark.parametrize("name", ["model.ubj", "model.json"])
def test_scores_are_the_librarys(tmp_path: Path, name: str) -> None:
    """Both native formats score as the booster that was trained, missing values included."""
    expected = booster().predict(xgboost.DMatrix(VALUES_ND, feature_names=list(NAMES)))
    assert stored(tmp_path, booster(), name).predict(FEATURES)[:, 0].tolist() == expected.tolist()


def test_features_are_found_by_name(tmp_path: Path) -> None:
    """The names in the file decide the order."""
    model = read(xgboost_file(tmp_path))
    assert model.predict(FEATURES.select(reversed(NAMES))).tolist() == model.predict(FEATURES).tolist()


def test_other_names_keep_the_order(tmp_path: Path) -> None:
    """Where the records have none of the file's names, their order counts."""
    model = read(xgboost_file(tmp_path))
    renamed = FEATURES.rename({name: f"column_{d}" for d, name in enumerate(NAMES)})
    assert model.predict(renamed).tolist() == model.predict(FEATURES).tolist()
    assert stored(tmp_path, trained(VALUES_ND, LABELS_N)).predict(renamed).shape == (FEATURES.height, 1)


def test_names_that_fit_in_part_are_refused(tmp_path: Path, golden: Golden) -> None:
    """The error names features missing from the records, and the records' features."""
    with pytest.raises(ArtifactError) as caught:
        read(xgboost_file(tmp_path)).predict(FEATURES.rename({"gain": "Capital Gain"}))
    golden(str(caught.value))
    golden(str(caught.value))


def test_early_stopping_counts(tmp_path: Path) -> None:
    """Trees after the best iteration are left out, as the estimator leaves them out."""
    estimator = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=3, max_depth=2, n_jobs=1)
    held_out = (VALUES_ND[150:], LABELS_N[150:])
    estimator.fit(VALUES_ND[:150], LABELS_N[:150], eval_set=[held_out], verbose=False)
    assert estimator.best_iteration + 1 < estimator.get_booster().num_boosted_rounds()
    expected = estimator.predict_proba(VALUES_ND)[:, 1]
    assert stored(tmp_path, estimator).predict(FEATURES)[:, 0].tolist() == expected.tolist()


def test_several_outputs(tmp_path: Path, golden: Golden) -> None:
    """A classifier of three classes has three outputs; `columns` selects and orders them."""
    multiclass = trained(VALUES_ND, CLASSES_N, objective="multi:softprob", num_class=3)
    expected = multiclass.predict(xgboost.DMatrix(VALUES_ND))
    model = stored(tmp_path, multiclass)
    assert model.predict(FEATURES).tolist() == expected.tolist()
    assert model.predict(FEATURES.clear()).shape == (0, 3)
    chosen = read(model.artifact, columns=(2, 0))
    assert chosen.predict(FEATURES).tolist() == expected[:, [2, 0]].tolist()
    assert chosen.identity != model.identity
    with golden.raises(ModelAnswerError):
        read(model.artifact, columns=(3,)).predict(FEATURES)


@pytest.mark.parametrize("parameters", [{"booster": "gblinear"}, {"booster": "dart"}, {"objective": "count:poisson"}])
def test_other_boosters(tmp_path: Path, parameters: dict[str, Any]) -> None:
    """Linear and dropout boosters and other objectives score as the library has it."""
    other = trained(np.nan_to_num(VALUES_ND), LABELS_N, **parameters)
    expected = other.predict(xgboost.DMatrix(np.nan_to_num(VALUES_ND)))
    scores = stored(tmp_path, other).predict(FEATURES.fill_null(0))[:, 0]
    assert scores.tolist() == expected.tolist()


def test_categories_as_codes(tmp_path: Path) -> None:
    """Categories that were numbers in training are numbers here."""
    values_ND = np.column_stack([CLASSES_N, VALUES_ND[:, 1]])
    rows = xgboost.DMatrix(values_ND, CLASSES_N == 1, feature_types=["c", "float"], enable_categorical=True)
    coded = xgboost.train({"objective": "binary:logistic", "nthread": 1}, rows, 3)
    scores = stored(tmp_path, coded).predict(pl.DataFrame(values_ND, schema=["class", "x"]).fill_nan(None))
    assert scores[:, 0].tolist() == coded.predict(rows).tolist()


def test_categories_of_data_frames_are_refused(tmp_path: Path, golden: Golden) -> None:
    """A model that was trained on the categories of a data frame would take their values for their codes."""
    document = json.loads(booster().save_raw("json"))
    document["learner"]["feature_types"] = ["c", "float", "float", "float"]
    document["learner"]["gradient_booster"]["model"]["cats"] = {
        "enc": [{"type": 15, "values": [10, 20, 30]}, *[{"offsets": [], "values": []}] * 3],
        "feature_segments": [0, 3, 3, 3, 3],
        "sorted_idx": [0, 1, 2],
    }
    path = tmp_path / "model.json"
    path.write_text(json.dumps(document))
    with golden.raises(ArtifactError):
        read(path).predict(FEATURES)


def test_values_of_every_kind(tmp_path: Path, golden: Golden) -> None:
    """Booleans are 0 and 1, a column of nulls is missing, texts are refused."""
    model = read(xgboost_file(tmp_path))
    booleans = FEATURES.with_columns(pl.col("hours") > 0, gain=pl.lit(None))
    numbers = booleans.cast({"hours": pl.Float64, "gain": pl.Float64})
    assert model.predict(booleans).tolist() == model.predict(numbers).tolist()
    with golden.raises(ModelInputError):
        model.predict(FEATURES.with_columns(hours=pl.lit("x")))


@pytest.mark.parametrize("name", ["model.pkl", "model.PICKLE", "model.joblib"])
def test_pickle_names_are_refused(tmp_path: Path, name: str, golden: Golden) -> None:
    """A file named as a pickle is not opened as anything else; the sentence says why and what to save."""
    with golden.raises(ArtifactError):
        read(xgboost_file(tmp_path).rename(tmp_path / name)).predict(FEATURES)


def test_directories_are_refused(tmp_path: Path, golden: Golden) -> None:
    """A directory instead of a file is refused."""
    with golden.raises(ArtifactError):
        read(tmp_path).predict(FEATURES)
