"""The estimator: from a table of features to attributions.

Array letters: N records, L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
from annotated_types import Ge, Le
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, GlobalAttributions
from runner.domain.numbers import Count, Integer, Seed
from runner.explain import background as backgrounds
from runner.explain.explainers import EXPLAINERS, Explainer, ExplainerName
from runner.explain.explainers.kernel import Clarify, Kernel
from runner.explain.explainers.linear import LinearExplainer
from runner.explain.game import build_players, sigmoid
from runner.explain.task import ExplanationOptions, Task, aggregate, standard_errors
from runner.protocols import Model, Track, Workers, as_additive


@dataclass(frozen=True, kw_only=True)
class Estimator(ExplanationOptions):
    """An explainer with its options; the attributions of two estimators with equal settings are comparable.

    Attributes:
        explainer: method that computes local attributions.
        engine: workers that explain blocks of records; they do not change results.
    """

    explainer: Explainer
    engine: Workers

    def explain(self, model: Model, features: pl.DataFrame, background: pl.DataFrame, track: Track) -> Attributions:
        """Return the local attributions of all records.

        Raises:
            BackgroundError: if the columns of the background do not fit the features.
            ExplainerError: if the explainer does not support the model or the number of features.
        """
        return self.explainer.explain(Task(model, features, background, self), self.engine, track)

    def evaluations(self, model: Model, features: pl.DataFrame, background: pl.DataFrame) -> int:
        """Return the number of rows that `explain` would send to the model, without a call.

        Raises:
            BackgroundError: if the columns of the background do not fit the features.
            ExplainerError: if the explainer does not support this number of features.
        """
        return self.explainer.evaluations(Task(model, features, background, self))

    def join(self, before: Attributions | None, more: Attributions) -> Attributions:
        """Return the attributions of both sets of records, in this order."""
        if before is None:
            return more
        phi_NDL = np.concatenate([before.phi_NDL, more.phi_NDL])
        error_NDL = None
        if before.error_NDL is not None and more.error_NDL is not None:
            error_NDL = np.concatenate([before.error_NDL, more.error_NDL])
        errors = None
        if error_NDL is not None:
            errors = standard_errors(phi_NDL, error_NDL, np.ones(len(phi_NDL)), self.agg_method)
        return replace(
            more,
            phi_NDL=phi_NDL,
            scores_NL=np.concatenate([before.scores_NL, more.scores_NL]),
            evaluations=before.evaluations + more.evaluations,
            error_NDL=error_NDL,
            errors=errors,
        )

    def arrange(
        self, attributions: Attributions, rows_N: NDArray[np.intp], weight_N: NDArray[np.float64]
    ) -> Attributions:
        """Return the attributions of records in another order, with standard errors of weighted means."""
        phi_NDL, error_NDL = attributions.phi_NDL[rows_N], attributions.error_NDL
        errors = None
        if error_NDL is not None:
            error_NDL = error_NDL[rows_N]
            errors = standard_errors(phi_NDL, error_NDL, weight_N, self.agg_method)
        scores_NL = attributions.scores_NL[rows_N]
        return replace(attributions, phi_NDL=phi_NDL, scores_NL=scores_NL, error_NDL=error_NDL, errors=errors)

    def aggregate(self, attributions: Attributions, weight_N: NDArray[np.float64] | None = None) -> GlobalAttributions:
        """Return the global attributions; records may have weights."""
        return aggregate(attributions, self.agg_method, weight_N)

    def model_scores(self, attributions: Attributions) -> NDArray[np.float64]:
        """Return the scores_NL of the explained records in the model's own unit."""
        return sigmoid(attributions.scores_NL) if self.use_logit else attributions.scores_NL

    @property
    def settings(self) -> dict[str, object]:
        """Settings that must be equal for two analyses to be comparable, as plain data for manifests."""
        settings = {**self.explainer.settings, "agg_method": str(self.agg_method), "use_logit": self.use_logit}
        groups = {name: list(members) for name, members in self.groups.items()}
        return settings | ({"groups": groups} if groups else {})

    def names(self, features: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the players that these features form: features, or groups of features.

        Raises:
            ExplainerError: if the groups do not fit the features.
        """
        return build_players(features, self.groups).names


@dataclass(frozen=True, kw_only=True)
class EstimatorSettings(ExplanationOptions):
    """`shap`: the settings of the estimator and of clusters.

    Attributes:
        explainer: name of the explainer; `auto` is linear for additive models, else kernel.
        compat: `clarify` for the regression and the sampling scheme of SageMaker Clarify, with equally large errors;
            None for shapwatch's own method.
        num_clusters: number of clusters whose representatives are the background; None without clusters.
        num_samples: coalitions per record and background row; None for a default by number of features.
        seed: seed of the coalitions and of the clusters.
    """

    explainer: ExplainerName
    compat: Literal["clarify"] | None
    num_clusters: Annotated[Integer, Ge(1), Le(1000)] | Literal["auto"] | None
    num_samples: Count | None
    seed: Seed

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def estimator(self, model: Model, engine: Workers) -> Estimator:
        """Return the estimator for a model."""
        options = {field.name: getattr(self, field.name) for field in fields(ExplanationOptions)}
        return Estimator(**options, explainer=self._explainer(model), engine=engine)

    def _explainer(self, model: Model) -> Explainer:
        default = LinearExplainer if as_additive(model) else Kernel
        kind = EXPLAINERS.get(self.explainer, default)
        if kind is Kernel and self.compat == "clarify":
            kind = Clarify
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})


@dataclass(frozen=True)
class ModelExplainer:
    """A model, an estimator of its attributions, and the background.

    Attributes:
        background_rows: function that returns the rows of `shap.baseline`; it returns None if a dataset is
            summarized.
        summary: function that summarizes a dataset as background rows.
        track: progress display.
    """

    model: Model
    estimator: Estimator
    background_rows: Callable[[], Sequence[Sequence[Any]] | None]
    summary: Callable[[pl.DataFrame], pl.DataFrame]
    track: Track

    def background(self, features: pl.DataFrame, reference: Callable[[], pl.DataFrame] | None = None) -> pl.DataFrame:
        """Return the background rows.

        Args:
            features: records to explain.
            reference: function that returns the background of the reference; None to summarize the records instead.
        """
        given = self.background_rows()
        if given is not None:
            return backgrounds.given(given, features.columns)
        return self.summary(features) if reference is None else reference()

    def explain(self, features: pl.DataFrame, background: pl.DataFrame) -> Attributions:
        """Return the attributions of records."""
        return self.estimator.explain(self.model, features, background, self.track)
