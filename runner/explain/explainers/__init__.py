"""The explainers: one file and one YAML option each, registered here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field
from typing import Any, ClassVar, Literal, Protocol

from runner.domain.attributions import Attributions
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Kernel
from runner.explain.explainers.linear import LinearExplainer
from runner.explain.explainers.tree import TreeExplainer
from runner.explain.task import Task
from runner.protocols import Track, Workers


class Explainer(Protocol):
    """A method that computes or estimates SHAP values.

    Its dataclass fields have the names of `shap` settings, and get their values.

    Attributes:
        is_exact: whether it computes exact Shapley values of the masking game.
    """

    is_exact: ClassVar[bool]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def settings(self) -> dict[str, object]:
        """Name of the explainer, and the settings that its results depend on."""
        ...

    def explain(self, task: Task, engine: Workers, track: Track) -> Attributions:
        """Return the local attributions of all records.

        Raises:
            BackgroundError: if the columns of the background do not fit the features.
            ExplainerError: if the explainer does not support the model or the number of features.
        """
        ...

    def evaluations(self, task: Task) -> int:
        """Return the number of rows that `explain` would send to the model, without a call.

        Raises:
            BackgroundError: if the columns of the background do not fit the features.
            ExplainerError: if the explainer does not support this number of features.
        """
        ...


ExplainerName = Literal["auto", "kernel", "exact", "linear", "tree"]
EXPLAINERS: Mapping[str, type[Explainer]] = {
    "kernel": Kernel,
    "exact": Exact,
    "linear": LinearExplainer,
    "tree": TreeExplainer,
}
"""Explainers by the value of `shap.explainer`, except `auto`; `shap.compat=clarify` replaces Kernel by Clarify."""
