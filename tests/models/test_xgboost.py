"""XGBoost models: scores of the library, names of features, categories, rejected files, Universal Binary JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xgboost
from numpy.typing import NDArray

from runner.errors import ArtifactError, ModelAnswerError, ModelInputError, ShapwatchError
from runner.models.xgboost import Xgboost, parse_ubjson
from tests.golden import Golden
from tests.models.contract import ModelContract
from tests.models.mutations import deaths, mutated
from tests.models.trees import FEATURES, LABELS_N, NAMES, VALUES_ND, booster, xgboost_file

CLASSES_N = np.arange(len(VALUES_ND)) % 3


def booster_model(folder: Path, model: Any, name: str = "model.ubj", columns: tuple[int, ...] | None = None) -> Xgboost:
    """Return the model with a booster or estimator."""
    model.save_model(folder / name)
    return file_model(folder / name, columns)


def file_model(path: Path, columns: tuple[int, ...] | None = None) -> Xgboost:
    """Return the model in a file."""
    return Xgboost(kind="xgboost", artifact=path, columns=columns, label_headers=None, deploy=None)


CONTRACT = ModelContract(
    lambda folder, number: file_model(xgboost_file(folder, 12 * number)), FEATURES, library="xgboost"
)


def trained_booster(values_ND: NDArray[np.float64], labels_N: NDArray[np.int64], **parameters: Any) -> xgboost.Booster:
    """Return a booster with three rounds and without feature names."""
    return xgboost.train({"nthread": 1, **parameters}, xgboost.DMatrix(values_ND, labels_N), 3)


@pytest.mark.parametrize("name", ["model.ubj", "model.json"])
def test_scores_equal_the_library(tmp_path: Path, name: str) -> None:
    """Both native formats have the scores of the trained booster, also for missing values."""
    expected = booster().predict(xgboost.DMatrix(VALUES_ND, feature_names=list(NAMES)))
    assert booster_model(tmp_path, booster(), name).predict(FEATURES)[:, 0].tolist() == expected.tolist()


def test_features_are_matched_by_name(tmp_path: Path) -> None:
    """Features are arranged in the order of the names in the file."""
    model = file_model(xgboost_file(tmp_path))
    assert model.predict(FEATURES.select(reversed(NAMES))).tolist() == model.predict(FEATURES).tolist()


def test_features_with_other_names_keep_their_order(tmp_path: Path) -> None:
    """Features are matched by position if no name is in the file."""
    model = file_model(xgboost_file(tmp_path))
    renamed = FEATURES.rename({name: f"column_{d}" for d, name in enumerate(NAMES)})
    assert model.predict(renamed).tolist() == model.predict(FEATURES).tolist()
    assert booster_model(tmp_path, trained_booster(VALUES_ND, LABELS_N)).predict(renamed).shape == (FEATURES.height, 1)


def test_partly_matching_names_are_rejected(tmp_path: Path, golden: Golden) -> None:
    """The error names the missing features and the features of the records."""
    with pytest.raises(ArtifactError) as caught:
        file_model(xgboost_file(tmp_path)).predict(FEATURES.rename({"gain": "Capital Gain"}))
    golden(str(caught.value))


def test_early_stopping_limits_the_trees(tmp_path: Path) -> None:
    """Trees after the best iteration are not used, as in XGBClassifier."""
    estimator = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=3, max_depth=2, n_jobs=1)
    held_out = (VALUES_ND[150:], LABELS_N[150:])
    estimator.fit(VALUES_ND[:150], LABELS_N[:150], eval_set=[held_out], verbose=False)
    assert estimator.best_iteration + 1 < estimator.get_booster().num_boosted_rounds()
    expected = estimator.predict_proba(VALUES_ND)[:, 1]
    assert booster_model(tmp_path, estimator).predict(FEATURES)[:, 0].tolist() == expected.tolist()


def test_multiclass_model_has_several_outputs(tmp_path: Path, golden: Golden) -> None:
    """A classifier of three classes has three outputs; `columns` selects and orders them."""
    multiclass = trained_booster(VALUES_ND, CLASSES_N, objective="multi:softprob", num_class=3)
    expected = multiclass.predict(xgboost.DMatrix(VALUES_ND))
    model = booster_model(tmp_path, multiclass)
    assert model.predict(FEATURES).tolist() == expected.tolist()
    assert model.predict(FEATURES.clear()).shape == (0, 3)
    chosen = file_model(model.artifact, columns=(2, 0))
    assert chosen.predict(FEATURES).tolist() == expected[:, [2, 0]].tolist()
    assert chosen.identity != model.identity
    with golden.raises(ModelAnswerError):
        file_model(model.artifact, columns=(3,)).predict(FEATURES)


@pytest.mark.parametrize("parameters", [{"booster": "gblinear"}, {"booster": "dart"}, {"objective": "count:poisson"}])
def test_other_boosters_and_objectives(tmp_path: Path, parameters: dict[str, Any]) -> None:
    """Linear and dropout boosters and other objectives have the scores of the library."""
    other = trained_booster(np.nan_to_num(VALUES_ND), LABELS_N, **parameters)
    expected = other.predict(xgboost.DMatrix(np.nan_to_num(VALUES_ND)))
    scores = booster_model(tmp_path, other).predict(FEATURES.fill_null(0))[:, 0]
    assert scores.tolist() == expected.tolist()


def test_categories_trained_as_codes_are_numbers(tmp_path: Path) -> None:
    """Categories that were codes in training are numbers in the records."""
    values_ND = np.column_stack([CLASSES_N, VALUES_ND[:, 1]])
    rows = xgboost.DMatrix(values_ND, CLASSES_N == 1, feature_types=["c", "float"], enable_categorical=True)
    model = xgboost.train({"objective": "binary:logistic", "nthread": 1}, rows, 3)
    scores = booster_model(tmp_path, model).predict(pl.DataFrame(values_ND, schema=["class", "x"]).fill_nan(None))
    assert scores[:, 0].tolist() == model.predict(rows).tolist()


def test_categories_of_data_frames_are_rejected(tmp_path: Path, golden: Golden) -> None:
    """A model trained on categories of a data frame is rejected: it would read their values as codes."""
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
        file_model(path).predict(FEATURES)


def test_feature_types(tmp_path: Path, golden: Golden) -> None:
    """Booleans become 0 and 1, nulls are missing values, strings are an error."""
    model = file_model(xgboost_file(tmp_path))
    booleans = FEATURES.with_columns(pl.col("hours") > 0, gain=pl.lit(None))
    numbers = booleans.cast({"hours": pl.Float64, "gain": pl.Float64})
    assert model.predict(booleans).tolist() == model.predict(numbers).tolist()
    with golden.raises(ModelInputError):
        model.predict(FEATURES.with_columns(hours=pl.lit("x")))


@pytest.mark.parametrize("name", ["model.pkl", "model.PICKLE", "model.joblib"])
def test_pickle_names_are_rejected(tmp_path: Path, name: str, golden: Golden) -> None:
    """A file with the suffix of a pickle is rejected; the error names the format to save."""
    with golden.raises(ArtifactError):
        file_model(xgboost_file(tmp_path).rename(tmp_path / name)).predict(FEATURES)


def test_directories_are_rejected(tmp_path: Path, golden: Golden) -> None:
    """A directory is not a model file."""
    with golden.raises(ArtifactError):
        file_model(tmp_path).predict(FEATURES)


def damaged(change: Callable[[dict[str, Any]], object], model: Any = None) -> str:
    """Return a model as JSON after a change of its learner."""
    document = json.loads((model or booster()).save_raw("json"))
    change(document["learner"])
    return json.dumps(document)


def tree(learner: dict[str, Any]) -> dict[str, Any]:
    """Return the first tree of a learner."""
    return dict(learner["gradient_booster"]["model"]["trees"][0])


@pytest.mark.parametrize(
    "change",
    [
        lambda learner: tree(learner)["left_children"].__setitem__(0, 1_000_000),
        lambda learner: tree(learner)["right_children"].__setitem__(1, 0),
        lambda learner: tree(learner)["left_children"].pop(),
        lambda learner: tree(learner)["split_indices"].__setitem__(0, 4),
        lambda learner: tree(learner)["split_indices"].__setitem__(0, 2**32),
        lambda learner: tree(learner)["split_conditions"].pop(),
        lambda learner: tree(learner)["parents"].__setitem__(1, 5),
        lambda learner: tree(learner)["split_type"].__setitem__(0, 1),
        lambda learner: tree(learner)["tree_param"].update(num_nodes="1000000"),
        lambda learner: tree(learner)["tree_param"].update(size_leaf_vector="7"),
        lambda learner: learner["gradient_booster"]["model"]["tree_info"].__setitem__(0, 3),
        lambda learner: learner["gradient_booster"]["model"]["trees"].pop(),
        lambda learner: learner["gradient_booster"]["model"]["trees"][1].update(id=0),
        lambda learner: learner["gradient_booster"]["model"]["iteration_indptr"].__setitem__(1, 10**9),
        lambda learner: learner["gradient_booster"]["model"]["gbtree_model_param"].update(num_parallel_tree="0"),
        lambda learner: learner["learner_model_param"].update(num_feature="-1"),
        lambda learner: learner["feature_names"].pop(),
        lambda learner: learner["objective"].update(name="none"),
        lambda learner: learner["learner_model_param"].update(num_target="1000000"),
    ],
    ids=range(19),
)
def test_damaged_trees_are_not_given_to_the_library(
    change: Callable[[dict[str, Any]], object], tmp_path: Path, golden: Golden
) -> None:
    """Wrong children, sizes, features, groups and parameters are an error; XGBoost would crash or read other memory."""
    path = tmp_path / "model.json"
    path.write_text(damaged(change))
    with golden.raises(ArtifactError, (r"\[\d\d:\d\d:\d\d\] \S+", "{time} {file}")):
        file_model(path).predict(FEATURES)


def test_categories_and_weights_are_checked(tmp_path: Path, golden: Golden) -> None:
    """Segments of categories, weights of a linear booster and of dropped trees have the expected sizes."""
    values_ND = np.column_stack([CLASSES_N, np.nan_to_num(VALUES_ND[:, 1])])
    rows = xgboost.DMatrix(values_ND, CLASSES_N, feature_types=["c", "float"], enable_categorical=True)
    parameters = {"objective": "multi:softprob", "num_class": 3, "nthread": 1, "max_cat_to_onehot": 1}
    trees = xgboost.train({"booster": "dart", **parameters}, rows, 1)
    linear = trained_booster(np.nan_to_num(VALUES_ND), LABELS_N, booster="gblinear")
    features = pl.DataFrame(values_ND, schema=["class", "x"])
    for change, model in (
        (lambda learner: learner["gradient_booster"]["gbtree"]["model"]["trees"][0]["categories"].pop(), trees),
        (lambda learner: learner["gradient_booster"]["weight_drop"].pop(), trees),
        (lambda learner: learner["gradient_booster"]["model"]["weights"].pop(), linear),
    ):
        path = tmp_path / "model.json"
        path.write_text(damaged(change, model))
        with golden.raises(ArtifactError):
            file_model(path).predict(features if model is trees else FEATURES)


@pytest.mark.parametrize("data", [b"binf" + bytes(200), b'{"learner":{},"learner":{}}', b"{L", b"[]"])
def test_other_formats_are_rejected(data: bytes, tmp_path: Path, golden: Golden) -> None:
    """XGBoost's former binary format, duplicate names, and documents of another kind are no model."""
    path = tmp_path / "model.ubj"
    path.write_bytes(data)
    with golden.raises(ArtifactError):
        file_model(path).predict(FEATURES)


def attempt(folder: Path, number: int) -> None:
    """Predict with a randomly damaged model."""
    path = folder / f"{number}.json"
    path.write_text(json.dumps(mutated(random.Random(number), json.loads((folder / "model.json").read_text()))))
    with suppress(ShapwatchError):
        file_model(path).predict(FEATURES)
        file_model(path).tree_shap(FEATURES)


@pytest.mark.soak
def test_damaged_models_do_not_crash(tmp_path: Path) -> None:
    """Of 1,500 damaged models, none ends the process or hangs."""
    booster().save_model(tmp_path / "model.json")
    assert deaths(partial(attempt, tmp_path), 1_500) == []


def plain(value: Any) -> Any:
    """Return a document with lists in place of arrays, and floats rounded to 32 bits."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | np.ndarray):
        return [plain(inner) for inner in value]
    return float(np.float32(value)) if isinstance(value, float | np.floating) else value


def test_ubjson_document_equals_that_in_json() -> None:
    """Both formats of a booster have the same content."""
    document = parse_ubjson(bytes(booster().save_raw("ubj")))
    assert plain(document) == plain(json.loads(booster().save_raw("json")))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"{}", {}),
        (b"{U\x01aZU\x01bTU\x01cF}", {"a": None, "b": True, "c": False}),
        (b"[i\xffU\xffI\x01\x00l\x00\x01\x00\x00]", [-1, 255, 256, 65536]),
        (b"[#U\x02d\x3f\x80\x00\x00D\x3f\xf0\x00\x00\x00\x00\x00\x00", [1.0, 1.0]),
        (b"SU\x02hi", "hi"),
        (b"[$l#U\x01\x00\x00\x00\x07", [7]),
    ],
)
def test_each_type_of_ubjson_is_parsed(data: bytes, value: Any) -> None:
    """Constants, numbers, strings, and arrays with and without a size."""
    assert plain(parse_ubjson(data)) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{U",
        b"{U\x01a",
        b"{}x",
        b"{i\xffa}",
        b"{U\x01aTU\x01aF}",
        b"[$l#l\x7f\xff\xff\xff",
        b"[#L\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"[#L\xff\xff\xff\xff\xff\xff\xff\xff",
        b"[$S#U\x01",
        b"SL\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"q",
        b"[" * 100_000,
        b"SU\x01\xff",
    ],
    ids=range(15),
)
def test_malformed_ubjson_document_is_an_error(data: bytes) -> None:
    """Truncated, endless, deep and duplicate content is an error of its own, without memory for announced sizes."""
    with pytest.raises(ValueError, match=r"."):
        parse_ubjson(data)


def test_damaged_ubjson_is_an_error_or_a_document() -> None:
    """Any other exception would be a traceback."""
    data, rng = bytes(booster().save_raw("ubj")), random.Random(0)
    for _ in range(300):
        i = rng.randrange(400)
        damaged = data[:i] + bytes([rng.randrange(256)]) + data[i + rng.randrange(3) :]
        try:
            parse_ubjson(damaged)
        except ValueError:
            continue
