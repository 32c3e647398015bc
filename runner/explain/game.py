"""The masking game: a coalition of features keeps a record's values, the others take the background's.

Array letters: N records, D features, L labels, G players, P of them that play, S = P + 1 seats, K coalitions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Margin
from runner.errors import ExplainerError, ModelAnswerError, snippet
from runner.explain import log_odds
from runner.explain.coalitions import unique_coalitions
from runner.explain.masking import Table, slices
from runner.explain.players import Players
from runner.protocols import Model, as_additive


def logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log-odds of probabilities, clipped by `log_odds.SMALLEST`.

    Raises:
        ExplainerError: when a score is no probability.
    """
    if ((scores < 0) | (scores > 1)).any():
        extreme = scores.flat[np.abs(scores - 0.5).argmax()]
        raise ExplainerError(f"shap.use_logit needs probabilities, but the model returned {extreme:g}; set it to false")
    return log_odds.logit(scores)


def probability(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of log-odds.

    >>> probability(np.array([0.0])).tolist()
    [0.5]
    """
    return 1 / (1 + np.exp(-odds))


def outputs(model: Model, rows: pl.DataFrame, use_logit: bool, max_batch_rows: int) -> NDArray[np.float64]:
    """Return the model's outputs on rows, sent in batches, as scores_NL; log-odds with `use_logit`.

    Log-odds of a model that tells its sums are those, not the logits of what it rounds.
    """
    parts = [answered(model, part) for part in rows.iter_slices(max_batch_rows)]
    scores_NL = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if not use_logit:
        return scores_NL
    additive = as_additive(model)
    told = additive.additive_terms(rows) if additive else None
    return told.sums_NL if told and told.link == "logistic" else logit(scores_NL)


def answered(model: Model, rows: pl.DataFrame) -> NDArray[np.float64]:
    """Return the model's scores_NL of rows, as they are.

    Raises:
        ModelAnswerError: when they are not finite numbers, some for each row.
    """
    scores_NL = model.predict(rows)
    if scores_NL.ndim != 2 or len(scores_NL) != rows.height or not scores_NL.shape[1]:
        raise ModelAnswerError(f"the model answered {rows.height} rows with scores of the shape {scores_NL.shape}")
    if not np.isfinite(scores_NL).all():
        n = int((~np.isfinite(scores_NL)).any(axis=1).argmax())
        row = snippet(dict(zip(rows.columns, rows.row(n), strict=True)))
        raise ModelAnswerError(f"the model answered with {scores_NL[n].tolist()} where finite scores are needed: {row}")
    return scores_NL


@dataclass(frozen=True)
class MaskingGame:
    """One game a record: P features play, the value of a coalition is the model's output on the masked record.

    Masked values are swapped whole, in the column's own type.

    Attributes:
        model: what is being explained.
        records: N of them.
        replacement: the background row, with the same column types.
        teams: the features of each player.
        varying: how many players differ from the background, in every record.
        players_NP: the players that play, per record, in the order of their seats, those that differ first; the others
            keep the record's values.
        scores_NL, expected_L: the values of the grand and the empty coalition.
        use_logit: whether values are log-odds instead of the model's outputs.
        max_batch_rows: the most rows that go to the model in one call.
    """

    model: Model
    records: Table
    replacement: Table
    teams: Players
    varying: int
    players_NP: NDArray[np.intp]
    scores_NL: NDArray[np.float64]
    expected_L: NDArray[np.float64]
    use_logit: bool
    max_batch_rows: int

    @property
    def players(self) -> int:
        """P, the same for every record of one game."""
        return int(self.players_NP.shape[1])

    def margin(self) -> Margin | None:
        """Return what the games add up from, None where the model does not tell."""
        if (model := as_additive(self.model)) is None:
            return None
        own, other = model.additive_terms(self.records.frame()), model.additive_terms(self.replacement.frame())
        if self.use_logit and own.link == "identity":
            return None
        slope_NGL = self.teams.total(own.terms_NDL - other.terms_NDL)
        slope_NPL = np.take_along_axis(slope_NGL, self.players_NP[:, :, None], axis=1)
        return Margin(own.sums_NL - slope_NPL.sum(axis=1), slope_NPL, "identity" if self.use_logit else own.link)

    def ordered(self, order_NP: NDArray[np.intp]) -> MaskingGame:
        """Return the games with the players that sit there now, per record, in the seats 0…P−1."""
        return replace(self, players_NP=np.take_along_axis(self.players_NP, order_NP, axis=1))

    def value(self, masks_KP: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return values_NKL; of coalitions that only players equal to the background tell apart, one is asked for."""
        if self.varying == self.players:
            return self._asked(masks_KP)
        different = unique_coalitions(masks_KP, self.varying)
        nobody_N1L = np.broadcast_to(self.expected_L, self.scores_NL[:, None].shape)
        values_NkL = [self._asked(different.masks_kP), self.scores_NL[:, None], nobody_N1L]
        return np.concatenate(values_NkL, axis=1).take(different.place_K, axis=1)

    def _asked(self, masks_KP: NDArray[np.bool_]) -> NDArray[np.float64]:
        N, K, L = len(self.records), len(masks_KP), len(self.expected_L)
        if 0 < N * K <= self.max_batch_rows:
            return self._values(self.records, self.players_NP, masks_KP)
        values_NKL = np.empty((N, K, L))
        for some in slices(K, self.max_batch_rows):
            masks_kP = masks_KP[some]
            for records in slices(N, max(1, self.max_batch_rows // len(masks_kP))):
                values_NKL[records, some] = self._values(self.records.part(records), self.players_NP[records], masks_kP)
        return values_NKL

    def _values(self, records: Table, players_NP: NDArray[np.intp], masks_kP: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the values_NkL of some records and coalitions, whose synthetic rows go to the model together."""
        k, P = masks_kP.shape
        kept_Sk = np.ones((P + 1, k), dtype=np.bool_)
        kept_Sk[:P] = masks_kP.T
        N, G = len(records), len(self.teams.names)
        seat_NG = np.full((N, G), P)
        seat_NG.reshape(-1)[players_NP + G * np.arange(N)[:, None]] = np.arange(P)
        synthetic = records.swapped(self.replacement, kept_Sk, seat_NG.T[self.teams.player_D])
        scores = outputs(self.model, synthetic, self.use_logit, self.max_batch_rows)
        return scores.reshape(N, k, -1)
