"""LightGBM models: scores of the library, names of features, damaged files."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest

from runner.errors import ArtifactError, ModelAnswerError, ModelInputError, ShapwatchError
from runner.models.lightgbm import Lightgbm
from tests.golden import Golden
from tests.models.contract import ModelContract
from tests.models.mutations import deaths, mutated
from tests.models.trees import FEATURES, LABELS_N, NAMES, VALUES_ND, lightgbm_file

CLASSES_N = np.arange(len(VALUES_ND)) % 3


def file_model(path: Path, columns: tuple[int, ...] | None = None) -> Lightgbm:
    """Return the model in a file."""
    return Lightgbm(kind="lightgbm", artifact=path, columns=columns, label_headers=None, deploy=None)


CONTRACT = ModelContract(
    lambda folder, number: file_model(lightgbm_file(folder, 12 * number)), FEATURES, library="lightgbm"
)


def trained_booster(labels_N: Any, names: list[str], **parameters: Any) -> lightgbm.Booster:
    """Return a booster with three rounds."""
    defaults = {"num_threads": 1, "verbosity": -1, "num_leaves": 4}
    return lightgbm.train({**defaults, **parameters}, lightgbm.Dataset(VALUES_ND, labels_N, feature_name=names), 3)


def booster_model(folder: Path, model: lightgbm.Booster) -> Lightgbm:
    """Return the model with a booster."""
    model.save_model(folder / "model.txt")
    return file_model(folder / "model.txt")


def test_scores_equal_the_library(tmp_path: Path) -> None:
    """The model has the scores of the trained booster, also for missing values."""
    model = trained_booster(LABELS_N, list(NAMES), objective="binary")
    expected: Any = model.predict(VALUES_ND)
    assert len(np.unique(expected)) > 5
    assert booster_model(tmp_path, model).predict(FEATURES)[:, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("names", [list(NAMES), ["Age", "Hours per week", "Capital Gain", "Years"]])
def test_features_are_matched_by_name(tmp_path: Path, names: list[str]) -> None:
    """Features are arranged in the order of the names in the file, where LightGBM replaces spaces."""
    booster = trained_booster(LABELS_N, names, objective="binary")
    expected = np.asarray(booster.predict(VALUES_ND))
    features = pl.DataFrame(VALUES_ND, schema=names).fill_nan(None).select(reversed(names))
    assert booster_model(tmp_path, booster).predict(features)[:, 0].tolist() == expected.tolist()


def test_features_with_other_names_keep_their_order(tmp_path: Path, golden: Golden) -> None:
    """Features are matched by position if no name is in the file; partly matching names are an error."""
    model = file_model(lightgbm_file(tmp_path))
    renamed = FEATURES.rename({name: f"column_{d}" for d, name in enumerate(NAMES)})
    assert model.predict(renamed).tolist() == model.predict(FEATURES).tolist()
    with golden.raises(ArtifactError):
        model.predict(FEATURES.rename({"gain": "other"}))


def test_feature_names_equal_in_lightgbm_are_rejected(tmp_path: Path, golden: Golden) -> None:
    """Two features whose names differ only in a space are an error."""
    features = FEATURES.rename({NAMES[0]: "the age", NAMES[1]: "the_age"})
    with golden.raises(ArtifactError):
        file_model(lightgbm_file(tmp_path)).predict(features)


def test_multiclass_model_has_several_outputs(tmp_path: Path, golden: Golden) -> None:
    """A classifier of three classes has three outputs; `columns` selects and orders them."""
    multiclass = trained_booster(CLASSES_N, list(NAMES), objective="multiclass", num_class=3)
    expected: Any = multiclass.predict(VALUES_ND)
    model = booster_model(tmp_path, multiclass)
    assert model.predict(FEATURES).tolist() == expected.tolist()
    assert model.predict(FEATURES.clear()).shape == (0, 3)
    chosen = file_model(model.artifact, columns=(2, 0))
    assert chosen.predict(FEATURES).tolist() == expected[:, [2, 0]].tolist()
    assert chosen.identity != model.identity
    with golden.raises(ModelAnswerError):
        file_model(model.artifact, columns=(0, 3)).predict(FEATURES)


def test_categories_of_data_frames_are_rejected(tmp_path: Path, golden: Golden) -> None:
    """A model trained on categories of a data frame is rejected: it would read their values as codes."""
    path = lightgbm_file(tmp_path)
    path.write_text(path.read_text().replace("pandas_categorical:null", "pandas_categorical:[[10, 20, 30]]"))
    with golden.raises(ArtifactError):
        file_model(path).predict(FEATURES)


def test_strings_are_rejected(tmp_path: Path, golden: Golden) -> None:
    """The error for a string names the feature."""
    with golden.raises(ModelInputError):
        file_model(lightgbm_file(tmp_path)).predict(FEATURES.with_columns(gain=pl.lit("x")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tree_sizes=", "tree_sizes=9"),
        ("Tree=1\n", "Tree=one\n"),
        ("num_leaves=", "leaves="),
        ("\nend of trees", ""),
        ("\nend of parameters", ""),
        ("left_child=", "left_child=500 "),
    ],
)
def test_damage_that_would_abort_the_process_is_an_error(tmp_path: Path, old: str, new: str, golden: Golden) -> None:
    """Damaged files on which LightGBM would abort the process are rejected first."""
    path = lightgbm_file(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with golden.raises(ArtifactError):
        file_model(path).predict(FEATURES)


def without_sizes(text: str) -> str:
    """Return a file without the positions of its trees."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("tree_sizes="))


@pytest.mark.parametrize(
    ("pattern", "new"),
    [
        (r"left_child=\S+", "left_child=5"),
        (r"left_child=\S+", "left_child=-7"),
        (r"right_child=\S+", "right_child=1"),
        (r"left_child=\S+ ", "left_child="),
        (r"split_feature=\S+", "split_feature=4"),
        (r"decision_type=\S+", "decision_type=1"),
        (r"threshold=\S+ ", "threshold="),
        (r"leaf_value=\S+ ", "leaf_value="),
        (r"leaf_count=\S+ ", "leaf_count="),
        (r"num_leaves=\S+", "num_leaves=0"),
        (r"num_cat=\S+", "num_cat=1"),
        (r"is_linear=\S+", "is_linear=1"),
        (r"shrinkage=1", "num_leaves=6"),
        (r"num_class=1", "num_class=3"),
        (r"objective=binary", "objective=multiclass num_class:7"),
        (r"max_feature_idx=3", "max_feature_idx=9"),
    ],
)
def test_damaged_trees_are_not_given_to_the_library(tmp_path: Path, pattern: str, new: str, golden: Golden) -> None:
    """Wrong children, sizes, features, categories and outputs are an error; LightGBM would read other memory."""
    path = lightgbm_file(tmp_path)
    text, count = re.subn(pattern, new, without_sizes(path.read_text()), count=1)
    assert count == 1
    path.write_text(text)
    with golden.raises(ArtifactError):
        file_model(path).predict(FEATURES)


def complex_file(folder: Path, kind: str) -> Path:
    """Write a model with several outputs and with splits by categories, or with linear models in its leaves."""
    values_ND = np.nan_to_num(VALUES_ND)
    values_ND[:, 3] = np.arange(len(values_ND)) % 6
    settings: Any = {"num_threads": 1, "verbosity": -1, "num_leaves": 5, "min_data_per_group": 5, "cat_smooth": 1}
    settings |= {"linear_tree": True} if kind == "linear" else {"objective": "multiclass", "num_class": 3}
    categories = [] if kind == "linear" else [3]
    labels_N = values_ND @ [1, 2, 0.5, 0] if kind == "linear" else CLASSES_N * (values_ND[:, 3] < 4)
    records = lightgbm.Dataset(values_ND, labels_N, feature_name=list(NAMES), categorical_feature=categories)
    lightgbm.train(settings, records, 3).save_model(folder / "model.txt")
    return folder / "model.txt"


@pytest.mark.parametrize("kind", ["linear", "categories"])
def test_categories_and_linear_leaves_are_checked(tmp_path: Path, kind: str, golden: Golden) -> None:
    """Sets of categories, and coefficients of leaves, have the expected sizes."""
    path = complex_file(tmp_path, kind)
    text = path.read_text()
    assert re.search(r"^(cat_threshold|leaf_coeff)=.", text, re.MULTILINE)
    assert file_model(path).predict(FEATURES.fill_null(0)).shape == (240, 1 if kind == "linear" else 3)
    for damage in (
        ("num_features", "leaf_features", "leaf_coeff") if kind == "linear" else ("cat_boundaries", "cat_threshold")
    ):
        path.write_text(re.sub(rf"^{damage}=", f"{damage}=7 ", without_sizes(text), count=1, flags=re.MULTILINE))
        with golden.raises(ArtifactError):
            file_model(path).predict(FEATURES)


def attempt(folder: Path, number: int) -> None:
    """Predict with a randomly damaged model."""
    head, end, rest = without_sizes((folder / "model.txt").read_text()).partition("\nend of trees")
    sections = [
        {key: value.split() for key, _, value in (line.partition("=") for line in section.splitlines()) if value}
        for section in head.split("\n\n")
    ]
    damaged = mutated(random.Random(number), sections)
    lines = "\n\n".join(
        "\n".join(
            f"{key}={' '.join(map(str, words)) if isinstance(words, list) else words}" for key, words in each.items()
        )
        for each in damaged
        if isinstance(each, dict)
    )
    path = folder / f"{number}.txt"
    path.write_text(f"tree\n{lines}{end}{rest}")
    with suppress(ShapwatchError):
        file_model(path).predict(FEATURES)
        file_model(path).tree_shap(FEATURES)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["linear", "categories"])
def test_damaged_models_do_not_crash(tmp_path: Path, kind: str) -> None:
    """Of 500 damaged models, none ends the process or hangs."""
    complex_file(tmp_path, kind)
    assert deaths(partial(attempt, tmp_path), 500) == []


def test_files_without_tree_sizes_are_accepted(tmp_path: Path) -> None:
    """Files of early versions, without tree sizes, can be loaded."""
    path = lightgbm_file(tmp_path)
    expected = file_model(path).predict(FEATURES)
    path.write_text(without_sizes(path.read_text()))
    assert file_model(path).predict(FEATURES).tolist() == expected.tolist()
