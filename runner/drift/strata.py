"""Samples of a window: a random sample, and the records with values far outside the reference's range.

A random sample misses rare extreme records, although they may dominate the mean attributions. The values of all records
are known, however. Records with values far outside the reference's range are a stratum of their own, which is explained
completely, or at least by as many records as fit. Tests use the random sample only, effects are stratified estimates.

Array letters: M records of a window, X explained records, D features, L labels.

Source: Cochran (1977), "Sampling Techniques", chapter 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.drift import InputResult

MOST_FAR = 1_000
"""Maximum number of far records that are explained in addition to those in the random sample."""
MOST_TESTED = 100_000
"""Maximum number of records whose inputs are tested if only some records are explained."""
LARGEST_SHARE = 0.1
"""Share of records with far values of a feature above which a random sample represents them well."""
ORDINARY = 2.0
"""Factor of the expected share of unseen categories up to which they are ordinary."""


@dataclass(frozen=True)
class Strata:
    """The two strata of a window: records with far values, and all others.

    Attributes:
        far_X: whether an explained record is a far one; both strata have explained records.
        far, rest: number of all records of each stratum.
    """

    far_X: NDArray[np.bool_]
    far: int
    rest: int

    @property
    def weight_X(self) -> NDArray[np.float64]:
        """Number of records of the window that each explained record represents."""
        explained = int(self.far_X.sum())
        return np.where(self.far_X, self.far / explained, self.rest / (len(self.far_X) - explained))

    def mean(self, values_XD: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the estimated means over the window."""
        means = [share * values_XD[rows].mean(axis=0) for share, rows in self._parts()]
        return np.asarray(means[0] + means[1])

    def covariance(self, values_XD: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the covariance of the estimated means, given the window."""
        D = values_XD.shape[1]
        covariance_DD = np.zeros((D, D))
        for size, (share, rows) in zip((self.far, self.rest), self._parts(), strict=True):
            count = int(rows.sum())
            if 1 < count < size:
                part_DD = np.cov(values_XD[rows], rowvar=False).reshape(D, D)
                covariance_DD += share**2 * part_DD * (1 - count / size) / count
        return covariance_DD

    def _parts(self) -> Iterator[tuple[float, NDArray[np.bool_]]]:
        yield self.far / (self.far + self.rest), self.far_X
        yield self.rest / (self.far + self.rest), ~self.far_X


@dataclass(frozen=True)
class WholeWindow:
    """A window in which only some records are explained.

    Attributes:
        features: values of all records, or of `MOST_TESTED` random ones if there are more.
        far, rest: number of records with far values, and of all others.
        far_X: whether an explained record has far values.
        random: number of explained records that are the random sample; they are the first ones.
        inputs: results of the tests of the values, if they are known from a smaller sample.
    """

    features: pl.DataFrame
    far: int
    rest: int
    far_X: NDArray[np.bool_]
    random: int
    inputs: tuple[InputResult, ...] = ()

    @property
    def strata(self) -> Strata | None:
        """The strata; None if only one of them has explained records."""
        if not 0 < self.far_X.sum() < len(self.far_X):
            return None
        return Strata(self.far_X, self.far, self.rest)

    def rows(self, all_M: NDArray[np.intp], explained_X: NDArray[np.intp]) -> WholeWindow:
        """Return the window restricted to some of its records and of the explained ones, by ascending indices."""
        far_X = self.far_X[explained_X]
        far = round(self.far * far_X.sum() / max(1, self.far_X.sum()))
        total = round((self.far + self.rest) * len(all_M) / max(1, len(self.features)))
        random = int((explained_X < self.random).sum())
        return WholeWindow(self.features[all_M], far, max(0, total - far), far_X, random, self.inputs)


@dataclass(frozen=True)
class Sample:
    """The records of a window to explain.

    Attributes:
        rows_X: their indices, those of the random sample first; None for all records in their order.
        random: number of records of the random sample.
    """

    rows_X: NDArray[np.intp] | None
    random: int


@dataclass(frozen=True)
class Sampling:
    """A random order of the records of a window, and its far records.

    Attributes:
        order_M: indices of all records in random order; None if all records are explained at once.
        far_M: whether a record has far values.
        most: maximum number of records to explain.
        sorted: whether a sample has the records in their original order.
    """

    order_M: NDArray[np.intp] | None
    far_M: NDArray[np.bool_]
    most: int
    sorted: bool

    def whole(self, features: pl.DataFrame, sample: Sample) -> WholeWindow | None:
        """Return the window if only some of its records are explained.

        Args:
            features: values of all records.
            sample: the explained records.
        """
        if sample.rows_X is None or self.order_M is None or len(sample.rows_X) == len(self.far_M):
            return None
        tested = features if len(features) <= MOST_TESTED else features[self.order_M[:MOST_TESTED]]
        far = int(self.far_M.sum())
        return WholeWindow(tested, far, len(self.far_M) - far, self.far_M[sample.rows_X], sample.random)

    def sample(self, rows: int) -> Sample:
        """Return a random sample of a size, and far records in addition: at most as many, and at most `MOST_FAR`."""
        if self.order_M is None or rows >= len(self.order_M):
            return Sample(None if self.order_M is None else self._ordered(self.order_M), rows)
        far_first = self.order_M[self.far_M[self.order_M]][: min(MOST_FAR, rows // 2 if rows == self.most else rows)]
        is_chosen_M = np.zeros(len(self.far_M), dtype=bool)
        is_chosen_M[far_first] = True
        others = np.cumsum(~is_chosen_M[self.order_M])
        rows = min(rows, int(np.searchsorted(others, self.most - len(far_first), "right")))
        random = self.order_M[:rows]
        is_chosen_M[random] = False
        return Sample(np.concatenate([self._ordered(random), far_first[is_chosen_M[far_first]]]), rows)

    def _ordered(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.sort(rows) if self.sorted else rows


def far_records(before: pl.DataFrame, now: pl.DataFrame) -> NDArray[np.bool_]:
    """Return which records have values far outside the reference's range, in features in which few records have them.

    Far are numbers that are farther outside of the range than the range is wide, categories that are not in the
    reference, and missing values of features that are never missing there. Unseen categories are not far if the
    reference lets expect them: the share of records with an unseen category is about the share of the reference
    records whose category is unique.

    Args:
        before: records of the reference.
        now: all records of the window, with the same columns.

    Source: Good (1953), "The population frequencies of species and the estimation of population parameters".
    """
    far_M = np.zeros(now.height, dtype=bool)
    for name in now.columns:
        is_far = _far(before[name], now[name])
        if _ordinary_share(before[name]) < is_far.sum() / max(1, now.height) <= LARGEST_SHARE:
            far_M |= is_far.to_numpy()
    return far_M


def far_scores(before_NL: NDArray[np.float64], now_ML: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which records have captured scores far outside the reference's range; NaN is no such score."""
    low_L, high_L = before_NL.min(axis=0), before_NL.max(axis=0)
    far_ML = (now_ML > 2 * high_L - low_L) | (now_ML < 2 * low_L - high_L)
    rare_L = far_ML.mean(axis=0) <= LARGEST_SHARE
    far_M: NDArray[np.bool_] = far_ML[:, rare_L].any(axis=1)
    return far_M


def _far(before: pl.Series, now: pl.Series) -> pl.Series:
    """Return which values are far; none if the types differ, which all records of a window have in common."""
    known = before.drop_nulls()
    if known.dtype.is_numeric() != now.dtype.is_numeric() or known.is_empty():
        return pl.repeat(value=False, n=len(now), dtype=pl.Boolean, eager=True)
    if known.dtype.is_numeric():
        numbers = known.cast(pl.Float64)
        low, high = float(numbers.min()), float(numbers.max())  # type: ignore[arg-type]
        values = now.cast(pl.Float64)
        is_far = (values > 2 * high - low) | (values < 2 * low - high)
    else:
        is_far = ~now.cast(pl.String).is_in(known.cast(pl.String).unique().to_list())
    return is_far.fill_null(before.null_count() == 0)


def _ordinary_share(before: pl.Series) -> float:
    """Return the share of records up to which unseen categories are ordinary; 0 for numbers."""
    if before.dtype.is_numeric():
        return 0.0
    return ORDINARY * int(before.drop_nulls().is_unique().sum()) / max(1, len(before))
