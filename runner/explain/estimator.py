"""The estimator: everything that decides how a table of features becomes attributions, in one value.

Array letters: N records, D features, L labels, P players.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from runner.domain import Attributions, GlobalAttributions, label_names
from runner.explain import background as backgrounds
from runner.explain.aggregate import Aggregation, aggregate
from runner.explain.game import MaskingGame, outputs, probability
from runner.explain.uncertainty import Uncertainty
from runner.protocols import Explainer, Model, Track


@dataclass(frozen=True)
class Estimator:
    """How attributions are computed; reference and live analysis are comparable when theirs are equal.

    Attributes:
        explainer: exact enumeration or kernel SHAP.
        agg_method: how local values become global ones.
        use_logit: whether the model's probabilities are explained as log-odds.
        max_batch_rows: the most synthetic rows held and sent to the model at once; does not change any result.
    """

    explainer: Explainer
    agg_method: Aggregation
    use_logit: bool
    max_batch_rows: int

    def explain(self, model: Model, features: pl.DataFrame, background: pl.DataFrame, track: Track) -> Attributions:
        """Return the local attributions of all records; a record that occurs again is explained once.

        Raises:
            BackgroundError: when the background's columns do not fit the features'.
            ExplainerError: when the explainer cannot work with this many features.
        """
        background, features = backgrounds.align(background, features)
        records = _arrange(features, background, self.explainer.keeps_unvarying)
        scores_NL = outputs(model, records.features, self.use_logit, self.max_batch_rows)
        expected_L = outputs(model, background, self.use_logit, self.max_batch_rows).mean(axis=0)
        phi_NDL = np.zeros((*records.features.shape, len(expected_L)))
        counts_N = np.bincount(records.back_N).astype(np.float64)
        uncertainty = Uncertainty(self.agg_method, len(records.back_N), records.features.width, len(expected_L))
        blocks = self._blocks(records.plays_ND)
        for rows in track(blocks, "explaining", len(blocks)):
            players_NP = np.nonzero(records.plays_ND[rows])[1].reshape(rows.stop - rows.start, -1)
            game = MaskingGame(
                model=model,
                features=records.features[rows],
                background=background,
                players_NP=players_NP,
                keys_N=records.keys_N[rows],
                scores_NL=scores_NL[rows],
                expected_L=expected_L,
                use_logit=self.use_logit,
                max_batch_rows=self.max_batch_rows,
            )
            estimate = self.explainer.estimate(game)
            np.put_along_axis(phi_NDL[rows], players_NP[:, :, None], estimate.phi_NPL, axis=1)
            if estimate.noise:
                uncertainty.add(estimate.phi_NPL, estimate.noise, counts_N[rows])
        return Attributions(
            names=tuple(features.columns),
            labels=label_names(model.label_headers, len(expected_L)),
            phi_NDL=phi_NDL[records.back_N],
            expected_L=expected_L,
            scores_NL=scores_NL[records.back_N],
            evaluations=self._evaluations(records, background),
            errors=uncertainty.errors(),
        )

    def evaluations(self, features: pl.DataFrame, background: pl.DataFrame) -> int:
        """Return how many rows `explain` would send to the model.

        Raises:
            BackgroundError: when the background's columns do not fit the features'.
            ExplainerError: when the explainer cannot work with this many features.
        """
        background, features = backgrounds.align(background, features)
        records = _arrange(features, background, self.explainer.keeps_unvarying)
        return self._evaluations(records, background)

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

    def _evaluations(self, records: _Arranged, background: pl.DataFrame) -> int:
        players, counts = np.unique(records.plays_ND.sum(axis=1), return_counts=True)
        coalitions = [self.explainer.coalitions(P) for P in players.tolist()]
        return records.features.height + background.height * (1 + int(np.dot(coalitions, counts)))

    def _blocks(self, plays_ND: NDArray[np.bool_]) -> list[slice]:
        """Return blocks of rows with equal numbers of players whose synthetic rows fit `max_batch_rows`.

        The rows are in ascending order of their numbers of players.
        """
        players, starts = np.unique(plays_ND.sum(axis=1), return_index=True)
        blocks = []
        for count, start, end in zip(players.tolist(), starts, [*starts[1:], len(plays_ND)], strict=True):
            size = max(1, self.max_batch_rows // max(1, self.explainer.coalitions(count)))
            blocks += [slice(lo, min(lo + size, end)) for lo in range(start, end, size)]
        return blocks


class _Arranged(NamedTuple):
    """Records as they are explained: each content once, in ascending order of their numbers of players.

    `plays_ND` says which features play, `keys_N` are hashes of the contents, and `back_N` leads from every original
    record to its row here.
    """

    features: pl.DataFrame
    plays_ND: NDArray[np.bool_]
    keys_N: NDArray[np.uint64]
    back_N: NDArray[np.intp]


def _arrange(features: pl.DataFrame, background: pl.DataFrame, keeps_unvarying: bool) -> _Arranged:
    first_N, again_N = _distinct(features)
    distinct = features[first_N]
    contents = [orjson.dumps(values) for values in distinct.rows()]
    hashes = b"".join(hashlib.blake2b(content, digest_size=8).digest() for content in contents)
    plays_ND = backgrounds.varying(distinct, background) | keeps_unvarying
    order_N = plays_ND.sum(axis=1).argsort(kind="stable")
    keys_N = np.frombuffer(hashes, dtype="<u8")
    return _Arranged(distinct[order_N], plays_ND[order_N], keys_N[order_N], order_N.argsort()[again_N])


def _distinct(features: pl.DataFrame) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the row in which each content occurs first, and for every row the number of its content."""
    columns = {str(d): column for d, column in enumerate(features)}
    rows = pl.DataFrame(columns).with_row_index("row").group_by(list(columns), maintain_order=True).agg("row")["row"]
    again_N = np.empty(features.height, dtype=np.intp)
    again_N[rows.explode().to_numpy()] = np.repeat(np.arange(len(rows)), rows.list.len().to_numpy())
    return rows.list.first().to_numpy().astype(np.intp), again_N
