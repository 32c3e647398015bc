"""Before anything expensive: does the model take these rows, and does it answer with what is to be explained?

Array letters: N records, L labels (model outputs).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.text import plural
from runner.errors import BackgroundError, EndpointError, ModelAnswerError, ModelInputError
from runner.explain import background as backgrounds
from runner.explain.game import answered, logit
from runner.protocols import Model

REFUSING = {400, 406, 409, 415, 422, 424, 500}
"""The statuses with which an endpoint answers rows it cannot take; others have nothing to do with them."""


@dataclass(frozen=True)
class Preflight:
    """What the model answered to the first rows it was shown.

    Attributes:
        rows: how many it was shown.
        outputs: L.
        lowest, highest: of its scores.
        parity: how far the captured scores of the same rows are from them at most, None where none were captured.
    """

    rows: int
    outputs: int
    lowest: float
    highest: float
    parity: float | None


@dataclass(frozen=True)
class Parity:
    """Comparison of captured scores with recomputed ones.

    Attributes:
        largest: largest difference.
        records: number of records compared.
    """

    largest: float
    records: int


def preflight(
    model: Model,
    features: pl.DataFrame,
    background: pl.DataFrame,
    use_logit: bool,
    captured_NL: NDArray[np.float64] | None = None,
) -> Preflight:
    """Return what the model makes of three real rows and of the background rows.

    Raises:
        ModelAnswerError: when it answers with another number of outputs than `model.label_headers` names, or not with
            finite numbers.
        BackgroundError: when it takes the real rows, but not the background's.
        ExplainerError: when log-odds are asked for and its scores are no probabilities.
    """
    background, features = backgrounds.align(background, features)
    rows = real_rows(features.height)
    real_NL = answered(model, features[rows])
    _check_labels(model, real_NL.shape[1])
    try:
        masked_NL = answered(model, background)
    except (ModelInputError, ModelAnswerError, EndpointError) as error:
        if isinstance(error, EndpointError) and error.status not in REFUSING:
            raise
        taken = f"the model answered {plural(len(rows), 'real row')}, but not the rows that masked features get their"
        remedy = "take rows that look like real ones, such as one of the dataset's"
        raise BackgroundError(f"{taken} values from ({error}); {remedy}") from error
    scores_NL = np.concatenate([real_NL, masked_NL])
    if use_logit:
        logit(scores_NL)
    compared = parity(None if captured_NL is None else captured_NL[rows], real_NL)
    return Preflight(
        rows=len(scores_NL),
        outputs=scores_NL.shape[1],
        lowest=float(scores_NL.min()),
        highest=float(scores_NL.max()),
        parity=compared.largest if compared else None,
    )


def real_rows(count: int) -> list[int]:
    """Return the places of the first, the middle and the last of `count` rows.

    >>> real_rows(10), real_rows(1)
    ([0, 5, 9], [0])
    """
    return sorted({0, count // 2, count - 1})


def _check_labels(model: Model, outputs: int) -> None:
    names = model.label_headers
    if names and len(names) != outputs:
        told = f"the model has {plural(outputs, 'output')}, model.label_headers names {len(names)}: {', '.join(names)}"
        raise ModelAnswerError(f"{told}; name each output, or set it to null")


def parity(captured_NL: NDArray[np.float64] | None, scores_NL: NDArray[np.float64]) -> Parity | None:
    """Compare captured scores with the model's own; return None if no record has captured scores."""
    if captured_NL is None or captured_NL.shape != scores_NL.shape:
        return None
    known_N = np.isfinite(captured_NL).all(axis=1)
    if not known_N.any():
        return None
    return Parity(float(abs(captured_NL - scores_NL)[known_N].max()), int(known_N.sum()))
