"""LightGBM models: what the library itself predicts, names and orders of features, files it would not survive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest

from runner.errors import ArtifactError, ModelAnswerError, ModelInputError
from runner.models.lightgbm import Lightgbm
from tests.golden import Golden
from tests.models.trees import FEATURES, LABELS_N, NAMES, VALUES_ND, lightgbm_file

CLASSES_N = np.arange(len(VALUES_ND)) % 3


def read(path: Path, columns: tuple[int, ...] | None = None) -> Lightgbm:
    """Return the model of a file."""
    return Lightgbm(kind="lightgbm", artifact=path, columns=columns, label_headers=None, deploy=None)


def trained(labels_N: Any, names: list[str], **parameters: Any) -> lightgbm.Booster:
    """Return a booster of three rounds."""
    usual = {"num_threads": 1, "verbosity": -1, "num_leaves": 4}
    return lightgbm.train({**usual, **parameters}, lightgbm.Dataset(VALUES_ND, labels_N, feature_name=names), 3)


def stored(folder: Path, model: lightgbm.Booster) -> Lightgbm:
    """Return the model of a booster."""
    model.save_model(folder / "model.txt")
    return read(folder / "model.txt")


def test_scores_are_the_librarys(tmp_path: Path) -> None:
    """A stored booster scores as the one that was trained, missing values included."""
    model = trained(LABELS_N, list(NAMES), objective="binary")
    expected: Any = model.predict(VALUES_ND)
    assert len(np.unique(expected)) > 5
    assert stored(tmp_path, model).predict(FEATURES)[:, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("names", [list(NAMES), ["Age", "Hours per week", "Capital Gain", "Years"]])
def test_features_are_found_by_name(tmp_path: Path, names: list[str]) -> None:
    """The names in the file decide the order, also where LightGBM has replaced their spaces."""
    booster = trained(LABELS_N, names, objective="binary")
    features = pl.DataFrame(VALUES_ND, schema=names).fill_nan(None).select(reversed(names))
    assert stored(tmp_path, booster).predict(features)[:, 0].tolist() == np.asarray(booster.predict(VALUES_ND)).tolist()


def test_other_names_keep_the_order(tmp_path: Path, golden: Golden) -> None:
    """Where the records have none of the file's names, their order counts; where they have some, that is refused."""
    model = read(lightgbm_file(tmp_path))
    renamed = FEATURES.rename({name: f"column_{d}" for d, name in enumerate(NAMES)})
    assert model.predict(renamed).tolist() == model.predict(FEATURES).tolist()
    with golden.raises(ArtifactError):
        model.predict(FEATURES.rename({"gain": "other"}))


def test_feature_names_equal_in_lightgbm_are_refused(tmp_path: Path, golden: Golden) -> None:
    """Two features whose names differ only in a space are refused."""
    features = FEATURES.rename({NAMES[0]: "the age", NAMES[1]: "the_age"})
    with golden.raises(ArtifactError):
        read(lightgbm_file(tmp_path)).predict(features)


def test_several_outputs(tmp_path: Path, golden: Golden) -> None:
    """A classifier of three classes has three outputs; `columns` selects and orders them."""
    multiclass = trained(CLASSES_N, list(NAMES), objective="multiclass", num_class=3)
    expected: Any = multiclass.predict(VALUES_ND)
    model = stored(tmp_path, multiclass)
    assert model.predict(FEATURES).tolist() == expected.tolist()
    assert model.predict(FEATURES.clear()).shape == (0, 3)
    chosen = read(model.artifact, columns=(2, 0))
    assert chosen.predict(FEATURES).tolist() == expected[:, [2, 0]].tolist()
    assert chosen.identity != model.identity
    with golden.raises(ModelAnswerError):
        read(model.artifact, columns=(0, 3)).predict(FEATURES)


def test_categories_of_data_frames_are_refused(tmp_path: Path, golden: Golden) -> None:
    """A model that was trained on the categories of a data frame would take their values for their codes."""
    path = lightgbm_file(tmp_path)
    path.write_text(path.read_text().replace("pandas_categorical:null", "pandas_categorical:[[10, 20, 30]]"))
    with golden.raises(ArtifactError):
        read(path).predict(FEATURES)


def test_strings_are_refused(tmp_path: Path, golden: Golden) -> None:
    """The error of a string names its feature."""
    with golden.raises(ModelInputError):
        read(lightgbm_file(tmp_path)).predict(FEATURES.with_columns(gain=pl.lit("x")))


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
def test_damage_that_ends_the_process_is_found(tmp_path: Path, old: str, new: str, golden: Golden) -> None:
    """A file that LightGBM would abort on is refused before."""
    path = lightgbm_file(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with golden.raises(ArtifactError):
        read(path).predict(FEATURES)


def test_files_without_sizes_are_read(tmp_path: Path) -> None:
    """The sizes of the trees are not needed, as in files of early versions."""
    path = lightgbm_file(tmp_path)
    expected = read(path).predict(FEATURES)
    lines = [line for line in path.read_text().splitlines(keepends=True) if not line.startswith("tree_sizes=")]
    path.write_text("".join(lines))
    assert read(path).predict(FEATURES).tolist() == expected.tolist()
