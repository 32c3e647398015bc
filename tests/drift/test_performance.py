"""Model quality: scikit-learn's values, and special cases."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from runner.drift.performance import assess, binary, multiclass
from tests.golden import Golden

NO_RECORD = "no record has both a label and a score"
Vector = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def column(*scores: float) -> Vector:
    """Return the scores of a model with one output."""
    return np.array(scores).reshape(-1, 1)


def distributions(rng: np.random.Generator, rows: int, width: int, tied: bool) -> Vector:
    """Return rows that sum to 1, with few distinct values for ties."""
    weights = rng.integers(0, 4, (rows, width)) + (np.arange(width) == 0) if tied else rng.random((rows, width))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
def test_binary_equals_scikit_learn(tied: bool) -> None:
    """All metrics are equal for 200 random vectors; the ties include scores of exactly 0 and 1."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        size, threshold = rng.integers(2, 60), rng.random()
        labels = rng.random(size) < 0.4
        labels[:2] = True, False
        scores = rng.integers(0, 6, size) / 5 if tied else rng.random(size)
        quality = binary(labels, scores, threshold)
        assert quality.auc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert quality.log_loss == pytest.approx(log_loss(labels, scores), rel=1e-12)
        assert quality.accuracy == pytest.approx(accuracy_score(labels, scores >= threshold), abs=1e-12)
        assert quality.records == size
        assert not quality.notes


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("width", [3, 5])
def test_multiclass_equals_scikit_learn(width: int, tied: bool) -> None:
    """All metrics are equal for 80 random tables; AUC is the mean of each label against the rest."""
    rng = np.random.default_rng(width)
    for _ in range(80):
        size = int(rng.integers(width, 60))
        labels = rng.integers(0, width, size)
        labels[:width] = range(width)
        scores = distributions(rng, size, width, tied)
        quality = multiclass(labels, scores)
        expected = roc_auc_score(labels, scores, multi_class="ovr", average="macro")
        assert quality.auc == pytest.approx(expected, abs=1e-12)
        assert quality.log_loss == pytest.approx(log_loss(labels, scores), rel=1e-12)
        assert quality.accuracy == pytest.approx(accuracy_score(labels, scores.argmax(axis=1)), abs=1e-12)
        assert quality.records == size
        assert not quality.notes


def test_absent_labels_are_excluded_from_the_auc(golden: Golden) -> None:
    """The AUC is the mean over the other labels, and a note states this."""
    rng = np.random.default_rng(0)
    labels, scores = np.array([0, 2] * 20), distributions(rng, 40, 4, False)
    quality = multiclass(labels, scores)
    assert quality.auc == pytest.approx(np.mean([roc_auc_score(labels == i, scores[:, i]) for i in (0, 2)]), abs=1e-12)
    assert quality.log_loss == pytest.approx(log_loss(labels, scores, labels=range(4)), rel=1e-12)
    golden("\n".join(quality.notes))


def test_two_columns_equal_the_binary_case() -> None:
    """The columns 1 − p and p give the same metrics as p."""
    rng = np.random.default_rng(0)
    labels, p = rng.random(50) < 0.5, rng.integers(0, 9, 50) / 8
    two, one = multiclass(labels.astype(np.intp), np.column_stack([1 - p, p])), binary(labels, p, 0.5)
    assert (two.auc, two.log_loss) == pytest.approx((one.auc, one.log_loss), abs=1e-12)


def test_probabilities_may_have_single_precision() -> None:
    """Rows that sum to 1 within the precision of float32 are probabilities; scikit-learn warns."""
    rng = np.random.default_rng(0)
    labels, scores = np.arange(30) % 3, distributions(rng, 30, 3, False).round(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = log_loss(labels, scores)
    assert multiclass(labels, scores).log_loss == pytest.approx(expected, rel=1e-12)


def test_ties_count_half_and_the_log_loss_is_bounded() -> None:
    """Equal scores have AUC 0.5, a score equal to the threshold is positive, and -ln(epsilon) is the largest loss."""
    quality = binary(np.array([True, False]), np.array([0.5, 0.5]), 0.5)
    assert (quality.auc, quality.accuracy) == (0.5, 0.5)
    assert quality.log_loss == pytest.approx(np.log(2))
    assert binary(np.array([True]), np.array([0.0]), 0.5).log_loss == pytest.approx(-np.log(2.0**-52))


def test_first_of_equal_scores_is_predicted() -> None:
    """The accuracy prefers the first label in ties."""
    assert multiclass(np.array([0, 1]), np.full((2, 2), 0.5)).accuracy == 0.5


def test_one_class_has_no_auc(golden: Golden) -> None:
    """If only one label occurs, the AUC is None with a note; the log loss equals scikit-learn's."""
    one = binary(np.array([True, True]), np.array([0.2, 0.9]), 0.5)
    assert one.auc is None
    golden("\n".join(one.notes))
    assert one.log_loss == pytest.approx(log_loss([1, 1], [0.2, 0.9], labels=[0, 1]), rel=1e-12)
    several = multiclass(np.array([1, 1]), np.array([[0.2, 0.8, 0.0], [0.5, 0.4, 0.1]]))
    assert (several.auc, several.accuracy) == (None, 0.5)
    golden("\n".join(several.notes))


def test_scores_outside_0_to_1_have_no_log_loss(golden: Golden) -> None:
    """Log-odds have an AUC, but no log loss; a note states this."""
    odds = binary(np.array([True, False]), np.array([3.0, -2.0]), 0.0)
    assert (odds.auc, odds.accuracy, odds.log_loss) == (1.0, 1.0, None)
    golden("\n".join(odds.notes))
    infinite = binary(np.array([True, False]), np.array([np.inf, -np.inf]), 0.0)
    assert (infinite.auc, infinite.log_loss) == (1.0, None)
    for scores in ([[0.6, 0.6], [0.1, 0.9]], [[-0.5, 1.5], [0.1, 0.9]], [[np.inf, -np.inf], [0.1, 0.9]]):
        votes = multiclass(np.array([0, 1]), np.array(scores))
        assert votes.log_loss is None
        assert votes.auc is not None
        golden("\n".join(votes.notes))


def test_auc_of_many_records_is_precise() -> None:
    """The AUC of 200,000 records with ties equals scikit-learn's."""
    rng = np.random.default_rng(0)
    labels, scores = rng.random(200_000) < 0.3, rng.random(200_000).round(3)
    assert binary(labels, scores, 0.5).auc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize(
    "labels", [[1, 0], [1.0, 0.0], [True, False], ["1", "0"], ["true", "False"], [" 1 ", 0], ["1.0", "0.0"]]
)
def test_binary_labels_have_several_spellings(labels: Sequence[str | float | bool]) -> None:
    """A label of a single score is a number, a boolean, or a string of one of them."""
    assert assess(labels, column(0.9, 0.1), ["score"], 0.5).accuracy == 1


@pytest.mark.parametrize("label", [2, -1, 0.5, "yes", ""])
def test_invalid_binary_labels_are_refused(label: str | float, golden: Golden) -> None:
    """The error quotes the label."""
    with golden.raises(ValueError):
        assess([1, label], column(0.9, 0.1), ["score"], 0.5)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["no", "yes"], ["no", "yes"]),
        (["no", " yes"], ["no", " yes"]),
        ([0, 1], ["no", "yes"]),
        (["0", 1.0], ["no", "yes"]),
        ([False, True], ["no", "yes"]),
        ([False, True], ["False", "True"]),
        ([1, 2], ["1", "2"]),
        ([1.0, "2"], ["1", "2.0"]),
        ([1, 0], ["1", "0"]),
        ([True, False], ["True", "False"]),
    ],
)
def test_multiclass_labels_are_names_or_indices(labels: Sequence[str | float | bool], names: Sequence[str]) -> None:
    """Labels are names, also numeric ones; they are indices only if no label is a name."""
    assert assess(labels, np.array([[0.9, 0.1], [0.1, 0.9]]), names, 0.5).accuracy == 1


@pytest.mark.parametrize(
    ("labels", "names"), [([0, 3], "abc"), ([-1, 0], "abc"), (["a", 1], "abc"), ([1, 0], "123"), ([True, 0], "abc")]
)
def test_invalid_multiclass_labels_are_refused(
    labels: Sequence[str | float | bool], names: Sequence[str], golden: Golden
) -> None:
    """The error quotes a label that is neither a name nor an index."""
    with golden.raises(ValueError):
        assess(labels, np.full((2, 3), 1 / 3), names, 0.5)


def test_records_without_label_or_score_are_excluded(golden: Golden) -> None:
    """A note states their number."""
    labels = [1, 0, None, 1, None, float("nan")]
    quality = assess(labels, column(0.9, 0.1, 0.5, np.nan, np.nan, 0.5), ["score"], 0.5)
    assert (quality.records, quality.accuracy, quality.auc) == (2, 1.0, 1.0)
    golden("\n".join(quality.notes))
    golden("\n".join(assess([1, 0, 1], column(0.9, 0.1, np.nan), ["score"], 0.5).notes))


@pytest.mark.parametrize("labels", [[], [None], [1]])
@pytest.mark.parametrize("width", [1, 3])
def test_no_complete_record_is_an_error(labels: Sequence[int | None], width: int) -> None:
    """A record needs a label and a score."""
    with pytest.raises(ValueError, match=NO_RECORD):
        assess(labels, np.full((len(labels), width), np.nan), ["a", "b", "c"][:width], 0.5)
