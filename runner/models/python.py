"""A user's Python function as a model; selecting it executes its module.

Array letters: N records, L labels (outputs).
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from runner.errors import SettingsError, snippet
from runner.models.base import PASSED_ON, Headers, LocalModel, computing, fingerprint, scores
from runner.types import NO_OTHER_KEYS


def _check_path(function: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", function):
        raise ValueError("expected module:function, such as scoring:predict")
    return function


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class Python(LocalModel):
    """A function that takes a polars DataFrame of N rows and returns N or N x L scores; its code is executed.

    Attributes:
        kind: `python`.
        function: `module:function`; the module is imported from the Python path (PYTHONPATH).
        label_headers: names of the outputs, None for `label0`, `label1`, …
    """

    kind: Literal["python"]
    function: Annotated[str, AfterValidator(_check_path)]
    label_headers: Headers | None

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the module's source file and the function's name; imported modules are not included.

        Raises:
            SettingsError: if the module cannot be imported or has no source file.
        """
        if (source := inspect.getsourcefile(self._module)) is None:
            raise self._settings_error("its module has no source file")
        return fingerprint(Path(source).read_bytes(), self.function)

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL from the function.

        Raises:
            SettingsError: if the function does not exist.
            ModelAnswerError: if it raises or exits, or does not return one or more numbers per row.
        """
        name = f"the function {self.function}"
        with computing(name):
            output = self._callable(features.clone())
        return scores(name, output, features.height, None)

    @cached_property
    def _callable(self) -> Callable[[pl.DataFrame], Any]:
        name = self.function.partition(":")[2]
        function: Callable[[pl.DataFrame], Any] | None = getattr(self._module, name, None)
        if function is None or not callable(function):
            raise self._settings_error(f"its module has no function {name!r}")
        return function

    @cached_property
    def _module(self) -> ModuleType:
        try:
            return importlib.import_module(self.function.partition(":")[0])
        except PASSED_ON:
            raise
        except BaseException as error:
            problem = f"its module cannot be imported ({type(error).__name__}: {snippet(error)})"
            raise self._settings_error(f"{problem}; check that its folder is in PYTHONPATH") from error

    def _settings_error(self, problem: str) -> SettingsError:
        return SettingsError([f"model.function={self.function}: {problem}"])
