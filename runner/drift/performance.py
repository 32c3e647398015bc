"""Model performance: captured scores compared with ground-truth labels.

Array letters: N records, L labels (model outputs), U distinct scores.

Source: `accuracy_score`, `log_loss` and `roc_auc_score` of scikit-learn. All metrics have the same values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan

import numpy as np
from numpy.typing import NDArray

from runner.domain.numbers import plural
from runner.errors import listed

TRUE, FALSE = ("1", "true"), ("0", "false")
NOT_PROBABILITIES = "log loss is undefined: scores are not probabilities"
ONE_CLASS = "AUC is undefined: it needs records of two labels"


@dataclass(frozen=True)
class Quality:
    """Performance metrics; a metric that is undefined for these records is None, with a note.

    Attributes:
        records: number of records with both a label and a score.
        accuracy: share of correct predictions.
        log_loss: mean negative natural logarithm of the probability of the true label.
        auc: area under the ROC curve; with several labels, the mean one-vs-rest AUC of the labels that occur.
        notes: records left out and undefined metrics.
        threshold: lowest score for which a record is predicted as 1; None with several scores.
    """

    records: int
    accuracy: float
    log_loss: float | None
    auc: float | None
    notes: tuple[str, ...] = ()
    threshold: float | None = None


def assess(
    labels: Sequence[str | int | float | bool | None],
    scores_NL: NDArray[np.float64],
    names: Sequence[str],
    threshold: float,
) -> Quality:
    """Compute the metrics; records without a label or with a NaN score are left out.

    Args:
        labels: one per record. With one score: 1 or 0, true or false, as values or strings. With several scores: names
            of scores or, if no label is a name, indices from 0 (with two scores, also false for 0 and true for 1).
        scores_NL: captured scores.
        names: names of the L scores.
        threshold: lowest score for which a record is predicted as 1; used with one score only.

    Raises:
        ValueError: if a label is invalid or no record is left.
    """
    known_N = np.array([_known(label) for label in labels], dtype=np.bool_)
    scored_N = np.array(~np.isnan(scores_NL).any(axis=1))
    usable_N = known_N & scored_N
    usable = [_normalized(label) for label, is_usable in zip(labels, usable_N, strict=True) if is_usable]
    if scores_NL.shape[1] == 1:
        quality = binary(_truths(usable), scores_NL[usable_N, 0], threshold)
    else:
        quality = multiclass(_indices(usable, names), scores_NL[usable_N])
    return replace(quality, notes=(*_left_out(known_N, scored_N), *quality.notes))


def binary(labels_N: NDArray[np.bool_], scores_N: NDArray[np.float64], threshold: float) -> Quality:
    """Compute the metrics for one score per record, without NaN; high scores predict true.

    Raises:
        ValueError: if there is no record.
    """
    _require(len(labels_N))
    auc, notes = _auc(labels_N, scores_N), []
    if auc is None:
        notes.append(f"{ONE_CLASS}, but all records have label {str(bool(labels_N[0])).lower()}")
    loss = None
    if scores_N.min() >= 0 and scores_N.max() <= 1:
        loss = _log_loss(np.where(labels_N, scores_N, 1 - scores_N))
    else:
        notes.append(f"{NOT_PROBABILITIES} (range {scores_N.min():g} to {scores_N.max():g})")
    accuracy = float(((scores_N >= threshold) == labels_N).mean())
    return Quality(len(labels_N), accuracy, loss, auc, tuple(notes), threshold)


def multiclass(labels_N: NDArray[np.intp], scores_NL: NDArray[np.float64]) -> Quality:
    """Compute the metrics for one score per label, without NaN; of equal highest scores, the first is predicted.

    Raises:
        ValueError: if there is no record.
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
            notes.append(f"AUC is the mean over {len(occurring)} of {scores_NL.shape[1]} labels; the others are absent")
    else:
        notes.append(f"{ONE_CLASS}, but all records have label {occurring[0]}")
    loss = None
    if _are_distributions(scores_NL):
        loss = _log_loss(given_N)
    else:
        notes.append(f"{NOT_PROBABILITIES} that sum to 1 for every record")
    return Quality(len(labels_N), float((predicted_N == labels_N).mean()), loss, auc, tuple(notes))


def _auc(labels_N: NDArray[np.bool_], scores_N: NDArray[np.float64]) -> float | None:
    """Return the share of (true, false) pairs in which the true record has the higher score; None without pairs.

    A pair with equal scores counts as ½.

    Source: Mann and Whitney (1947), U from the mean ranks, divided by the number of pairs.
    """
    trues = int(labels_N.sum())
    pairs = trues * (len(labels_N) - trues)
    if not pairs:
        return None
    _, index_N, size_U = np.unique(scores_N, return_inverse=True, return_counts=True)
    rank_U = np.cumsum(size_U) - (size_U - 1) / 2
    return float((rank_U[index_N][labels_N].sum() - trues * (trues + 1) / 2) / pairs)


def _log_loss(given_N: NDArray[np.float64]) -> float:
    """Return −mean(ln p) of the true labels' probabilities, clipped to [ε, 1 − ε] with the epsilon of a double."""
    epsilon = np.finfo(np.float64).eps
    return float(-np.log(given_N.clip(epsilon, 1 - epsilon)).mean())


def _are_distributions(scores_NL: NDArray[np.float64]) -> bool:
    """Return whether every row contains probabilities that sum to 1, up to rounding in single precision."""
    tolerance = float(np.sqrt(np.finfo(np.float32).eps))
    inside = bool(scores_NL.min() >= 0 and scores_NL.max() <= 1)
    return inside and bool(np.allclose(scores_NL.sum(axis=1), 1, rtol=tolerance, atol=0))


def _require(count: int) -> None:
    if not count:
        raise ValueError("no record has both a label and a score")


def _known(label: str | int | float | bool | None) -> bool:
    return label is not None and not (isinstance(label, float) and isnan(label))


def _normalized(label: str | int | float | bool | None) -> str:
    """Return a normalized spelling, so that labels and names can be compared.

    >>> _normalized(True), _normalized("False"), _normalized(3.0), _normalized("3"), _normalized(" <=50K")
    ('true', 'false', '3', '3', '<=50K')
    """
    spelling = str(label).strip()
    is_boolean = spelling.lower() in {"true", "false"}
    return spelling.lower() if is_boolean else re.sub(r"^(-?\d+)\.0+$", r"\1", spelling)


def _truths(labels: Sequence[str]) -> NDArray[np.bool_]:
    for label in labels:
        if label not in TRUE + FALSE:
            raise ValueError(f"label {label!r}: expected 1, 0, true or false, since the model has one score")
    return np.array([label in TRUE for label in labels], dtype=np.bool_)


def _indices(labels: Sequence[str], names: Sequence[str]) -> NDArray[np.intp]:
    """Return the column of each label; labels are either all names or all indices."""
    columns = {_normalized(name): i for i, name in enumerate(names)}
    if not any(label in columns for label in labels):
        columns = {str(i): i for i in range(len(names))} | ({"false": 0, "true": 1} if len(names) == 2 else {})
    for label in labels:
        if label not in columns:
            allowed = listed(map(repr, dict.fromkeys([*names, *columns])))
            raise ValueError(f"label {label!r}: expected one of {allowed}")
    return np.array([columns[label] for label in labels], dtype=np.intp)


def _left_out(known_N: NDArray[np.bool_], scored_N: NDArray[np.bool_]) -> list[str]:
    """Return a note on records without a label or score; empty if there are none."""
    unknown, unscored = int((~known_N).sum()), int((known_N & ~scored_N).sum())
    parts = [f"{count} without a {side}" for count, side in ((unknown, "label"), (unscored, "score")) if count]
    return [f"left out: {plural(unknown + unscored, 'record')}, {' and '.join(parts)}"] if parts else []
