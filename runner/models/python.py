"""A model that is a Python function of one's own; naming it here executes its module.

Array letters: N records, L labels (outputs).
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict
from pydantic.dataclasses import dataclass

from runner.errors import SettingsError, snippet
from runner.models.base import Headers, computing, fingerprint, scores
from runner.models.local import Local


def _checked(function: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", function):
        raise ValueError("expected module:function, such as scoring:predict")
    return function


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Python(Local):
    """A function from a polars DataFrame of N rows to N scores, or N x L of them. It is code, and it is executed.

    Attributes:
        kind: `python`.
        function: `module:function`; the module is imported from where Python looks for modules (PYTHONPATH).
        label_headers: the names of the outputs, or None for `label0`, `label1`, …
        deploy: None to explain it in this process, `shadow` through a throw-away endpoint.
    """

    kind: Literal["python"]
    function: Annotated[str, AfterValidator(_checked)]
    label_headers: Headers | None
    deploy: Literal["shadow"] | None = field()

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the module's source file and the function's name; what the module imports is not in it.

        Raises:
            SettingsError: when the module cannot be imported or has no source file.
        """
        if (source := inspect.getsourcefile(self._module)) is None:
            raise self._refusal("its module has no source file")
        return fingerprint(Path(source).read_bytes(), self.function)

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL, what the function returns.

        Raises:
            SettingsError: when there is no such function.
            ModelAnswerError: when it raises, or returns anything but a number, or several, for each row.
        """
        what = f"the function {self.function}"
        with computing(what):
            answer = self._called(features.clone())
        return scores(what, answer, features.height, None)

    @cached_property
    def _called(self) -> Callable[[pl.DataFrame], Any]:
        name = self.function.partition(":")[2]
        function: Callable[[pl.DataFrame], Any] | None = getattr(self._module, name, None)
        if function is None or not callable(function):
            raise self._refusal(f"its module has no function {name!r}")
        return function

    @cached_property
    def _module(self) -> ModuleType:
        try:
            return importlib.import_module(self.function.partition(":")[0])
        except Exception as error:
            problem = f"its module cannot be imported ({type(error).__name__}: {snippet(error)})"
            raise self._refusal(f"{problem}; is its folder in PYTHONPATH?") from error

    def _refusal(self, problem: str) -> SettingsError:
        return SettingsError([f"model.function={self.function}: {problem}"])
