"""The masking game: features in a coalition have the record's values, all other features the background row's.

Array letters: N records, D features, L labels, G players of a table, P of them in the game, S = P + 1 positions,
K coalitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Additive, Margin
from runner.domain.numbers import plural
from runner.errors import ExplainerError, ModelAnswerError, listed, snippet
from runner.explain.coalitions import unique_coalitions
from runner.explain.masking import Table, slices
from runner.protocols import Model, as_additive

CLIP = 1e-12
"""Smallest distance of a probability from 0 and 1; closer ones are clipped before log-odds are computed."""
MAX_SCORE = 1e50
"""Largest absolute value of a score or an additive term; the squares of larger ones overflow in later sums."""


@dataclass(frozen=True)
class Players:
    """Players of a table: features, or groups of features (`shap.groups`).

    Attributes:
        names: names of the G players.
        player_D: player of each feature.
    """

    names: tuple[str, ...]
    player_D: NDArray[np.intp]

    @property
    def are_features(self) -> bool:
        """Whether each feature is a player of its own."""
        return len(self.names) == len(self.player_D)

    def any(self, booleans_ND: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return booleans_NG: whether the boolean of any of a player's features is true."""
        if self.are_features:
            return booleans_ND
        return np.stack([booleans_ND[:, self.player_D == g].any(axis=1) for g in range(len(self.names))], axis=1)

    def sum(self, values_NDL: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values_NGL: sums over each player's features."""
        if self.are_features:
            return values_NDL
        sums = [values_NDL[:, self.player_D == g].sum(axis=1) for g in range(len(self.names))]
        return np.stack(sums, axis=1)


def build_players(features: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Players:
    """Return the players in the order of the features; a group takes the place of its first feature.

    Raises:
        ExplainerError: if a group contains an unknown feature or a feature of another group, or has the name of a
            feature outside the group.
    """
    group_of: dict[str, str] = {}
    for group, members in groups.items():
        for name in members:
            if name not in features:
                problem = f"group {group!r} contains the unknown feature {name!r}"
                raise ExplainerError(f"shap.groups: {problem}; the features are {listed(features)}")
            if name in group_of:
                problem = f"feature {name!r} is in the groups {group_of[name]!r} and {group!r}"
                raise ExplainerError(f"shap.groups: {problem}; remove it from one of them")
            group_of[name] = group
        if group in features and group not in members:
            problem = f"group {group!r} has the name of a feature that is not in the group"
            raise ExplainerError(f"shap.groups: {problem}; rename the group")
    names = [group_of.get(name, name) for name in features]
    players = list(dict.fromkeys(names))
    return Players(tuple(players), np.array([players.index(name) for name in names], dtype=np.intp))


def clipped_logit(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-odds of probabilities clipped to [`CLIP`, 1 − `CLIP`]."""
    clipped = np.clip(probabilities, CLIP, 1 - CLIP)
    odds: NDArray[np.float64] = np.log(clipped / (1 - clipped))
    return odds


def logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-odds of a model's probabilities, clipped.

    Raises:
        ExplainerError: if a score is not a probability.
    """
    if ((scores < 0) | (scores > 1)).any():
        extreme = scores.flat[np.abs(scores - 0.5).argmax()]
        raise ExplainerError(
            f"shap.use_logit=true needs probabilities, but the model returned {extreme:g}; set it to false"
        )
    return clipped_logit(scores)


def sigmoid(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of log-odds.

    >>> sigmoid(np.array([0.0])).tolist()
    [0.5]
    """
    return 1 / (1 + np.exp(-odds))


def predict_batches(
    model: Model, rows: pl.DataFrame, use_logit: bool, max_batch_rows: int, outputs: int | None = None
) -> NDArray[np.float64]:
    """Return the model's scores_NL of rows that are sent in batches; log-odds with `use_logit`.

    Log-odds of an additive model are its exact sums, not the logits of its rounded probabilities.

    Args:
        model: the model.
        rows: N rows.
        use_logit: whether to return log-odds.
        max_batch_rows: largest number of rows in a batch.
        outputs: expected number of outputs, None for that of the first batch.

    Raises:
        ModelAnswerError: if a score is not usable, or the number of outputs differs between batches.
    """
    parts: list[NDArray[np.float64]] = []
    for part in rows.iter_slices(max_batch_rows):
        parts.append(predict(model, part, parts[0].shape[1] if parts else outputs))
    scores_NL = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if not use_logit:
        return scores_NL
    additive = as_additive(model)
    terms = additive.additive_terms(rows) if additive else None
    return usable_terms(terms, rows).sums_NL if terms and terms.link == "logistic" else logit(scores_NL)


def predict(model: Model, rows: pl.DataFrame, outputs: int | None = None) -> NDArray[np.float64]:
    """Return the model's scores_NL of rows.

    Raises:
        ModelAnswerError: if a score is not finite or larger than `MAX_SCORE`, if the scores are not a matrix with one
            row per record, or if their number of columns is not `outputs`.
    """
    scores_NL = model.predict(rows)
    if scores_NL.ndim != 2 or len(scores_NL) != rows.height or not scores_NL.shape[1]:
        raise ModelAnswerError(
            f"the model returned scores of shape {scores_NL.shape} for {rows.height} rows; expected one row of scores "
            "per record"
        )
    if outputs is not None:
        check_outputs(scores_NL, outputs)
    usable_N = (abs(scores_NL) <= MAX_SCORE).all(axis=1)
    if not usable_N.all():
        n = int(usable_N.argmin())
        expected = "finite scores" if not np.isfinite(scores_NL[n]).all() else f"scores up to {MAX_SCORE:g}"
        raise ModelAnswerError(
            f"the model returned {scores_NL[n].tolist()}; expected {expected}. Record: {_shown(rows, n)}"
        )
    return scores_NL


def check_outputs(scores_NL: NDArray[np.float64], outputs: int) -> None:
    """Check that a model has the same number of outputs for all rows.

    Raises:
        ModelAnswerError: if the number differs from `outputs`.
    """
    if scores_NL.shape[1] != outputs:
        returned = f"{plural(scores_NL.shape[1], 'output')} for {plural(len(scores_NL), 'row')}"
        raise ModelAnswerError(
            f"the model returned {returned}, but {plural(outputs, 'output')} for other rows; expected the same number "
            "in each call: correct the model"
        )


def usable_terms(additive: Additive, rows: pl.DataFrame) -> Additive:
    """Return the additive form of a model on rows after a check of its terms.

    Raises:
        ModelAnswerError: if a term is not finite or larger than `MAX_SCORE`.
    """
    usable_N = (abs(additive.terms_NDL) <= MAX_SCORE).all(axis=(1, 2))
    if not usable_N.all():
        n = int(usable_N.argmin())
        problem = "a feature multiplied by its coefficient is not finite or too large"
        raise ModelAnswerError(f"{problem}; expected up to {MAX_SCORE:g}. Record: {_shown(rows, n)}")
    return additive


def _shown(rows: pl.DataFrame, n: int) -> str:
    return snippet(dict(zip(rows.columns, rows.row(n), strict=True)))


@dataclass(frozen=True)
class Block:
    """N records that are explained together against one background row: all data of their games except the model.

    Attributes:
        rows_N: indices of the records in the table.
        records: the records.
        replacement: background row, with the same column types.
        table_players: the G players of the table.
        varying: number of players, from the first, that are masked individually; values do not depend on the others.
        players_NP: players in the game of each record, varying players first. Players outside the game have the
            record's values.
        scores_NL, expected_L: values of the grand and of the empty coalition.
        use_logit: whether values are log-odds of the model's outputs.
        max_batch_rows: largest number of rows in one model call.
    """

    rows_N: NDArray[np.intp]
    records: Table
    replacement: Table
    table_players: Players
    varying: int
    players_NP: NDArray[np.intp]
    scores_NL: NDArray[np.float64]
    expected_L: NDArray[np.float64]
    use_logit: bool
    max_batch_rows: int


@dataclass(frozen=True)
class MaskingGame:
    """Games of N records with P players each: a coalition's value is the model's output on the masked record."""

    model: Model
    block: Block

    @property
    def players(self) -> int:
        """Number of players P, the same for every record."""
        return int(self.block.players_NP.shape[1])

    @property
    def scores_NL(self) -> NDArray[np.float64]:
        """Values of the grand coalition."""
        return self.block.scores_NL

    @property
    def expected_L(self) -> NDArray[np.float64]:
        """Value of the empty coalition."""
        return self.block.expected_L

    def margin(self) -> Margin | None:
        """Return the additive form of the games; None if they are not known to be additive."""
        if (model := as_additive(self.model)) is None:
            return None
        block = self.block
        own, replaced = (
            usable_terms(model.additive_terms(rows), rows)
            for rows in (block.records.frame(), block.replacement.frame())
        )
        if block.use_logit and own.link == "identity":
            return None
        slope_NGL = block.table_players.sum(own.terms_NDL - replaced.terms_NDL)
        slope_NPL = np.take_along_axis(slope_NGL, block.players_NP[:, :, None], axis=1)
        return Margin(own.sums_NL - slope_NPL.sum(axis=1), slope_NPL, "identity" if block.use_logit else own.link)

    def reorder(self, order_NP: NDArray[np.intp]) -> MaskingGame:
        """Return the same games with each record's players in another order."""
        players_NP = np.take_along_axis(self.block.players_NP, order_NP, axis=1)
        return replace(self, block=replace(self.block, players_NP=players_NP))

    def value(self, masks_KP: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return values_NKL; coalitions that differ only in players equal to the background are evaluated once."""
        if self.block.varying == self.players:
            return self._evaluate(masks_KP)
        unique = unique_coalitions(masks_KP, self.block.varying)
        nobody_N1L = np.broadcast_to(self.expected_L, self.scores_NL[:, None].shape)
        values_NkL = [self._evaluate(unique.masks_kP), self.scores_NL[:, None], nobody_N1L]
        return np.concatenate(values_NkL, axis=1).take(unique.index_K, axis=1)

    def _evaluate(self, masks_KP: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return values_NKL, evaluated in batches."""
        block = self.block
        N, K, L = len(block.records), len(masks_KP), len(self.expected_L)
        if 0 < N * K <= block.max_batch_rows:
            return self._evaluate_batch(block.records, block.players_NP, masks_KP)
        values_NKL = np.empty((N, K, L))
        for masks in slices(K, block.max_batch_rows):
            masks_kP = masks_KP[masks]
            for rows in slices(N, max(1, block.max_batch_rows // len(masks_kP))):
                records, players_NP = block.records.part(rows), block.players_NP[rows]
                values_NKL[rows, masks] = self._evaluate_batch(records, players_NP, masks_kP)
        return values_NKL

    def _evaluate_batch(
        self, records: Table, players_NP: NDArray[np.intp], masks_kP: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return values_NkL of records and coalitions whose masked rows go to the model together."""
        block, (k, P) = self.block, masks_kP.shape
        is_own_Sk = np.ones((P + 1, k), dtype=np.bool_)
        is_own_Sk[:P] = masks_kP.T
        N, G = len(records), len(block.table_players.names)
        position_NG = np.full((N, G), P)
        position_NG.reshape(-1)[players_NP + G * np.arange(N)[:, None]] = np.arange(P)
        rows = records.mask(block.replacement, is_own_Sk, position_NG.T[block.table_players.player_D])
        outputs = len(self.expected_L)
        return predict_batches(self.model, rows, block.use_logit, block.max_batch_rows, outputs).reshape(N, k, -1)
