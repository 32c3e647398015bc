"""Functions as models: what they return, what they raise, names that lead nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from runner.errors import ModelAnswerError, SettingsError
from runner.models.python import Python
from tests.golden import Golden
from tests.models.functions import chance
from tests.models.pipelines import PEOPLE


def named(function: str) -> Python:
    """Return the model of a function."""
    return Python(kind="python", function=function, label_headers=None, deploy=None)


def test_scores_are_the_functions() -> None:
    """A function of N scores, and one of N x L, give what they return; neither can spoil the records."""
    expected = chance(PEOPLE.clone()).to_list()
    assert named("tests.models.functions:chance").predict(PEOPLE)[:, 0].tolist() == expected
    shares = named("tests.models.functions:shares").predict(PEOPLE)
    np.testing.assert_allclose(shares, np.outer(expected, [1, 2]), rtol=1e-6)
    assert shares.dtype == np.float64
    assert "plan" in PEOPLE.columns


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("failing", "the function tests.models.functions:failing fails with KeyError: 'tenure'; compare the features"),
        ("short", "answers 160 rows with scores of the shape (159, 1), expected one or more for each"),
        ("worded", "answers with high, where numbers are needed"),
        ("ragged", "answers with rows of different lengths"),
    ],
)
def test_failures_are_told(function: str, said: str) -> None:
    """What a function raises, and what is no score for each row, is told with its name."""
    with pytest.raises(ModelAnswerError) as caught:
        named(f"tests.models.functions:{function}").predict(PEOPLE)
    assert said in str(caught.value)
    assert f"tests.models.functions:{function}" in str(caught.value)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            "absent_module:predict",
            "its module cannot be imported (ModuleNotFoundError: No module named 'absent_module')",
        ),
        ("tests.models.functions:absent", "its module has no function 'absent'"),
        ("tests.models.functions:NO_FUNCTION", "its module has no function 'NO_FUNCTION'"),
    ],
)
def test_functions_that_are_not_there_are_told(function: str, said: str) -> None:
    """A name that leads nowhere is told with the setting."""
    with pytest.raises(SettingsError) as caught:
        named(function).predict(PEOPLE)
    assert f"model.function={function}: {said}" in str(caught.value)


def test_modules_that_fail_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """What a module raises while it is imported is told."""
    (tmp_path / "broken_scoring.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with golden.raises(SettingsError):
        named("broken_scoring:predict").predict(PEOPLE)


def test_identity_is_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Equal sources have equal identities, others have others, and a module without source has none."""
    monkeypatch.syspath_prepend(tmp_path)
    for module, factor in (("scoring_a", 1), ("scoring_b", 2)):
        (tmp_path / f"{module}.py").write_text(f"def predict(features):\n    return features['use'] * {factor}\n")
    first, second = named("scoring_a:predict"), named("scoring_b:predict")
    assert first.identity == named("scoring_a:predict").identity != second.identity
    assert (second.predict(PEOPLE) == 2 * first.predict(PEOPLE)).all()
    with golden.raises(SettingsError):
        assert named("math:sqrt").identity


@pytest.mark.parametrize("function", ["scoring", "scoring:", ":predict", "scoring.py:predict()", "a/b:c", ""])
def test_names_of_another_form_are_refused(function: str, golden: Golden) -> None:
    """A function is named by its module and name."""
    with golden.raises(ValidationError):
        named(function)
