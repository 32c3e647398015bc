"""The masking game: a coalition of features keeps a record's values, the others take the background's.

Array letters: N records, D features, L labels, B background rows, P players, K coalitions, G designs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.errors import ExplainerError, ModelAnswerError, snippet
from runner.explain.background import plain
from runner.protocols import Model

LOGIT_EPSILON = 1e-12
"""Probabilities are moved this far away from 0 and 1 before the logit."""


def logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log-odds of probabilities, clipped by `LOGIT_EPSILON`.

    Raises:
        ExplainerError: when a score is no probability.
    """
    if ((scores < 0) | (scores > 1)).any():
        extreme = scores.flat[np.abs(scores - 0.5).argmax()]
        raise ExplainerError(f"shap.use_logit needs probabilities, but the model returned {extreme:g}; set it to false")
    clipped = np.clip(scores, LOGIT_EPSILON, 1 - LOGIT_EPSILON)
    return np.log(clipped) - np.log1p(-clipped)


def probability(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of log-odds.

    >>> probability(np.array([0.0])).tolist()
    [0.5]
    """
    return 1 / (1 + np.exp(-log_odds))


def outputs(model: Model, rows: pl.DataFrame, use_logit: bool, max_batch_rows: int) -> NDArray[np.float64]:
    """Return the model's outputs on rows, sent in batches, as scores_NL; log-odds with `use_logit`."""
    scores_NL = np.concatenate([answered(model, part) for part in rows.iter_slices(max_batch_rows)])
    return logit(scores_NL) if use_logit else scores_NL


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

    Masked values are swapped whole, in the column's own type; outputs are averaged over the background rows.

    Attributes:
        model: what is being explained.
        features: N records; `background`: B rows with the same column types.
        players_NP: the features that play, per record; the others keep the record's value.
        keys_N: a hash of each record's content.
        scores_NL, expected_L: the values of the grand and the empty coalition.
        use_logit: whether values are log-odds instead of the model's outputs.
        max_batch_rows: the most rows that go to the model in one call (at least one row a record).
    """

    model: Model
    features: pl.DataFrame
    background: pl.DataFrame
    players_NP: NDArray[np.intp]
    keys_N: NDArray[np.uint64]
    scores_NL: NDArray[np.float64]
    expected_L: NDArray[np.float64]
    use_logit: bool
    max_batch_rows: int

    @property
    def players(self) -> int:
        """P, the same for every record of one game."""
        return int(self.players_NP.shape[1])

    def value(self, masks_GKP: NDArray[np.bool_], design_N: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return values_NKL: record n plays the K coalitions of design `design_N[n]`."""
        N, K, L, B = len(design_N), masks_GKP.shape[1], len(self.expected_L), self.background.height
        step = max(1, self.max_batch_rows // N)
        values_NKL = np.zeros((N, K, L))
        for lo in range(0, K, step):
            own_DNk = self._own(masks_GKP[:, lo : lo + step], design_N)
            for b in range(B):
                synthetic = self._synthetic(own_DNk, b)
                scores = outputs(self.model, synthetic, self.use_logit, self.max_batch_rows)
                values_NKL[:, lo : lo + step] += scores.reshape(N, -1, L)
        return values_NKL / B

    def _own(self, masks_GkP: NDArray[np.bool_], design_N: NDArray[np.intp]) -> list[NDArray[np.bool_]]:
        """Return, per feature, which synthetic rows keep the record's own value, as booleans_Nk."""
        G, k, P = masks_GkP.shape
        with_outsider_GPk = np.ones((G, P + 1, k), dtype=np.bool_)
        with_outsider_GPk[:, :P] = masks_GkP.transpose(0, 2, 1)
        N, D = self.features.shape
        seat_ND = np.full((N, D), P)
        np.put_along_axis(seat_ND, self.players_NP, np.arange(P)[None], axis=1)
        return [with_outsider_GPk[design_N, seat_ND[:, d]] for d in range(D)]

    def _synthetic(self, own_DNk: list[NDArray[np.bool_]], b: int) -> pl.DataFrame:
        replacements = self.background[b : b + 1]
        return pl.DataFrame([_swap(*columns) for columns in zip(self.features, replacements, own_DNk, strict=True)])


def _swap(column: pl.Series, replacement: pl.Series, own_Nk: NDArray[np.bool_]) -> pl.Series:
    """Return the column of N·k values: the n-th of `column` where kept, else the one of `replacement`."""
    N = len(column)
    if plain(column, replacement):
        return pl.Series(column.name, np.where(own_Nk, column.to_numpy()[:, None], replacement.to_numpy()).ravel())
    rows_Nk = np.where(own_Nk, np.arange(N, dtype=np.uint32)[:, None], np.uint32(N))
    return pl.concat([column, replacement]).gather(rows_Nk.ravel())
