"""Likely causes of changed categories: new, vanished, exchanged and merged ones, and other spellings."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from runner.drift.counts import hypergeometric
from runner.drift.histograms import format_value

SIGNIFICANCE = 0.01
"""Significance level at which transformed reference values differ from the live ones."""
CLEAR = 1e-3
"""Significance level of a single value or category that is stated."""
NOTABLE = 0.03
"""Smallest stated change of the share of missing values, of a value or of a category."""
MOST_NAMES = 3
"""Maximum number of categories that a cause names."""


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
        """Describe new and vanished categories, exchanged ones, or the one whose share grew most."""
        names = {*self.before, *self.now}
        new = sorted((n for n in names if n not in self.before), key=lambda n: (-self.now[n], n))
        gone = sorted((n for n in names if n not in self.now and self._is_clear(n)), key=lambda n: (-self.before[n], n))
        unseen = sum(self.now[name] for name in new)
        if gone:
            return self._vanished(gone, new)
        if unseen >= NOTABLE:
            shown = ", ".join(new[:MOST_NAMES])
            return f"{unseen:.0%} of the records have values that are not in the reference, such as {shown}"
        clear = sorted(filter(self._is_clear, names), key=lambda n: (-abs(self.change(n)), n))
        if not clear:
            return None
        if len(clear) == 2 and self._exchanged(*clear):
            return f"the shares of {clear[0]} and {clear[1]} are exchanged: values swapped?"
        grown = max(clear, key=self.change)
        first = grown if self.change(grown) > 0 else clear[0]
        share = f"{self.now.get(first, 0):.0%} of the records have the value {first}"
        return f"{share} ({self.before.get(first, 0):.0%} in the reference)"

    def _vanished(self, gone: Sequence[str], new: Sequence[str]) -> str:
        """Describe categories that no longer occur, and the new or grown category that may replace the first one."""
        first = gone[0]
        others = "" if len(gone) == 1 else f" and {len(gone) - 1} more"
        text = f"{first} ({self.before[first]:.0%} of the reference){others} no longer occurs"
        if new and self.now[new[0]] >= NOTABLE:
            verb = "renamed" if self.now[new[0]] > 0.7 * self.before[first] else "renamed in part"
            return f"{text}; {new[0]} ({self.now[new[0]]:.0%}) is new: {verb}?"
        grown = max(self.now, key=lambda name: (self.change(name), name))
        share, lost = self.before.get(grown, 0.0), self.before[first]
        merged, scaled = share + lost, share / (1 - lost) if lost < 1 else 0.0
        if self._p(scaled, self.now[grown]) < SIGNIFICANCE < self._p(merged, self.now[grown]):
            return f"{text}; {grown} rose from {share:.0%} to {self.now[grown]:.0%}: merged?"
        return text

    def _exchanged(self, first: str, second: str) -> bool:
        """Return whether each category has the former share of the other one."""
        return all(
            self._p(self.before.get(former, 0.0), self.now.get(present, 0.0)) > SIGNIFICANCE
            for former, present in ((first, second), (second, first))
        )

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


def _truth(name: str) -> str:
    """Return a truth value as 0 or 1."""
    return {"true": "1", "false": "0", "yes": "1", "no": "0", "1.0": "1", "0.0": "0"}.get(name.casefold(), name)


SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "leading or trailing blanks": str.strip,
    "invisible characters or blanks": _visible,
    "quotes": lambda name: name.strip("'\""),
    "another letter case": str.casefold,
    "another number format": _number,
    "another form of truth values": _truth,
    "another Unicode form": lambda name: unicodedata.normalize("NFKC", name),
    "another character encoding": _decoded,
    "another letter case and blanks": lambda name: _visible(name).casefold(),
}
"""Functions that return equal values for the spellings of a category."""
