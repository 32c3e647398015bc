"""Trees' own contributions, of models that compute them: exact, but of another quantity than all other explainers.

A feature that is out of a coalition is not replaced by the background: the trees average over the records they were
trained on, as many as went each way. So `shap.baseline` plays no part, and the base is the mean of the training data.

Array letters: N records, D features, L labels.

Source: Lundberg et al. (2020), path-dependent TreeSHAP, as xgboost and lightgbm implement it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from runner.domain.attributions import Additive
from runner.errors import ExplainerError
from runner.explain.game import answered, probability
from runner.protocols import Model, TreeModel

NO_TREES = "shap.explainer=tree needs model=xgboost or lightgbm in this process; use shap.explainer=kernel"
QUANTITY = "margin, averaged over the trees' training data"
ROUNDING = 1e-4
"""How far what contributions of single precision add up to may be from a score, as a share of it."""


@dataclass(frozen=True)
class Trees:
    """Asks the model for its contributions instead of playing games."""

    @property
    def settings(self) -> dict[str, Any]:
        """The explainer's name, and what it explains."""
        return {"explainer": "tree", "quantity": QUANTITY}

    def contributions(self, model: Model, features: pl.DataFrame, use_logit: bool) -> Additive:
        """Return what each feature adds to the margin of each record.

        Raises:
            ExplainerError: when the model has no trees, or they do not add up to what it answers, or the margin is in
                another unit than is asked for.
        """
        if not isinstance(model, TreeModel):
            raise ExplainerError(NO_TREES)
        told = model.tree_shap(features)
        if use_logit != (told.link == "logistic"):
            asked, unit = ("false", "the outputs themselves") if use_logit else ("true", "log-odds")
            raise ExplainerError(f"shap.explainer=tree explains {unit} of this model: set shap.use_logit={asked}")
        scores_NL = answered(model, features)
        sums_NL = probability(told.sums_NL) if use_logit else told.sums_NL
        gap_NL = abs(sums_NL - scores_NL)
        if (gap_NL > ROUNDING * (1 + abs(scores_NL))).any():
            off = f"the trees add up to scores {gap_NL.max():.1e} away from those the model answers"
            raise ExplainerError(f"shap.explainer=tree: {off}; use shap.explainer=kernel")
        return told
