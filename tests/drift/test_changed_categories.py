"""Changes of categories: statements are true of the change that was made."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy import stats

from runner.drift.causes import SAME, likely_cause
from tests.golden import Golden

PURPOSES = ["voiture équipée", "Möbel", "home", "true", "7.5"]
SHARES = [0.35, 0.3, 0.2, 0.1, 0.05]


def drawn(seed: int, rows: int, shares: list[float] | np.ndarray = SHARES) -> np.ndarray:
    """Return categories."""
    return np.random.default_rng(seed).choice(np.array(PURPOSES, dtype=object), rows, p=shares)


def stated(before: np.ndarray, now: np.ndarray) -> str:
    """Return the text of the likely cause."""
    cause = likely_cause(pl.Series(before.tolist()), pl.Series(now.tolist()))
    return cause.text if cause else SAME


SPELLINGS: dict[str, tuple[str, Callable[[str], str]]] = {
    "blank": ("leading or trailing blanks", lambda name: f" {name}"),
    "zero-width space": ("invisible characters or blanks", lambda name: f"{name}\u200b"),
    "byte order mark": ("invisible characters or blanks", lambda name: f"\ufeff{name}"),
    "quotes": ("quotes", lambda name: f'"{name}"'),
    "case": ("another letter case", str.upper),
    "decomposed": ("another Unicode form", lambda name: unicodedata.normalize("NFD", name)),
    "Latin-1": ("another character encoding", lambda name: name.encode().decode("latin-1")),
    "Windows-1252": ("another character encoding", lambda name: name.encode().decode("cp1252")),
    "case and blank": ("another letter case and blanks", lambda name: f"{name.upper()} "),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_new_spelling(spelling: str, share: float) -> None:
    """The kind of the spelling, the share of the records that have it, and an example."""
    kind, respelled = SPELLINGS[spelling]
    before, now = drawn(0, 1000), drawn(1, 500)
    chosen = np.random.default_rng(2).random(500) < share
    live = np.array([respelled(name) if new else name for name, new in zip(now, chosen, strict=True)], dtype=object)
    differs = live != now
    text = stated(before, live)
    assert text.startswith(f"{kind} in {differs.mean():.0%} of the records: ")
    example = max({*live[differs]}, key=lambda name: ((live == name).sum(), repr(name)))
    (original,) = {*now[live == example]}
    assert text.endswith(f" for {original!r}")


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [
        (["1.0", "2.5"], ["1,0", "2,5"], "another number format"),
        (["1", "2"], ["1.0", "2.0"], "another number format"),
        (["true", "false"], ["1", "0"], "another form of truth values"),
        (["yes", "no"], ["TRUE", "FALSE"], "another form of truth values"),
    ],
)
def test_new_spelling_of_numbers_and_truth_values(before: list[str], now: list[str], kind: str) -> None:
    """Strings of numbers and of truth values."""
    text = stated(np.array(before * 50, dtype=object), np.array(now * 30, dtype=object))
    assert text.startswith(f"{kind} in 100% of the records: ")


def test_other_new_categories_are_no_spellings(golden: Golden) -> None:
    """A new category that resembles none in the reference is not another spelling of one."""
    now = drawn(3, 500)
    now[:100] = "yacht"
    golden(stated(drawn(0, 1000), now))


@pytest.mark.parametrize("pair", [("Möbel", "home"), ("voiture équipée", "true"), ("home", "Möbel")])
def test_merged_renamed_and_exchanged_categories(pair: tuple[str, str]) -> None:
    """Both categories are named with their shares on both sides."""
    first, second = pair
    before, now = drawn(4, 2000), drawn(5, 800)
    merged = np.where(now == first, second, now)
    shares = [f"{(side == second).mean():.0%}" for side in (before, merged)]
    gone = f"{first!r} ({(before == first).mean():.0%} of the reference) no longer occurs"
    assert stated(before, merged) == f"{gone}; {second!r} rose from {shares[0]} to {shares[1]}: merged?"
    renamed = np.where(now == first, "yacht", now)
    assert stated(before, renamed) == f"{gone}; 'yacht' ({(now == first).mean():.0%}) is new: renamed?"
    exchanged = np.select([now == first, now == second], [second, first], now)
    words = stated(before, exchanged)
    fell, rose = sorted(pair, key=lambda name: (exchanged == name).mean() - (before == name).mean())
    assert words.startswith(
        f"{fell!r} fell from {(before == fell).mean():.0%} to {(exchanged == fell).mean():.0%} and "
    )
    assert words.endswith(
        f"{rose!r} rose from {(before == rose).mean():.0%} to {(exchanged == rose).mean():.0%}: values swapped?"
    )


def test_two_categories_that_become_a_new_one() -> None:
    """A new category as frequent as both together replaces both, not one of them."""
    before, now = drawn(6, 2000), drawn(7, 800)
    live = np.where((now == "Möbel") | (now == "home"), "inside", now)
    assert stated(before, live).endswith(f"'inside' ({(live == 'inside').mean():.0%}) is new: merged?")
    grown = np.where((now == "true") | (np.arange(800) % 3 == 0), "inside", now)
    assert stated(before, grown).endswith(f"'inside' ({(grown == 'inside').mean():.0%}) is new")


def test_other_populations_are_seldom_swapped_or_merged() -> None:
    """Of random mixes of the same categories, at most 5 % look like an exchange, and none has lost a category."""
    rng, wrong = np.random.default_rng(8), 0
    for seed in range(60):
        sides = rng.dirichlet(np.full(5, 3.0), 2)
        text = stated(*(drawn(2 * seed + i, rows, sides[i]) for i, rows in enumerate((1000, 400))))
        assert "renamed" not in text
        wrong += "swapped" in text or "merged" in text
    assert wrong <= 3


def test_unchanged_values_are_called_unchanged_only_if_a_test_agrees() -> None:
    """No clear change of a category is left without words: scipy's χ² test does not reject either."""
    rng = np.random.default_rng(9)
    for seed in range(60):
        shares = rng.dirichlet(200 / (1 + seed) * np.array(SHARES) + 1)
        before, now = drawn(3 * seed, 1000), drawn(3 * seed + 1, 400, shares)
        table = [[int((side == name).sum()) for name in PURPOSES] for side in (before, now)]
        if stated(before, now) == SAME:
            change = abs(np.subtract(*(np.array(row) / sum(row) for row in table))).max()
            assert change < 0.03 or stats.chi2_contingency(table).pvalue > 1e-6


def test_a_rename_of_several_categories_needs_their_shares() -> None:
    """All new categories have the shares of the vanished ones, or none is called renamed."""
    before, now = drawn(10, 1000), drawn(11, 400)
    names = dict(zip(PURPOSES, ["car", "furniture", "house", "yes", "8"], strict=True))
    assert stated(before, np.array([names[name] for name in now], dtype=object)).endswith("is new: renamed?")
    others = np.random.default_rng(12).choice(np.array(["x", "y", "z"], dtype=object), 400, p=[0.36, 0.32, 0.32])
    assert "renamed" not in stated(before, others)
