"""TreeSHAP values, computed by xgboost or lightgbm. Their game differs from that of other explainers.

A masked feature does not get the value of the background. Instead, a tree follows both branches of a split on it,
weighted by the number of training records in each. So `shap.baseline` has no effect, and the expected value is the mean
over the training data.

Array letters: N records, D features, G players (features or groups), L labels.

Source: Lundberg et al. (2020), path-dependent TreeSHAP, as implemented in xgboost and lightgbm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from runner.domain.attributions import Attributions
from runner.errors import ExplainerError
from runner.explain.game import predict, sigmoid
from runner.explain.task import Task
from runner.protocols import Track, TreeModel, Workers

NO_TREES = "shap.explainer=tree needs model=xgboost or lightgbm in this process; use shap.explainer=kernel"
QUANTITY = "margin, averaged over the trees' training data"
ROUNDING = 1e-4
"""Largest difference between a score and the sum of its TreeSHAP values in float32, relative to 1 + |score|."""


@dataclass(frozen=True)
class TreeExplainer:
    """Explainer that takes the TreeSHAP values from the model."""

    is_exact: ClassVar[bool] = False

    @property
    def settings(self) -> dict[str, object]:
        """Name of the explainer, and the quantity that it explains."""
        return {"explainer": "tree", "quantity": QUANTITY}

    def evaluations(self, task: Task) -> int:
        """Return 2·N: each record is sent once for its score and once for its TreeSHAP values."""
        return 2 * task.features.height

    def explain(self, task: Task, engine: Workers, track: Track) -> Attributions:  # noqa: ARG002  one call
        """Return the TreeSHAP values of each record's margin.

        Raises:
            ExplainerError: if the model has no trees, its TreeSHAP values do not add up to its scores, or
                `shap.use_logit` does not match the unit of the margin.
        """
        model, use_logit = task.model, task.options.use_logit
        if not isinstance(model, TreeModel):
            raise ExplainerError(NO_TREES)
        terms = model.tree_shap(task.features)
        if use_logit != (terms.link == "logistic"):
            needed, unit = ("false", "the outputs themselves") if use_logit else ("true", "log-odds")
            raise ExplainerError(f"shap.explainer=tree explains {unit} of this model: set shap.use_logit={needed}")
        scores_NL = predict(model, task.features)
        sums_NL = sigmoid(terms.sums_NL) if use_logit else terms.sums_NL
        gap_NL = abs(sums_NL - scores_NL)
        if (gap_NL > ROUNDING * (1 + abs(scores_NL))).any():
            problem = f"the TreeSHAP values differ from the model's scores by up to {gap_NL.max():.1e}"
            raise ExplainerError(f"shap.explainer=tree: {problem}; use shap.explainer=kernel")
        phi_NGL = task.players.sum(terms.terms_NDL)
        return task.attributions(
            phi_UDL=phi_NGL,
            error_UDL=np.zeros_like(phi_NGL),
            scores_UL=terms.base_L + phi_NGL.sum(axis=1),
            expected_L=terms.base_L,
            index_N=np.arange(task.features.height),
            evaluations=self.evaluations(task),
        )
