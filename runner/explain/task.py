"""A table to explain, and the options that define its attributions.

Array letters: N records, D features, L labels, U unique records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
import polars as pl
from annotated_types import MaxLen, MinLen
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, label_names
from runner.domain.numbers import Count
from runner.explain.aggregate import Aggregation, standard_errors
from runner.explain.game import Players, build_players
from runner.protocols import Model

FeatureName = Annotated[str, MinLen(1), MaxLen(500)]


@dataclass(frozen=True, kw_only=True)
class ExplanationOptions:
    """Options of all explainers.

    Attributes:
        agg_method: aggregation of local to global values.
        use_logit: whether log-odds are explained instead of the model's probabilities.
        max_batch_rows: largest number of masked rows in memory and in one model call; does not change results.
        groups: features that are one player, by the name of the player.
    """

    agg_method: Aggregation
    use_logit: bool
    max_batch_rows: Count
    groups: Mapping[FeatureName, Annotated[tuple[FeatureName, ...], MinLen(1)]]


@dataclass(frozen=True)
class Task:
    """A table of N records to explain.

    Attributes:
        model: model to explain.
        features: records.
        background: rows whose values replace those of masked features.
        options: options of the explainer.
    """

    model: Model
    features: pl.DataFrame
    background: pl.DataFrame
    options: ExplanationOptions

    @cached_property
    def players(self) -> Players:
        """Players of the table.

        Raises:
            ExplainerError: if the groups do not fit the features.
        """
        return build_players(self.features.columns, self.options.groups)

    def attributions(
        self,
        phi_UDL: NDArray[np.float64],
        error_UDL: NDArray[np.float64],
        scores_UL: NDArray[np.float64],
        expected_L: NDArray[np.float64],
        index_N: NDArray[np.intp],
        evaluations: int,
    ) -> Attributions:
        """Return the attributions of all records.

        Args:
            phi_UDL: attributions of the unique records.
            error_UDL: their standard errors, 0 for exact values.
            scores_UL: model outputs on the unique records.
            expected_L: model outputs on the background.
            index_N: index of each record among the unique records.
            evaluations: number of rows sent to the model.
        """
        counts_U = np.bincount(index_N).astype(np.float64)
        return Attributions(
            names=self.players.names,
            labels=label_names(self.model.label_headers, len(expected_L)),
            phi_NDL=phi_UDL[index_N],
            expected_L=expected_L,
            scores_NL=scores_UL[index_N],
            evaluations=evaluations,
            error_NDL=error_UDL[index_N],
            errors=standard_errors(phi_UDL, error_UDL, counts_U, self.options.agg_method),
        )
