"""A check before expensive work: whether the model accepts the rows and returns scores that can be explained.

Array letters: N records, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.drift import Parity
from runner.domain.numbers import plural
from runner.errors import BackgroundError, EndpointError, ModelAnswerError, ModelInputError, listed
from runner.explain import background as backgrounds
from runner.explain.game import check_outputs, logit, predict
from runner.protocols import Model

REJECTED = {400, 406, 409, 415, 422, 424, 500}
"""HTTP statuses of an endpoint that rejects the rows; other statuses have other causes."""

PARITY_TOLERANCE = 1e-6
"""Largest difference between a captured score and a recomputed one that is a rounding error in single precision,
relative to the largest score or to 1 if that is larger."""
MIN_WRITTEN = 10
"""Minimum number of different scores from which the number of written decimals is inferred."""
MOST_DECIMALS = 9
"""Largest number of decimals that is inferred; scores with more of them count as not rounded."""
MIN_PERMUTED = 10
"""Minimum number of different scores in another order that cannot be equal by chance."""
ROUNDING = 1e-6
"""Largest relative difference between two scores of the same record that counts as rounding."""


@dataclass(frozen=True)
class Preflight:
    """Result of the check.

    Attributes:
        rows: number of rows sent to the model.
        outputs: number of model outputs, L.
        lowest, highest: range of the scores.
        parity: largest difference from the captured scores of the same records; None without captured scores.
    """

    rows: int
    outputs: int
    lowest: float
    highest: float
    parity: float | None


def preflight(
    model: Model,
    features: pl.DataFrame,
    background: pl.DataFrame,
    use_logit: bool,
    captured_NL: NDArray[np.float64] | None = None,
) -> Preflight:
    """Send up to three records and the background rows to the model, and check its scores; errors as below."""
    return preflight_scores(model, features, background, use_logit, captured_NL)[0]


def preflight_scores(
    model: Model,
    features: pl.DataFrame,
    background: pl.DataFrame,
    use_logit: bool,
    captured_NL: NDArray[np.float64] | None = None,
) -> tuple[Preflight, NDArray[np.float64]]:
    """Send up to three records and the background rows to the model; return the result, and the records' scores_NL.

    Raises:
        ModelAnswerError: if scores are not finite, or their number differs between rows or from that of
            `model.label_headers`.
        BackgroundError: if the model accepts the records, but not the background rows.
        ExplainerError: if log-odds are requested, and scores are not probabilities.
    """
    background, features = backgrounds.align(background, features)
    rows = preflight_rows(features.height)
    real_NL = predict(model, features[rows])
    _check_labels(model, real_NL.shape[1])
    try:
        replaced_NL = predict(model, background)
    except (ModelInputError, ModelAnswerError, EndpointError) as error:
        if isinstance(error, EndpointError) and error.status not in REJECTED:
            raise
        raise BackgroundError(
            f"the model accepted {plural(len(rows), 'record')}, but rejected the background rows ({error}); give rows "
            "that look like real records, such as one of the dataset"
        ) from error
    check_outputs(replaced_NL, real_NL.shape[1])
    scores_NL = np.concatenate([real_NL, replaced_NL])
    if use_logit:
        logit(scores_NL)
    compared = parity(None if captured_NL is None else captured_NL[rows], real_NL)
    checked = Preflight(
        rows=len(scores_NL),
        outputs=scores_NL.shape[1],
        lowest=float(scores_NL.min()),
        highest=float(scores_NL.max()),
        parity=compared.largest if compared else None,
    )
    return checked, real_NL


def noise_notes(first_NL: NDArray[np.float64], second_NL: NDArray[np.float64]) -> list[str]:
    """Return a note if a model gave the same records different scores; empty if they agree up to rounding.

    >>> noise_notes(np.array([[0.5]]), np.array([[0.5]]))
    []
    """
    gap_NL = abs(first_NL - second_NL)
    if (gap_NL <= ROUNDING * (1 + abs(first_NL))).all():
        return []
    problem = f"the model is not deterministic: two scores of the same record differ by up to {gap_NL.max():.2g}"
    return [f"{problem}. This noise hides small changes; set a seed in the model, or remove its random parts"]


def preflight_rows(count: int) -> list[int]:
    """Return the indices of the first, the middle and the last of `count` rows.

    >>> preflight_rows(10), preflight_rows(1)
    ([0, 5, 9], [0])
    """
    return sorted({0, count // 2, count - 1})


def _check_labels(model: Model, outputs: int) -> None:
    names = model.label_headers
    if names and len(names) != outputs:
        raise ModelAnswerError(
            f"the model has {plural(outputs, 'output')}, but model.label_headers has {plural(len(names), 'name')}: "
            f"{listed(map(repr, names))}. Give one name per output, or set model.label_headers=null"
        )


def parity(
    captured_NL: NDArray[np.float64] | None, scores_NL: NDArray[np.float64], tolerance: float | None = None
) -> Parity | None:
    """Compare captured scores with the model's own; return None if no record has captured scores.

    Args:
        captured_NL: captured scores, NaN if unknown.
        scores_NL: scores of the explained model.
        tolerance: largest difference that rounding explains; None to infer it from the captured scores.

    Raises:
        ModelAnswerError: if the model returns the captured scores in another order.
    """
    if captured_NL is None or captured_NL.shape != scores_NL.shape:
        return None
    known_N = np.isfinite(captured_NL).all(axis=1)
    if not known_N.any():
        return None
    captured_NL, scores_NL = captured_NL[known_N], scores_NL[known_N]
    if moved := _permuted(captured_NL, scores_NL):
        problem = f"the model returns the captured scores of {moved:,} records in another order"
        raise ModelAnswerError(f"{problem}; expected the scores of each request in the order of its records")
    allowed = written_tolerance(captured_NL) if tolerance is None else tolerance
    gap_N = abs(captured_NL - scores_NL).max(axis=1)
    return Parity(float(gap_N.max()), len(captured_NL), allowed, int((gap_N > allowed).sum()))


def written_tolerance(captured_NL: NDArray[np.float64]) -> float:
    """Return the largest difference that the precision of written scores explains: half of the last decimal.

    >>> written_tolerance(np.arange(20)[:, None] / 100)
    0.005001
    """
    single = PARITY_TOLERANCE * max(1.0, float(abs(captured_NL).max()))
    values = np.unique(captured_NL)
    if len(values) < MIN_WRITTEN:
        return single
    written = (digits for digits in range(1, MOST_DECIMALS) if (values.round(digits) == values).all())
    decimals = next(written, None)
    return single if decimals is None else round(0.5 * 10.0**-decimals + single, 12)


def _permuted(captured_NL: NDArray[np.float64], scores_NL: NDArray[np.float64]) -> int:
    """Return the number of different records whose scores are the captured ones in another order, 0 if they are not.

    A few scores, such as those of classes or of the leaves of a small tree, may be equal by chance.
    """
    moved_N = (abs(captured_NL - scores_NL) > PARITY_TOLERANCE).any(axis=1)
    captured_nL, scores_nL = np.hsplit(np.unique(np.hstack([captured_NL, scores_NL])[moved_N], axis=0), 2)
    gap_nL = abs(np.sort(captured_nL, axis=0) - np.sort(scores_nL, axis=0))
    if len(np.unique(captured_nL, axis=0)) < MIN_PERMUTED or (gap_nL > PARITY_TOLERANCE).any():
        return 0
    return len(captured_nL)
