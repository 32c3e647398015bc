"""Likely causes of changed categories: new, vanished, renamed, exchanged and merged ones, and other spellings."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from runner.drift.counts import categories, hypergeometric, unseen_by_chance
from runner.drift.histograms import format_value

SIGNIFICANCE = 0.01
"""Significance level at which transformed reference values differ from the live ones."""
CLEAR = 1e-3
"""Significance level of a single value or category that is stated."""
NOTABLE = 0.03
"""Smallest stated change of the share of missing values, of a value or of a category."""
HALF_PER_CENT = 0.005
"""Smallest share that is not rounded to 0 %."""
MOST_NAMES = 3
"""Maximum number of categories that a cause names."""
PLAUSIBLE = 0.05
"""Significance level from which the shares of categories may be equal, because their test is conservative."""
SIMILAR = 0.7
"""Smallest ratio of the share of a new category to that of the one that it replaces; the largest one is its inverse."""


TRUTH = dict.fromkeys(("true", "t", "yes", "y", "1.0"), "1") | dict.fromkeys(("false", "f", "no", "n", "0.0"), "0")
"""Truth values by their spellings."""


@dataclass(frozen=True)
class ChangedCategories:
    """Share of each category on both sides, and the numbers of records."""

    before: Mapping[str, float]
    now: Mapping[str, float]
    rows: tuple[int, int]
    raw: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, before: pl.Series, now: pl.Series) -> ChangedCategories:
        """Return the categories of both sides, which are not missing."""
        sides = [pl.Series([format_value(value) for value in side.to_list()]) for side in (before, now)]
        shares = [dict(side.alias("value").value_counts(name="count").sort("value").iter_rows()) for side in sides]
        before_share, now_share = (
            {name: count / len(side) for name, count in share.items()}
            for share, side in zip(shares, sides, strict=True)
        )
        raw = {format_value(value): str(value) for side in (before, now) for value in side.unique().to_list()}
        return cls(before_share, now_share, (len(before), len(now)), raw)

    def cause(self) -> str | None:
        """Describe the change; None if it is not clear."""
        return self._spelling() or self.moved()

    def change(self, name: str) -> float:
        """Return the change of a category's share."""
        return self.now.get(name, 0.0) - self.before.get(name, 0.0)

    def _is_clear(self, name: str) -> bool:
        """Return whether the share of a category changed notably, and more than by chance."""
        p = self._p(self.before.get(name, 0.0), self.now.get(name, 0.0))
        return p < CLEAR and abs(self.change(name)) >= NOTABLE

    def _spelling(self) -> str | None:
        """Describe new categories that are known ones in another spelling."""
        new = {name: share for name, share in self.now.items() if name not in self.before}
        total = sum(new.values())
        if total < NOTABLE:
            return None
        for kind, normal in SPELLINGS.items():
            known = {normal(self.raw[name]): name for name in self.before}
            matched = {name: share for name, share in new.items() if normal(self.raw[name]) in known}
            part = sum(matched.values())
            if part >= 0.9 * total:
                example = max(matched, key=lambda name: (matched[name], name))
                return f"{kind} in {part:.0%} of the records: {example} for {known[normal(self.raw[example])]}"
        return None

    def moved(self) -> str | None:
        """Describe new and vanished categories, exchanged ones, or the one whose share changed most."""
        names = {*self.before, *self.now}
        new = sorted((n for n in names if n not in self.before), key=lambda n: (-self.now[n], n))
        gone = sorted((n for n in names if n not in self.now and self._is_clear(n)), key=lambda n: (-self.before[n], n))
        if gone:
            return self._vanished(gone, new)
        if unseen := self._unseen(new):
            return unseen
        if exchanged := self.exchanged():
            return exchanged
        return self.largest() if any(map(self._is_clear, names)) else None

    def _unseen(self, new: Sequence[str]) -> str | None:
        """Describe new categories if there are notably more than expected without drift, the frequent ones first."""
        counts = [round(share * self.rows[0]) for share in self.before.values()]
        unseen = sum(self.now[name] for name in new)
        expected, chance = unseen_by_chance(counts.count(1), counts.count(2), self.rows)
        if unseen - expected < max(NOTABLE, chance):
            return None
        usual = f" ({expected:.0%} expected)" if expected >= HALF_PER_CENT else ""
        shown = ", ".join(new[:MOST_NAMES])
        return f"{unseen:.0%} of the records have values that are not in the reference{usual}, such as {shown}"

    def exchanged(self) -> str | None:
        """Describe two categories that exchanged their shares; the others are unchanged."""
        first, second = self._extremes()
        if min(-self.change(first), self.change(second)) < NOTABLE or self.p(self.now) >= CLEAR:
            return None
        if self.p({**self.now, first: self.now.get(second, 0.0), second: self.now.get(first, 0.0)}) <= PLAUSIBLE:
            return None
        shares = [f"{side.get(name, 0.0):.0%}" for name in (first, second) for side in (self.before, self.now)]
        fallen, grown = " to ".join(shares[:2]), " to ".join(shares[2:])
        return f"{first} fell from {fallen} and {second} rose from {grown}: values swapped?"

    def largest(self) -> str:
        """Describe the category whose share grew most, or fell most if the growth of none is clear."""
        fallen, grown = self._extremes()
        name = grown if self._is_clear(grown) or not self._is_clear(fallen) else fallen
        share = f"{self.now.get(name, 0):.0%} of the records have the value {name}"
        return f"{share} ({self.before.get(name, 0):.0%} in the reference)"

    def _extremes(self) -> tuple[str, str]:
        """Return the categories whose shares fell most and grew most."""
        names = sorted({*self.before, *self.now})
        return min(names, key=self.change), max(names, key=self.change)

    def _vanished(self, gone: Sequence[str], new: Sequence[str]) -> str:
        """Describe categories that no longer occur, and the new or grown category that may replace them."""
        first, lost = gone[0], self.before[gone[0]]
        others = " no longer occurs" if len(gone) == 1 else f" and {len(gone) - 1} more no longer occur"
        text = f"{first} ({lost:.0%} of the reference){others}"
        if new and self.now[new[0]] >= NOTABLE:
            return f"{text}; {new[0]} ({self.now[new[0]]:.0%}) is new{self._renaming(gone, self.now[new[0]])}"
        grown = max(self.now, key=lambda name: (self.change(name), name))
        share = self.before.get(grown, 0.0)
        merged, scaled = share + lost, share / (1 - lost) if lost < 1 else 0.0
        if self._p(scaled, self.now[grown]) < SIGNIFICANCE < self._p(merged, self.now[grown]):
            return f"{text}; {grown} rose from {share:.0%} to {self.now[grown]:.0%}: merged?"
        return text

    def _renaming(self, gone: Sequence[str], share: float) -> str:
        """Return how a new category with this share may replace vanished categories; empty if it is unlikely."""
        lost, total = self.before[gone[0]], sum(self.before[name] for name in gone)
        if share <= SIMILAR * lost:
            return ": renamed in part?"
        if (share < lost / SIMILAR or self._p(lost, share) > CLEAR) and self._is_renamed(gone):
            return ": renamed?"
        return ": merged?" if self._p(total, share) > SIGNIFICANCE else ""

    def _is_renamed(self, gone: Sequence[str]) -> bool:
        """Return whether the new categories and the vanished ones have the same shares, in descending order."""
        if len(gone) == 1:
            return True
        lost = sorted((share for name, share in self.before.items() if name not in self.now), reverse=True)
        new = sorted((share for name, share in self.now.items() if name not in self.before), reverse=True)
        sides = [{f"{i:05d}": share for i, share in enumerate(side)} | {"": 1 - sum(side)} for side in (lost, new)]
        return ChangedCategories(sides[0], sides[1], self.rows).p(sides[1]) > SIGNIFICANCE

    def p(self, now: Mapping[str, float]) -> float:
        """Return the p-value of the difference between these shares of the live records and the reference."""
        names = sorted({*self.before, *now})
        sides = zip((self.before, now), self.rows, strict=True)
        counts = [np.array([round(side.get(name, 0.0) * rows) for name in names]) for side, rows in sides]
        return categories(counts[0], counts[1])

    def _p(self, before: float, now: float) -> float:
        """Return the p-value of the difference of two shares of the records."""
        counts = round(before * self.rows[0]), round(now * self.rows[1])
        return hypergeometric(counts[1], sum(counts), self.rows[1], sum(self.rows))


def _number(name: str) -> str:
    """Return a numeric category in one format, with a decimal point."""
    try:
        return repr(float(name.replace(",", ".")))
    except ValueError:
        return name


def _visible(name: str) -> str:
    """Return a category without blanks at its ends, and without invisible characters."""
    return "".join(each for each in name if unicodedata.category(each) != "Cf").strip()


def _decoded(name: str) -> str:
    """Return a category whose UTF-8 was read as Latin-1 or Windows-1252."""
    for encoding in ("latin-1", "cp1252"):
        try:
            return name.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return name


def truth(name: str) -> str:
    """Return a truth value as 0 or 1."""
    return TRUTH.get(name.casefold(), name)


SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "leading or trailing blanks": str.strip,
    "invisible characters or blanks": _visible,
    "quotes": lambda name: name.strip("'\""),
    "another letter case": str.casefold,
    "another number format": _number,
    "another form of truth values": truth,
    "another Unicode form": lambda name: unicodedata.normalize("NFKC", name),
    "another character encoding": _decoded,
    "another letter case and blanks": lambda name: _visible(name).casefold(),
}
"""Functions that return equal values for the spellings of a category."""
