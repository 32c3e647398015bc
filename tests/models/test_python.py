"""Functions as models: scores, exceptions, invalid names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from runner.errors import ModelAnswerError, SettingsError
from runner.models.python import Python
from tests.golden import Golden
from tests.models.contract import ModelContract
from tests.models.functions import chance
from tests.models.people import PEOPLE


def function_model(function: str) -> Python:
    """Return the model with a function."""
    return Python(kind="python", function=function, label_headers=None, deploy=None)


def contract_model(_: Path, number: int) -> Python:
    """Return a function of strings and numbers; another number makes another model."""
    return function_model(f"tests.models.functions:{('chance', 'half')[number - 1]}")


CONTRACT = ModelContract(contract_model, PEOPLE)


def test_scores_equal_the_function() -> None:
    """Functions may return N or N x L scores; a function that changes its input does not change the records."""
    expected = chance(PEOPLE.clone()).to_list()
    assert function_model("tests.models.functions:chance").predict(PEOPLE)[:, 0].tolist() == expected
    shares = function_model("tests.models.functions:shares").predict(PEOPLE)
    np.testing.assert_allclose(shares, np.outer(expected, [1, 2]), rtol=1e-6)
    assert shares.dtype == np.float64
    assert "plan" in PEOPLE.columns


@pytest.mark.parametrize("function", ["failing", "exiting", "panicking", "short", "strings", "ragged"])
def test_failing_functions_are_an_error(function: str, golden: Golden) -> None:
    """Exceptions of any class, and results without scores per row, are errors that name the function."""
    with golden.raises(ModelAnswerError) as caught:
        function_model(f"tests.models.functions:{function}").predict(PEOPLE)
    assert f"tests.models.functions:{function}" in caught.value.problem


@pytest.mark.parametrize(
    "function",
    ["absent_module:predict", "tests.models.functions:absent", "tests.models.functions:NO_FUNCTION"],
)
def test_absent_functions_are_an_error(function: str, golden: Golden) -> None:
    """The error for a missing module or function names the setting."""
    with golden.raises(SettingsError) as caught:
        function_model(function).predict(PEOPLE)
    (problem,) = caught.value.problems
    assert problem.startswith(f"model.function={function}: ")


@pytest.mark.parametrize("code", ["raise RuntimeError('no licence')", "raise SystemExit(0)"])
def test_failing_module_is_an_error(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error quotes the exception of the import, also of a module that exits."""
    (tmp_path / "broken_scoring.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with golden.raises(SettingsError):
        function_model("broken_scoring:predict").predict(PEOPLE)


def test_interruption_is_no_failure_of_the_function() -> None:
    """Ctrl-C during a prediction interrupts the run."""
    with pytest.raises(KeyboardInterrupt):
        function_model("tests.models.functions:interrupted").predict(PEOPLE)


def test_identity_depends_on_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The identity changes with the source file; a module without a source file is an error."""
    monkeypatch.syspath_prepend(tmp_path)
    for module, factor in (("scoring_a", 1), ("scoring_b", 2)):
        (tmp_path / f"{module}.py").write_text(f"def predict(features):\n    return features['use'] * {factor}\n")
    first, second = function_model("scoring_a:predict"), function_model("scoring_b:predict")
    assert first.identity == function_model("scoring_a:predict").identity != second.identity
    assert (second.predict(PEOPLE) == 2 * first.predict(PEOPLE)).all()
    with golden.raises(SettingsError):
        assert function_model("math:sqrt").identity


@pytest.mark.parametrize("function", ["scoring", "scoring:", ":predict", "scoring.py:predict()", "a/b:c", ""])
def test_invalid_names_are_rejected(function: str) -> None:
    """The name of a function has the form module:function."""
    with pytest.raises(ValidationError) as caught:
        function_model(function)
    (problem,) = caught.value.errors()
    assert (problem["type"], problem["loc"]) == ("value_error", ("function",))


def test_error_for_invalid_name_has_an_example(golden: Golden) -> None:
    """The error contains an example of a valid name."""
    with pytest.raises(ValidationError) as caught:
        function_model("scoring")
    (problem,) = caught.value.errors()
    golden(problem["msg"])
