"""Other detectors of drift, each by its default rule and at a given false-alarm level.

Inputs are tables of the reference and of the live records; only the rule of SageMaker sees attributions. Tests compare
their p-value with the level. Other statistics get the limit that this share of windows without drift exceeds.

Array letters: N reference records, M live records, K pooled records, W windows, B bins, P permutations.

Source: Gretton et al. (2012), "A kernel two-sample test"; Lopez-Paz and Oquab (2017), "Revisiting classifier two-sample
tests"; Siddiqi (2006), "Credit Risk Scorecards", for the population stability index and its limit of 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.worlds import World
from runner.domain.attributions import Explained
from runner.drift.ranking import ndcg

NAMES = ("nDCG", "PSI", "JS", "KS/χ²", "MMD", "classifier")
DEFAULTS = {"nDCG": 0.1, "PSI": 0.2, "JS": 0.1, "KS/χ²": 0.05, "MMD": 0.05, "classifier": 0.65}
"""Limits of 1 − nDCG, PSI, JS distance, p-values (KS/χ² with Bonferroni's correction, MMD), and AUC."""
QUANTILES = 10
TINY = 1e-4
"""Share of an empty bin."""
FIRST, MOST = 499, 9_999
"""Permutations after which an MMD test may stop without significance, and their maximum."""
WINDOWS = 500
"""Windows without drift with the same reference, for the limits."""


class Column(NamedTuple):
    """Values of a feature on both sides: numbers with NaN for missing ones, or strings."""

    numeric: bool
    before: NDArray[np.generic]
    now: NDArray[np.generic]


class Seen(NamedTuple):
    """Whether a detector sees an incident by default, and at the level of ours."""

    default: bool
    matched: bool


def columns(before: pl.DataFrame, now: pl.DataFrame) -> list[Column]:
    """Return the features; one that is not numeric on both sides becomes a category."""
    found = []
    for name in before.columns:
        sides = before[name], now[name]
        numeric = all(side.dtype.is_numeric() for side in sides)
        filled = [
            side.cast(pl.Float64).fill_null(np.nan).to_numpy()
            if numeric
            else side.cast(pl.String).fill_null("missing").to_numpy().astype(str)
            for side in sides
        ]
        found.append(Column(numeric, *filled))
    return found


class Binned(NamedTuple):
    """Bins of all features of both sides, numbered across features, and the first bin of each feature."""

    before_ND: NDArray[np.intp]
    now_MD: NDArray[np.intp]
    starts_D: NDArray[np.intp]
    bins: int


def binned(features: list[Column]) -> Binned:
    """Return bins: quantiles of the reference and one for missing values, or categories."""
    before, now, starts, total = [], [], [], 0
    for feature in features:
        if feature.numeric:
            reference_N = feature.before[~np.isnan(feature.before)]
            inner = np.arange(1, QUANTILES if len(reference_N) else 1) / QUANTILES
            edges = np.unique(np.quantile(reference_N, inner)) if len(inner) else inner
            index = [
                np.where(np.isnan(side), len(edges) + 1, np.searchsorted(edges, side))
                for side in (feature.before, feature.now)
            ]
            count = len(edges) + 2
        else:
            names, both = np.unique(np.concatenate([feature.before, feature.now]), return_inverse=True)
            index, count = [both[: len(feature.before)], both[len(feature.before) :]], len(names)
        starts.append(total)
        before.append(index[0] + total)
        now.append(index[1] + total)
        total += count
    return Binned(np.column_stack(before), np.column_stack(now), np.array(starts), total)


def psi(before_B: NDArray[np.float64], now_WB: NDArray[np.float64], starts_D: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the largest population stability index of a feature in each window, from shares of bins."""
    p, q = before_B.clip(TINY), now_WB.clip(TINY)
    either = (before_B > 0) | (now_WB > 0)
    index_WD = np.add.reduceat(np.where(either, (q - p) * np.log(q / p), 0), starts_D, axis=1)
    return np.asarray(index_WD.max(axis=1))


def js(before_B: NDArray[np.float64], now_WB: NDArray[np.float64], starts_D: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the largest Jensen-Shannon distance (base 2) of a feature in each window, from shares of bins."""
    middle_WB = (before_B + now_WB) / 2

    def divergence(shares: NDArray[np.float64]) -> NDArray[np.float64]:
        safe = np.where(shares > 0, shares, 1)
        return np.where(shares > 0, shares * np.log2(safe / np.where(middle_WB > 0, middle_WB, 1)), 0)

    both_WB = (divergence(np.broadcast_to(before_B, now_WB.shape)) + divergence(now_WB)) / 2
    return np.asarray(np.sqrt(np.add.reduceat(both_WB, starts_D, axis=1).clip(min=0).max(axis=1)))


def shares(index_WMD: NDArray[np.intp], bins: int) -> NDArray[np.float64]:
    """Return the share of the records of each window in each bin."""
    W, M, _ = index_WMD.shape
    flat = (index_WMD + np.arange(W)[:, None, None] * bins).ravel()
    return np.asarray(np.bincount(flat, minlength=W * bins).reshape(W, bins) / M, dtype=np.float64)


@dataclass(frozen=True)
class Rivals:
    """The detectors for one population, and one size of the window.

    Attributes:
        level: false-alarm rate of each detector.
        limits: limits of nDCG, PSI and JS at this level.
        false_alarms: rates of false alarms of the default rules; that of the tests is their level.
    """

    level: float
    limits: Mapping[str, float]
    false_alarms: Mapping[str, float]

    @classmethod
    def calibrated(cls, world: World, sizes: tuple[int, int], level: float, windows: int, seed: int) -> Rivals:
        """Return the detectors with limits from windows without drift of this population."""
        rng = np.random.default_rng([seed, 1])
        found: dict[str, list[NDArray[np.float64]]] = {"nDCG": [], "PSI": [], "JS": []}
        phi_ND = abs(world.explained.attributions.phi_NDL[:, :, 0])
        features = world.explained.features
        for _ in range(max(1, windows // WINDOWS)):
            order = rng.permutation(features.height)
            before, free = order[: sizes[0]], order[sizes[0] :]
            index_WM = np.array([rng.choice(free, sizes[1], replace=False) for _ in range(WINDOWS)])
            both = binned(columns(features[before], features))
            before_B = shares(both.before_ND[None], both.bins)[0]
            now_WB = shares(both.now_MD[index_WM], both.bins)
            found["PSI"].append(psi(before_B, now_WB, both.starts_D))
            found["JS"].append(js(before_B, now_WB, both.starts_D))
            means_WD = np.array([phi_ND[index_M].mean(axis=0) for index_M in index_WM])
            found["nDCG"].append(1 - ndcg(phi_ND[before].mean(axis=0), means_WD))
        drawn = {name: np.sort(np.concatenate(values))[::-1] for name, values in found.items()}
        limits = {name: float(values[int(level * len(values))]) for name, values in drawn.items()}
        rates = {name: float((values > DEFAULTS[name]).mean()) for name, values in drawn.items()}
        return cls(level, limits, rates | {name: DEFAULTS[name] for name in ("KS/χ²", "MMD")})

    def seen(self, before: Explained, now: Explained, seed: int) -> dict[str, Seen]:
        """Return which detectors see a change."""
        features = columns(before.features, now.features)
        both = binned(features)
        sides = (shares(index[None], both.bins)[0] for index in (both.before_ND, both.now_MD))
        before_B, now_B = sides
        phi = [abs(side.attributions.phi_NDL[:, :, 0]).mean(axis=0) for side in (before, now)]
        values = {
            "nDCG": float(1 - ndcg(*phi)),
            "PSI": float(psi(before_B, now_B[None], both.starts_D)[0]),
            "JS": float(js(before_B, now_B[None], both.starts_D)[0]),
        }
        seen = {name: Seen(value > DEFAULTS[name], value > self.limits[name]) for name, value in values.items()}
        x_KF = encoded(features)
        p = {"KS/χ²": marginal(features), "MMD": mmd(x_KF, len(both.before_ND))}
        seen |= {name: Seen(value <= DEFAULTS[name], value <= self.level) for name, value in p.items()}
        auc, chance = classifier(features, seed)
        return seen | {"classifier": Seen(auc > DEFAULTS["classifier"], chance <= self.level)}


def marginal(features: list[Column]) -> float:
    """Return the smallest p-value of Kolmogorov-Smirnov and χ² tests, with Bonferroni's correction."""
    from scipy import stats

    p: list[float] = []
    for feature in features:
        if feature.numeric:
            before, now = (side[~np.isnan(side)] for side in feature[1:])
            if len(before) and len(now):
                p.append(float(stats.ks_2samp(before, now, method="asymp").pvalue))
            counts = [np.bincount(np.isnan(side), minlength=2) for side in feature[1:]]
        else:
            names, both = np.unique(np.concatenate(feature[1:]), return_inverse=True)
            index = both[: len(feature.before)], both[len(feature.before) :]
            counts = [np.bincount(side, minlength=len(names)) for side in index]
        p.append(_chi2(np.array(counts, dtype=np.float64)))
    return min(1.0, min(p) * len(p))


def _chi2(counts_2B: NDArray[np.float64]) -> float:
    """Return the p-value of a χ² test; bins with an expected count below 5 are pooled."""
    from scipy import stats

    expected_B = counts_2B.sum(axis=0) * counts_2B.sum(axis=1).min() / counts_2B.sum()
    pooled = np.column_stack([counts_2B[:, expected_B >= 5], counts_2B[:, expected_B < 5].sum(axis=1)])
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    return float(stats.chi2_contingency(pooled, correction=False).pvalue) if pooled.shape[1] > 1 else 1.0


def encoded(features: list[Column]) -> NDArray[np.float64]:
    """Return the pooled records as numbers: standardised, missing values as indicators, categories as one-hot codes."""
    parts: list[NDArray[np.float64]] = []
    for feature in features:
        pooled_K = np.concatenate([feature.before, feature.now])
        if feature.numeric:
            missing_K, reference = np.isnan(pooled_K), feature.before[~np.isnan(feature.before)]
            centre, scale = (reference.mean(), reference.std() or 1.0) if len(reference) else (0.0, 1.0)
            parts.append(np.where(missing_K, 0, (pooled_K - centre) / scale))
            parts += [missing_K.astype(float)] if missing_K.any() else []
        else:
            parts += [(pooled_K == name).astype(float) for name in np.unique(pooled_K)]
    return np.column_stack(parts)


@lru_cache(maxsize=2)
def divisions(N: int, M: int) -> NDArray[np.float32]:
    """Return signed weights_PK of random divisions of the pooled records."""
    rng = np.random.default_rng(2)
    weights_K = np.repeat(np.array([1 / N, -1 / M], dtype=np.float32), [N, M])
    return np.stack([rng.permutation(weights_K) for _ in range(MOST)])


def mmd(x_KF: NDArray[np.float64], N: int) -> float:
    """Return the permutation p-value of the maximum mean discrepancy with a Gaussian kernel of median width."""
    squares_K = (x_KF**2).sum(axis=1)
    distance_KK = (squares_K[:, None] + squares_K - 2 * x_KF @ x_KF.T).clip(min=0)
    kernel_KK = np.exp(-distance_KK / np.median(distance_KK)).astype(np.float32)
    M = len(x_KF) - N
    observed_K = np.repeat(np.array([1 / N, -1 / M], dtype=np.float32), [N, M])
    observed = observed_K @ kernel_KK @ observed_K
    extreme, drawn = 0, 0
    for part in (slice(0, FIRST), slice(FIRST, MOST)):
        weights_PK = divisions(N, M)[part]
        null_P = ((weights_PK @ kernel_KK) * weights_PK).sum(axis=1)
        extreme, drawn = extreme + int((null_P >= observed).sum()), drawn + len(null_P)
        if extreme >= 10:
            break
    return (1 + extreme) / (1 + drawn)


def classifier(features: list[Column], seed: int) -> tuple[float, float]:
    """Return the AUC of boosted trees on records that they were not trained on, and its p-value.

    Each half of the records is scored by trees that were trained on the other half. The permutation distribution of an
    AUC is that of the Mann-Whitney statistic. The smaller p-value of the halves is doubled.
    """
    from scipy import stats
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng([seed, 3])
    parts = [np.concatenate(each[1:]) for each in features]
    x_KD = np.column_stack(
        [p if each.numeric else np.unique(p, return_inverse=True)[1] for p, each in zip(parts, features, strict=True)]
    ).astype(np.float64)
    live_K = np.repeat([False, True], [len(features[0].before), len(features[0].now)])
    first_K = np.zeros(len(live_K), dtype=bool)
    for side in (live_K, ~live_K):
        first_K[rng.permutation(np.flatnonzero(side))[: side.sum() // 2]] = True
    aucs, p = [], []
    for trained_K in (first_K, ~first_K):
        categories = [not feature.numeric and len(np.unique(x_KD[:, d])) <= 255 for d, feature in enumerate(features)]
        trees = HistGradientBoostingClassifier(
            max_iter=40, max_leaf_nodes=8, min_samples_leaf=10, categorical_features=categories, random_state=0
        )
        scores = trees.fit(x_KD[trained_K], live_K[trained_K]).decision_function(x_KD[~trained_K])
        live, before = scores[live_K[~trained_K]], scores[~live_K[~trained_K]]
        test = stats.mannwhitneyu(live, before, alternative="greater", method="asymptotic")
        aucs.append(float(test.statistic) / len(live) / len(before))
        p.append(float(test.pvalue))
    return float(np.mean(aucs)), min(1.0, 2 * min(p))


def oracle(known: tuple[pl.DataFrame, pl.DataFrame], before: pl.DataFrame, now: pl.DataFrame) -> float:
    """Return the p-value of a test that knows the incident: a bound of what any test of the inputs can see.

    Boosted trees learn the log-odds of a changed record from many other records, unchanged and changed. The test
    compares the mean log-odds of both sides, which is the most powerful test if they are right, by permutation.

    Source: Neyman and Pearson (1933), "On the problem of the most efficient tests of statistical hypotheses".
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    known_columns, tested = columns(*known), columns(before, now)
    parts = []
    for left, right in zip(known_columns, tested, strict=True):
        values = np.concatenate([*left[1:], *right[1:]])
        if left.numeric and right.numeric:
            parts.append(values.astype(np.float64))
        else:
            parts.append(np.unique(values.astype(str), return_inverse=True)[1].astype(np.float64))
    x_KD, rows = np.column_stack(parts), [len(side) for side in known]
    trees = HistGradientBoostingClassifier(max_iter=80, max_leaf_nodes=16, min_samples_leaf=20, random_state=0)
    trees.fit(x_KD[: sum(rows)], np.repeat([0, 1], rows))
    odds_K = trees.decision_function(x_KD[sum(rows) :]).astype(np.float32)
    N, M = len(before), len(now)
    observed = odds_K[N:].mean() - odds_K[:N].mean()
    null_P = -(divisions(N, M) @ odds_K)
    return float((1 + (null_P >= observed).sum()) / (1 + MOST))
