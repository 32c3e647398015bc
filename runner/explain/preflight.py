"""A check before expensive work: whether the model accepts the rows and returns scores that can be explained.

Array letters: N records, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.numbers import plural
from runner.errors import BackgroundError, EndpointError, ModelAnswerError, ModelInputError
from runner.explain import background as backgrounds
from runner.explain.game import check_outputs, logit, predict
from runner.protocols import Model

REJECTED = {400, 406, 409, 415, 422, 424, 500}
"""HTTP statuses of an endpoint that rejects the rows; other statuses have other causes."""


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
    """Send up to three records and the background rows to the model, and check its scores.

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
    return Preflight(
        rows=len(scores_NL),
        outputs=scores_NL.shape[1],
        lowest=float(scores_NL.min()),
        highest=float(scores_NL.max()),
        parity=compared.largest if compared else None,
    )


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
            f"{', '.join(map(repr, names))}. Give one name per output, or set model.label_headers=null"
        )


def parity(captured_NL: NDArray[np.float64] | None, scores_NL: NDArray[np.float64]) -> Parity | None:
    """Compare captured scores with the model's own; return None if no record has captured scores."""
    if captured_NL is None or captured_NL.shape != scores_NL.shape:
        return None
    known_N = np.isfinite(captured_NL).all(axis=1)
    if not known_N.any():
        return None
    return Parity(float(abs(captured_NL - scores_NL)[known_N].max()), int(known_N.sum()))
