"""The calibrated comparison: is there any drift beyond chance, and is it large enough to matter?

Two questions, two answers. Whether drift is detectable is told by a test of each feature's local attributions,
corrected for their number, at the level that a yearly number of false alarms allows. Whether it is material is told by
the effects: how much of the attention changed hands, and how much all attribution together has grown or shrunk.

Array letters: N reference records, M live records, D features, P permutations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from runner.domain import Attributions, plural
from runner.drift import null
from runner.drift.alarm import Alarm
from runner.drift.holm import holm
from runner.drift.kolmogorov import critical, smirnov
from runner.drift.ndcg import ndcg
from runner.drift.shares import mass, rank, share, share_moved
from runner.drift.verdict import match_features, match_labels
from runner.finding import Effect, FeatureDrift, Finding, LabelFinding, Level

NOISE = 0.99
"""Of the divisions by chance that stay within what is told as noise."""


@dataclass(frozen=True)
class Detector:
    """The rule by which a window is judged.

    Attributes:
        alarm: how many false alarms a year are accepted.
        min_rows: a side with fewer records supports no finding.
        material, severe: the shares of the attention from which a drift is a warning, and a violation.
        material_mass, severe_mass: the same for all attribution together, as log2 of its growth, either way.
        permutations: divisions by chance that effects are held against.
        seed: draws them.
    """

    alarm: Alarm
    min_rows: int
    material: float
    severe: float
    material_mass: float
    severe_mass: float
    permutations: int
    seed: int

    def find(self, reference: Attributions, live: Attributions, agg_method: str, window: timedelta) -> Finding:
        """Return what the live local attributions say beside those of the reference.

        Args:
            reference: the records that baselining kept.
            live: those of the window.
            agg_method: how local attributions become global ones.
            window: its length.

        Raises:
            FeatureMismatch: when a feature exists on one side only.
        """
        match_features(reference.names, live.names)
        pairs = match_labels(reference.labels, live.labels)
        before, now = _local(reference, live.names, tuple(pairs.values())), _local(live, live.names, tuple(pairs))
        N, M, tests = len(reference.phi_NDL), len(live.phi_NDL), len(live.names) * len(pairs)
        significance = self.alarm.level(window)
        if not pairs or min(N, M) < self.min_rows:
            rows = plural(min(N, M), "record")
            note = f"{rows} are too few to tell drift from chance: drift.min_rows={self.min_rows}"
            return Finding(
                Level.INSUFFICIENT_DATA, Level.INSUFFICIENT_DATA, N, M, significance, 1.0, (), (note,) if pairs else ()
            )
        tested = smirnov(np.hstack(before), np.hstack(now))
        p_LD = holm(tested.p_D).reshape(len(pairs), -1)
        distance_LD = tested.distance_D.reshape(len(pairs), -1)
        rng = np.random.default_rng(self.seed)
        labels = []
        for i, (label, matched) in enumerate(pairs.items()):
            effects = self._effects(before[i], now[i], agg_method, rng)
            features = _features(live.names, before[i], now[i], agg_method, distance_LD[i], p_LD[i])
            p = float(p_LD[i].min())
            level = self._level(p <= significance, *effects[:2])
            labels.append(LabelFinding(label, matched, level, p, *effects, features))
        worst = max((found.level for found in labels), key=lambda level: level.order)
        return Finding(worst, worst, N, M, significance, self.smallest(N, M, tests, window), tuple(labels))

    def smallest(self, kept: int, rows: int, tests: int, window: timedelta) -> float:
        """Return the smallest distance of a feature's distributions that a window of so many records can show.

        Args:
            kept: records of the reference.
            rows: records of the window.
            tests: features times labels.
            window: its length.
        """
        return critical(kept, rows, self.alarm.level(window) / tests)

    def _level(self, detectable: bool, moved: Effect, grown: Effect) -> Level:
        if not detectable:
            return Level.NONE
        sizes = [(moved, self.material, self.severe), (grown, self.material_mass, self.severe_mass)]
        if any(_beyond(effect, severe) for effect, _, severe in sizes):
            return Level.VIOLATION
        return Level.WARNING if any(_beyond(effect, material) for effect, material, _ in sizes) else Level.INFO

    def _effects(
        self, before_ND: NDArray[np.float64], now_MD: NDArray[np.float64], agg_method: str, rng: np.random.Generator
    ) -> tuple[Effect, Effect, Effect]:
        """Return share moved, mass and nDCG beside what chance does to them."""
        seen = null.observed(before_ND, now_MD, agg_method)
        chance = null.permuted(before_ND, now_MD, agg_method, self.permutations, rng)
        return (
            _effect(share_moved, seen, chance, np.positive, np.positive),
            _effect(mass, seen, chance, np.abs, np.positive),
            _effect(ndcg, seen, chance, _short_of_one, _short_of_one),
        )


Map = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _effect(figure: Callable[..., float], seen: null.Pair, chance: null.Pair, outness: Map, inverse: Map) -> Effect:
    """Return a figure beside what chance does to it.

    Args:
        figure: of the global attributions of both sides.
        seen: those that were observed, and `chance` those of the divisions.
        chance: see there.
        outness: how far out a value of the figure is; `inverse` gives the value that is so far out.
        inverse: see there.
    """
    value = figure(*seen)
    if not np.isfinite(value):
        return Effect(None, None, None)
    null_P = np.array([figure(*division) for division in zip(*chance, strict=True)])
    out_P = np.nan_to_num(outness(null_P), nan=0.0)
    noise = float(inverse(np.array(np.quantile(out_P, NOISE))))
    return Effect(value, noise, null.p_value(float(outness(np.array(value))), out_P))


def _short_of_one(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 - values


def _beyond(effect: Effect, size: float) -> bool:
    """Return whether an effect is of a size, and beyond what chance does."""
    if effect.value is None or effect.noise is None:
        return False
    return abs(effect.value) >= size and abs(effect.value) > effect.noise


def _local(attributions: Attributions, names: tuple[str, ...], labels: tuple[str, ...]) -> list[NDArray[np.float64]]:
    """Return the local attributions_ND of each label, features in the order of `names`."""
    places = [attributions.names.index(name) for name in names]
    return [attributions.phi_NDL[:, places, attributions.labels.index(label)] for label in labels]


def _features(
    names: tuple[str, ...],
    before_ND: NDArray[np.float64],
    now_MD: NDArray[np.float64],
    agg_method: str,
    distance_D: NDArray[np.float64],
    p_D: NDArray[np.float64],
) -> tuple[FeatureDrift, ...]:
    seen = null.observed(before_ND, now_MD, agg_method)
    columns = [
        *seen,
        *map(share, seen),
        *map(rank, seen),
        np.median(before_ND, axis=0),
        np.median(now_MD, axis=0),
        distance_D,
        p_D,
    ]
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    return tuple(FeatureDrift(*row) for row in rows)
