"""Parts of the records, such as one for each country: a drift in one of them can drown in all of them together.

Array letters: N reference records, M live records.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.errors import SegmentError

MOST = 10
"""Parts; what is rarer in the reference comes together as the rest."""
QUARTERS = (0.25, 0.5, 0.75)
"""Where numbers with more different values than that are cut, by the reference's quantiles."""
MISSING, REST = "missing", "all others"


@dataclass(frozen=True)
class Segment:
    """A part: its name, and the places of its records on both sides, ascending."""

    name: str
    reference_N: NDArray[np.intp]
    live_M: NDArray[np.intp]

    @property
    def smaller(self) -> int:
        """Its records on the side that has fewer."""
        return min(len(self.reference_N), len(self.live_M))


def segments(by: str, before: pl.DataFrame, now: pl.DataFrame, min_rows: int) -> tuple[Segment, ...]:
    """Return the parts of the records by the value of a feature or an expression, in the order of the values.

    Values that fewer than `min_rows` records of a side have are pooled, the rarest of more than `MOST` as well; what
    is pooled comes last, and may be too small still. Where all would be pooled there are no parts.

    Args:
        by: the name of a feature, or a SQL expression over features.
        before: the inputs of the reference's records.
        now: those of the live ones.
        min_rows: see there.

    Raises:
        SegmentError: when it is neither, or has not one value for each record.
    """
    names, before_N, now_M = _named(_values(by, before), _values(by, now))
    had, has = (Counter(side.tolist()) for side in (before_N, now_M))
    smaller = {name: min(had[name], has[name]) for name in names}
    largest = sorted(names, key=lambda name: -smaller[name])[:MOST]
    kept = [name for name in names if name in largest and smaller[name] >= min_rows]
    parts = [Segment(f"{by}: {name}", np.flatnonzero(before_N == name), np.flatnonzero(now_M == name)) for name in kept]
    if not parts:
        return ()
    others = [np.flatnonzero(~np.isin(side, kept)) for side in (before_N, now_M)]
    return (*parts, Segment(f"{by}: {REST}", *others)) if any(map(len, others)) else tuple(parts)


def _values(by: str, features: pl.DataFrame) -> pl.Series:
    if by in features.columns:
        return features[by]
    try:
        values = features.select(pl.sql_expr(by).alias("segment"))["segment"]
    except pl.exceptions.PolarsError as error:
        raise SegmentError(by, str(error).splitlines()[0]) from error
    if len(values) != features.height:
        raise SegmentError(by, f"it has {len(values)} values for {features.height} records")
    return values


def _named(before: pl.Series, now: pl.Series) -> tuple[list[str], NDArray[np.str_], NDArray[np.str_]]:
    """Return the names of the parts in their order, and those of each record's part.

    Numbers with many values are cut where the reference has its quarters.
    """
    numbers = before.dtype.is_numeric() and now.dtype.is_numeric()
    if numbers and before.n_unique() > MOST:
        cuts = np.unique([before.quantile(quarter, "lower") for quarter in QUARTERS]).astype(np.float64)
        shown = [f"{cut:g}" for cut in cuts]
        between = [f"above {low} to {high}" for low, high in pairwise(shown)]
        names = [f"up to {shown[0]}", *between, f"above {shown[-1]}"]
        return [*names, MISSING], _binned(before, cuts, names), _binned(now, cuts, names)
    before_N, now_M = _texts(before, numbers), _texts(now, numbers)
    return sorted({*before_N.tolist(), *now_M.tolist()}, key=_in_order), before_N, now_M


def _in_order(name: str) -> tuple[bool, float, str]:
    """Return what sorts numbers by their size, and others by their letters."""
    try:
        return False, float(name), ""
    except ValueError:
        return True, 0.0, name


def _binned(values: pl.Series, cuts: NDArray[np.float64], names: list[str]) -> NDArray[np.str_]:
    placed = np.array(names)[np.searchsorted(cuts, values.cast(pl.Float64).fill_null(0.0).to_numpy(), side="left")]
    return np.where(values.is_null().to_numpy(), MISSING, placed)


def _texts(values: pl.Series, numbers: bool) -> NDArray[np.str_]:
    """Return each value as text, numbers alike whether they are stored as integers or not."""
    texts = {value: f"{value:.15g}" if numbers else str(value) for value in values.unique().drop_nulls().to_list()}
    return np.array([texts.get(value, MISSING) for value in values.to_list()], dtype=np.str_)
