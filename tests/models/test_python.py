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


@pytest.mark.parametrize("function", ["failing", "short", "worded", "ragged"])
def test_failing_functions_are_an_error(function: str, golden: Golden) -> None:
    """An exception of the function, or an answer without scores per row, is an error that names it."""
    with golden.raises(ModelAnswerError) as caught:
        named(f"tests.models.functions:{function}").predict(PEOPLE)
    assert f"tests.models.functions:{function}" in caught.value.problem


@pytest.mark.parametrize(
    "function",
    ["absent_module:predict", "tests.models.functions:absent", "tests.models.functions:NO_FUNCTION"],
)
def test_absent_functions_are_an_error(function: str, golden: Golden) -> None:
    """A name of no function is an error that names the setting."""
    with golden.raises(SettingsError) as caught:
        named(function).predict(PEOPLE)
    (problem,) = caught.value.problems
    assert problem.startswith(f"model.function={function}: ")


def test_modules_that_fail_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error repeats what a module raises while it is imported."""
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
def test_names_of_another_form_are_refused(function: str) -> None:
    """A function is named by its module and name."""
    with pytest.raises(ValidationError) as caught:
        named(function)
    (problem,) = caught.value.errors()
    assert (problem["type"], problem["loc"]) == ("value_error", ("function",))


def test_the_error_of_a_name_of_another_form(golden: Golden) -> None:
    """The error shows what a name looks like."""
    with pytest.raises(ValidationError) as caught:
        named("scoring")
    (problem,) = caught.value.errors()
    golden(problem["msg"])
