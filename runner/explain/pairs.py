"""A game is asked for coalitions and their complements; of the answers, the differences decide about φ.

Array letters: N records, L labels, R = N·L games of one label each, P players, J pairs, K = 2·J + 2 coalitions: J of
them, their complements, all players, nobody. M = J + 1 differences of a coalition and its complement.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runner.protocols import Game


def coalitions(half_JP: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return all K coalitions as masks_KP."""
    ends = np.array([[True], [False]]).repeat(half_JP.shape[1], axis=1)
    return np.concatenate([half_JP, ~half_JP, ends])


def ask(game: Game, half_JP: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return values_RK; only the 2·J coalitions that are neither all players nor nobody cost calls."""
    N, L = game.scores_NL.shape
    values_NKL = np.empty((N, 2 * len(half_JP) + 2, L))
    values_NKL[:, :-2] = game.value(coalitions(half_JP)[:-2])
    values_NKL[:, -2], values_NKL[:, -1] = game.scores_NL, game.expected_L
    return np.ascontiguousarray(values_NKL.transpose(0, 2, 1)).reshape(N * L, -1)


def ask_differences(game: Game, half_JP: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return differences(ask(…)), for those who need no more."""
    values_NLK = game.value(coalitions(half_JP)[:-2]).transpose(0, 2, 1)
    differences_NLM = _differences(values_NLK, game.scores_NL, game.expected_L)
    return differences_NLM.reshape(-1, differences_NLM.shape[-1])


def differences(values_RK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return v(S) − v(complement of S) as differences_RM, that of all players last."""
    return _differences(values_RK[:, :-2], values_RK[:, -2], values_RK[:, -1])


def _differences(
    values_XK: NDArray[np.float64], all_X: NDArray[np.float64], nobody_X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return differences_XM of J coalitions and of J complements after them, then of all players and nobody."""
    J = values_XK.shape[-1] // 2
    differences_XM = np.empty((*values_XK.shape[:-1], J + 1))
    np.subtract(values_XK[..., :J], values_XK[..., J:], out=differences_XM[..., :J])
    np.subtract(all_X, nobody_X, out=differences_XM[..., J])
    return differences_XM


def each(rows_RM: NDArray[np.float64], matrix_MP: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows_RM @ matrix_MP, each row by itself, so that its bits do not depend on the others."""
    product: NDArray[np.float64] = np.matmul(rows_RM[:, None, :], matrix_MP)[:, 0, :]
    return product


def by_record(rows_RP: NDArray[np.float64], labels: int) -> NDArray[np.float64]:
    """Return rows_RP of games as rows_NPL of records."""
    return rows_RP.reshape(-1, labels, rows_RP.shape[1]).transpose(0, 2, 1)
