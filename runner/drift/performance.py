"""The quality of a model: its captured scores against the labels that came in later.

Array letters: N records, L labels (model outputs), U distinct scores.

Source: scikit-learn's `accuracy_score`, `log_loss` and `roc_auc_score`, with which every figure here agrees.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan

import numpy as np
from numpy.typing import NDArray

from runner.domain.text import plural

TRUE, FALSE = ("1", "true"), ("0", "false")
NOT_PROBABILITIES = "there is no log loss, for which scores must be probabilities"
ONE_CLASS = "there is no AUC, for which two labels must occur"


@dataclass(frozen=True)
class Quality:
    """How well scores predicted labels; a figure that these records do not define is None and a note says why.

    Attributes:
        records: how many had both a label and a score.
        accuracy: the share of records predicted right.
        log_loss: the mean negative logarithm (natural) of the probability given to the true label.
        auc: the area under the ROC curve; with several labels the mean over those that occur, each against the rest.
        notes: sentences about what was left out or is not defined.
    """

    records: int
    accuracy: float
    log_loss: float | None
    auc: float | None
    notes: tuple[str, ...] = ()


def assess(
    labels: Sequence[str | int | float | bool | None],
    scores_NL: NDArray[np.float64],
    names: Sequence[str],
    threshold: float,
) -> Quality:
    """Return the quality of scores, leaving out records without a label or with a NaN score.

    Args:
        labels: one a record. For one score 1 or 0, true or false, as values or as texts. For several scores all are
            names, or where none of them is a name, all are indices from 0 (true and false are 1 and 0 of two).
        scores_NL: the captured scores.
        names: of the L scores.
        threshold: the single score from which a record counts as 1.

    Raises:
        ValueError: with a sentence, when a label is none of these or no record is left.
    """
    known_N = np.array([_known(label) for label in labels], dtype=np.bool_)
    scored_N = np.array(~np.isnan(scores_NL).any(axis=1))
    usable_N = known_N & scored_N
    texts = [_text(label) for label, usable in zip(labels, usable_N, strict=True) if usable]
    if scores_NL.shape[1] == 1:
        quality = binary(_truths(texts), scores_NL[usable_N, 0], threshold)
    else:
        quality = multiclass(_indices(texts, names), scores_NL[usable_N])
    return replace(quality, notes=(*_left_out(known_N, scored_N), *quality.notes))


def binary(labels_N: NDArray[np.bool_], scores_N: NDArray[np.float64], threshold: float) -> Quality:
    """Return the quality of one score a record, none of them NaN, that is high where the label is true.

    Raises:
        ValueError: when there is no record.
    """
    _require(len(labels_N))
    auc, notes = _auc(labels_N, scores_N), []
    if auc is None:
        notes.append(f"{ONE_CLASS}: all are {str(bool(labels_N[0])).lower()}")
    loss = None
    if scores_N.min() >= 0 and scores_N.max() <= 1:
        loss = _log_loss(np.where(labels_N, scores_N, 1 - scores_N))
    else:
        notes.append(f"{NOT_PROBABILITIES}: they lie in {scores_N.min():g}…{scores_N.max():g}")
    return Quality(len(labels_N), float(((scores_N >= threshold) == labels_N).mean()), loss, auc, tuple(notes))


def multiclass(labels_N: NDArray[np.intp], scores_NL: NDArray[np.float64]) -> Quality:
    """Return the quality of one score a label, none of them NaN; the first of several highest ones is predicted.

    Raises:
        ValueError: when there is no record.
    """
    _require(len(labels_N))
    predicted_N = scores_NL.argmax(axis=1)
    given_N = scores_NL[np.arange(len(labels_N)), labels_N]
    notes = []
    occurring = np.unique(labels_N)
    auc = None
    if len(occurring) > 1:
        auc = float(np.mean([_auc(labels_N == label, scores_NL[:, label]) for label in occurring]))
        if len(occurring) < scores_NL.shape[1]:
            notes.append(f"the AUC is that of the {len(occurring)} labels of {scores_NL.shape[1]} that occur")
    else:
        notes.append(f"{ONE_CLASS}: all are label {occurring[0]}")
    loss = None
    if _are_distributions(scores_NL):
        loss = _log_loss(given_N)
    else:
        notes.append(f"{NOT_PROBABILITIES} that sum to 1 in every record")
    return Quality(len(labels_N), float((predicted_N == labels_N).mean()), loss, auc, tuple(notes))


def _auc(labels_N: NDArray[np.bool_], scores_N: NDArray[np.float64]) -> float | None:
    """Return the share of pairs (true, false) in which the true one scores higher, ties at half; None without a pair.

    Source: Mann and Whitney (1947), U from the mean ranks, divided by the number of pairs.
    """
    trues = int(labels_N.sum())
    pairs = trues * (len(labels_N) - trues)
    if not pairs:
        return None
    _, place_N, size_U = np.unique(scores_N, return_inverse=True, return_counts=True)
    rank_U = np.cumsum(size_U) - (size_U - 1) / 2
    return float((rank_U[place_N][labels_N].sum() - trues * (trues + 1) / 2) / pairs)


def _log_loss(given_N: NDArray[np.float64]) -> float:
    """Return −mean(ln p) of the probabilities given to the true labels, kept off 0 and 1 by a double's epsilon."""
    epsilon = np.finfo(np.float64).eps
    return float(-np.log(given_N.clip(epsilon, 1 - epsilon)).mean())


def _are_distributions(scores_NL: NDArray[np.float64]) -> bool:
    """Return whether every row sums to 1, to the rounding of the single precision that most models answer in."""
    tolerance = float(np.sqrt(np.finfo(np.float32).eps))
    inside = bool(scores_NL.min() >= 0 and scores_NL.max() <= 1)
    return inside and bool(np.allclose(scores_NL.sum(axis=1), 1, rtol=tolerance, atol=0))


def _require(count: int) -> None:
    if not count:
        raise ValueError("no record has both a label and a score")


def _known(label: str | int | float | bool | None) -> bool:
    return label is not None and not (isinstance(label, float) and isnan(label))


def _text(label: str | int | float | bool | None) -> str:
    """Return a label or name in the one spelling by which they are compared.

    >>> _text(True), _text("False"), _text(3.0), _text("3"), _text(" <=50K")
    ('true', 'false', '3', '3', '<=50K')
    """
    text = str(label).strip()
    return text.lower() if text.lower() in {"true", "false"} else re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def _truths(texts: Sequence[str]) -> NDArray[np.bool_]:
    for text in texts:
        if text not in TRUE + FALSE:
            raise ValueError(f"the label {text!r} is neither 1 nor 0, true nor false, as one score needs")
    return np.array([text in TRUE for text in texts], dtype=np.bool_)


def _indices(texts: Sequence[str], names: Sequence[str]) -> NDArray[np.intp]:
    """Return the column of each label; whether labels are names or indices is decided for all of them together."""
    places = {_text(name): i for i, name in enumerate(names)}
    if not any(text in places for text in texts):
        places = {str(i): i for i in range(len(names))} | ({"false": 0, "true": 1} if len(names) == 2 else {})
    for text in texts:
        if text not in places:
            allowed = ", ".join(map(repr, dict.fromkeys([*names, *places])))
            raise ValueError(f"the label {text!r} is none of {allowed}")
    return np.array([places[text] for text in texts], dtype=np.intp)


def _left_out(known_N: NDArray[np.bool_], scored_N: NDArray[np.bool_]) -> list[str]:
    """Return a note on the records that cannot be used, none where all can."""
    unknown, unscored = int((~known_N).sum()), int((known_N & ~scored_N).sum())
    told = [f"{count} without {what}" for count, what in ((unknown, "a label"), (unscored, "a score")) if count]
    return [f"left out: {plural(unknown + unscored, 'record')}, {' and '.join(told)}"] if told else []
