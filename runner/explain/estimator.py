"""The estimator: everything that decides how a table of features becomes attributions, in one value.

Array letters: N records, D features, L labels, B background rows, P players.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain import Attributions, Estimate, GlobalAttributions, label_names
from runner.explain import background as backgrounds
from runner.explain.aggregate import Aggregation, aggregate
from runner.explain.blocks import Block, Cut, Distinct, Group, distinct, groups
from runner.explain.game import MaskingGame, outputs, probability
from runner.explain.uncertainty import errors
from runner.protocols import Engine, Explainer, Model, Track


@dataclass(frozen=True)
class Estimator:
    """How attributions are computed; reference and live analysis are comparable when theirs are equal.

    Attributes:
        explainer: exact enumeration or kernel SHAP.
        agg_method: how local values become global ones.
        use_logit: whether the model's probabilities are explained as log-odds.
        max_batch_rows: the most synthetic rows held and sent to the model at once; does not change any result.
        engine: does the work, block by block; does not change any result.
    """

    explainer: Explainer
    agg_method: Aggregation
    use_logit: bool
    max_batch_rows: int
    engine: Engine

    def explain(self, model: Model, features: pl.DataFrame, background: pl.DataFrame, track: Track) -> Attributions:
        """Return the local attributions of all records; a record that occurs again is explained once.

        A game whose values are averages over background rows has the average of the attributions against each of them.

        Raises:
            BackgroundError: when the background's columns do not fit the features'.
            ExplainerError: when the explainer cannot work with this many features.
        """
        background, features = backgrounds.align(background, features)
        records = distinct(features)
        playing = groups(records, background, self.explainer.keeps_unvarying)
        cut = Cut(
            records=records,
            background=background,
            groups=playing,
            sizes=[max(1, self.max_batch_rows // max(1, self.explainer.coalitions(some.players))) for some in playing],
            scores_NL=outputs(model, records.features, self.use_logit, self.max_batch_rows),
            replaced_BL=outputs(model, background, self.use_logit, self.max_batch_rows),
        )
        phi_NDL = np.zeros((*records.features.shape, cut.replaced_BL.shape[1]))
        variance_NDL = np.zeros_like(phi_NDL)
        work = partial(_estimate, self.explainer, self.use_logit, self.max_batch_rows)
        estimates = track(self.engine.map(work, model, cut), "explaining", len(cut))
        for places, estimate in zip(cut.places(), estimates, strict=True):
            phi_NDL[places] += estimate.phi_NPL / background.height
            if estimate.variance_NPL is not None:
                variance_NDL[places] += estimate.variance_NPL / background.height**2
        error_NDL, counts_N = np.sqrt(variance_NDL), np.bincount(records.back_N).astype(np.float64)
        return Attributions(
            names=tuple(features.columns),
            labels=label_names(model.label_headers, phi_NDL.shape[2]),
            phi_NDL=phi_NDL[records.back_N],
            expected_L=cut.replaced_BL.mean(axis=0),
            scores_NL=cut.scores_NL[records.back_N],
            evaluations=self._evaluations(records, background, playing),
            error_NDL=error_NDL[records.back_N],
            errors=errors(phi_NDL, error_NDL, counts_N, self.agg_method),
        )

    def join(self, one: Attributions | None, more: Attributions) -> Attributions:
        """Return the attributions of some records and of others, in this order."""
        if one is None:
            return more
        phi_NDL = np.concatenate([one.phi_NDL, more.phi_NDL])
        error_NDL = None
        if one.error_NDL is not None and more.error_NDL is not None:
            error_NDL = np.concatenate([one.error_NDL, more.error_NDL])
        return replace(
            more,
            phi_NDL=phi_NDL,
            scores_NL=np.concatenate([one.scores_NL, more.scores_NL]),
            evaluations=one.evaluations + more.evaluations,
            error_NDL=error_NDL,
            errors=None if error_NDL is None else errors(phi_NDL, error_NDL, np.ones(len(phi_NDL)), self.agg_method),
        )

    def evaluations(self, features: pl.DataFrame, background: pl.DataFrame) -> int:
        """Return how many rows `explain` would send to the model.

        Raises:
            BackgroundError: when the background's columns do not fit the features'.
            ExplainerError: when the explainer cannot work with this many features.
        """
        background, features = backgrounds.align(background, features)
        records = distinct(features)
        return self._evaluations(records, background, groups(records, background, self.explainer.keeps_unvarying))

    def aggregate(self, attributions: Attributions) -> GlobalAttributions:
        """Return the global attributions by `agg_method`."""
        return aggregate(attributions, self.agg_method)

    def model_scores(self, attributions: Attributions) -> NDArray[np.float64]:
        """Return the scores_NL of the explained records in the model's own unit."""
        return probability(attributions.scores_NL) if self.use_logit else attributions.scores_NL

    @property
    def settings(self) -> dict[str, Any]:
        """What has to be equal for two analyses to be compared, as plain data for manifests."""
        return {**self.explainer.settings, "agg_method": str(self.agg_method), "use_logit": self.use_logit}

    def _evaluations(self, records: Distinct, background: pl.DataFrame, playing: list[Group]) -> int:
        asked = sum(len(group.rows_N) * self.explainer.coalitions(group.players) for group in playing)
        return records.features.height + background.height + asked


def _estimate(explainer: Explainer, use_logit: bool, max_batch_rows: int, model: Model, block: Block) -> Estimate:
    """Return what the explainer says about a block, wherever that is done."""
    game = MaskingGame(
        model=model,
        features=block.features,
        replacement=block.replacement,
        players_NP=block.players_NP,
        scores_NL=block.scores_NL,
        expected_L=block.expected_L,
        use_logit=use_logit,
        max_batch_rows=max_batch_rows,
    )
    return explainer.estimate(game)
