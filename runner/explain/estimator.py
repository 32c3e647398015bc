"""The estimator: everything that decides how a table of features becomes attributions, in one value.

Array letters: N records, D features, L labels, B background rows, P players.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, Estimate, GlobalAttributions, label_names
from runner.explain import background as backgrounds
from runner.explain.aggregate import Aggregation, aggregate
from runner.explain.blocks import Block, Cut, Distinct, Group, distinct, groups
from runner.explain.explainers.tree import Trees
from runner.explain.game import MaskingGame, outputs, probability
from runner.explain.masking import Table, tables
from runner.explain.players import Players, seated
from runner.explain.uncertainty import errors
from runner.protocols import Engine, Explainer, Model, Track, as_additive


@dataclass(frozen=True)
class Estimator:
    """How attributions are computed; reference and live analysis are comparable when theirs are equal.

    Attributes:
        explainer: what plays games with the model, or asks trees for their own contributions.
        agg_method: how local values become global ones.
        use_logit: whether the model's probabilities are explained as log-odds.
        max_batch_rows: the most synthetic rows held and sent to the model at once; does not change any result.
        engine: does the work, block by block; does not change any result.
        groups: features that play together, by the name they have then.
    """

    explainer: Explainer | Trees
    agg_method: Aggregation
    use_logit: bool
    max_batch_rows: int
    engine: Engine
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def explain(self, model: Model, features: pl.DataFrame, background: pl.DataFrame, track: Track) -> Attributions:
        """Return the local attributions of all records; a record that occurs again is explained once.

        A game whose values are averages over background rows has the average of the attributions against each of them.

        Raises:
            BackgroundError: when the background's columns do not fit the features'.
            ExplainerError: when the explainer cannot work with this many features.
        """
        if isinstance(self.explainer, Trees):
            return self._contributed(self.explainer, model, features)
        explainer, players = self.explainer, seated(features.columns, self.groups)
        background, features = backgrounds.align(background, features)
        records, rows, playing = _prepared(explainer, model, features, background, players)
        cut = Cut(
            records=records,
            background=rows,
            groups=playing,
            max_batch_rows=self.max_batch_rows,
            scores_NL=outputs(model, records.table.frame(), self.use_logit, self.max_batch_rows),
            replaced_BL=outputs(model, background, self.use_logit, self.max_batch_rows),
        )
        labels = cut.replaced_BL.shape[1]
        phi_NDL = np.zeros((len(records.table), len(players.names), labels))
        variance_NDL = np.zeros_like(phi_NDL)
        work = partial(_estimate, explainer, players, self.use_logit, self.max_batch_rows)
        estimates = track(self.engine.map(work, model, cut), "explaining", len(cut))
        for places_NPL, estimate in zip(cut.places(len(players.names)), estimates, strict=True):
            phi_NDL.reshape(-1)[places_NPL] += estimate.phi_NPL / len(rows)
            if estimate.variance_NPL is not None:
                variance_NDL.reshape(-1)[places_NPL] += estimate.variance_NPL / len(rows) ** 2
        error_NDL, counts_N = np.sqrt(variance_NDL), np.bincount(records.back_N).astype(np.float64)
        return Attributions(
            names=players.names,
            labels=label_names(model.label_headers, labels),
            phi_NDL=phi_NDL[records.back_N],
            expected_L=cut.replaced_BL.mean(axis=0),
            scores_NL=cut.scores_NL[records.back_N],
            evaluations=_evaluations(records, rows, playing),
            error_NDL=error_NDL[records.back_N],
            errors=errors(phi_NDL, error_NDL, counts_N, self.agg_method),
        )

    def _contributed(self, trees: Trees, model: Model, features: pl.DataFrame) -> Attributions:
        """Return the contributions of a model's own trees; the background plays no part."""
        told, players = trees.contributions(model, features, self.use_logit), seated(features.columns, self.groups)
        phi_NDL = players.total(told.terms_NDL)
        nothing_NDL, ones_N = np.zeros_like(phi_NDL), np.ones(features.height)
        return Attributions(
            names=players.names,
            labels=label_names(model.label_headers, len(told.base_L)),
            phi_NDL=phi_NDL,
            expected_L=told.base_L,
            scores_NL=told.base_L + phi_NDL.sum(axis=1),
            evaluations=2 * features.height,
            error_NDL=nothing_NDL,
            errors=errors(phi_NDL, nothing_NDL, ones_N, self.agg_method),
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

    def evaluations(self, model: Model, features: pl.DataFrame, background: pl.DataFrame) -> int:
        """Return how many rows `explain` would send to the model, which is asked nothing.

        Raises:
            BackgroundError: when the background's columns do not fit the features'.
            ExplainerError: when the explainer cannot work with this many features.
        """
        if isinstance(self.explainer, Trees):
            return 2 * features.height
        players = seated(features.columns, self.groups)
        background, features = backgrounds.align(background, features)
        return _evaluations(*_prepared(self.explainer, model, features, background, players))

    def aggregate(self, attributions: Attributions) -> GlobalAttributions:
        """Return the global attributions by `agg_method`."""
        return aggregate(attributions, self.agg_method)

    def model_scores(self, attributions: Attributions) -> NDArray[np.float64]:
        """Return the scores_NL of the explained records in the model's own unit."""
        return probability(attributions.scores_NL) if self.use_logit else attributions.scores_NL

    @property
    def settings(self) -> dict[str, Any]:
        """What has to be equal for two analyses to be compared, as plain data for manifests."""
        settings = {**self.explainer.settings, "agg_method": str(self.agg_method), "use_logit": self.use_logit}
        return settings | ({"groups": {name: list(of) for name, of in self.groups.items()}} if self.groups else {})

    def names(self, features: Sequence[str]) -> tuple[str, ...]:
        """Return the names under which these features have attributions.

        Raises:
            ExplainerError: when the groups do not fit them.
        """
        return seated(features, self.groups).names


def _prepared(
    explainer: Explainer, model: Model, features: pl.DataFrame, background: pl.DataFrame, players: Players
) -> tuple[Distinct, Table, list[Group]]:
    """Return the different records, the background rows, and who plays against which of them.

    A model that adds up answers sooner than it could be told which of its rows are the same.
    """
    table, rows = tables(features, background)
    records = distinct(table, features)
    return records, rows, groups(records, rows, players, explainer, is_cheap=as_additive(model) is not None)


def _evaluations(records: Distinct, background: Table, playing: list[Group]) -> int:
    return len(records.table) + len(background) + sum(len(group.rows_N) * group.coalitions for group in playing)


def _estimate(
    explainer: Explainer, players: Players, use_logit: bool, max_batch_rows: int, model: Model, block: Block
) -> Estimate:
    """Return what the explainer says about a block, wherever that is done."""
    game = MaskingGame(
        model=model,
        records=block.records,
        replacement=block.replacement,
        teams=players,
        varying=block.varying,
        players_NP=block.players_NP,
        scores_NL=block.scores_NL,
        expected_L=block.expected_L,
        use_logit=use_logit,
        max_batch_rows=max_batch_rows,
    )
    return explainer.estimate(game)
