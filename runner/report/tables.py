"""Tables of formatted cells: page, PDF and notebook show the same strings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

TEXT = "{}"
"""Format of strings, which are aligned left; numbers are aligned right."""
LEVEL = "{:>}"
"""Format of words that are aligned like numbers."""


@dataclass(frozen=True)
class Column:
    """Column of a table.

    Attributes:
        head: heading.
        key: attribute of a row.
        format: format string of the attribute.
    """

    head: str
    key: str
    format: str

    @property
    def is_text(self) -> bool:
        """Whether cells are aligned left."""
        return self.format == TEXT

    def cell(self, row: object) -> str:
        """Return the formatted attribute of a row, with a minus sign if it is negative; empty if it is None."""
        value = getattr(row, self.key)
        text = "" if value is None else self.format.format(value)
        return text if self.format in {TEXT, LEVEL} else re.sub("^-", "\N{MINUS SIGN}", text)


@dataclass(frozen=True)
class ReportTable:
    """Table of strings.

    Attributes:
        rows: one cell per column.
        left_out: number of further rows that are not shown.
        source: names of the documents that contain all rows.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int = 0
    source: str = "analysis.json and drift.json contain"

    def limit(self, rows: int) -> Self:
        """Return the table with `rows` rows at most."""
        return replace(self, rows=self.rows[:rows], left_out=len(self.rows[rows:]))


def make_table(caption: str, columns: Sequence[Column], rows: Sequence[object]) -> ReportTable:
    """Return the table of some objects; columns without any value are left out.

    >>> from types import SimpleNamespace
    >>> columns = [Column("Name", "name", TEXT), Column("Age", "age", "{:.1f}"), Column("City", "city", TEXT)]
    >>> make_table("Ages", columns, [SimpleNamespace(name="a", age=7, city=None)]).rows
    (('a', '7.0'),)
    """
    shown = tuple(column for column in columns if any(getattr(row, column.key) is not None for row in rows))
    return ReportTable(caption, shown, tuple(tuple(column.cell(row) for column in shown) for row in rows))


VALUES = {"mean_abs": "Mean |φ|", "median": "Median φ", "mean_sq": "Mean φ²"}
"""Names of global attributions by aggregation."""
FEATURE = Column("Feature", "name", TEXT)
LEVEL_COLUMN = Column("Level", "level", LEVEL)
DISTANCE = Column("KS distance", "distance", "{:.2f}")
P_HOLM = Column("p (Holm)", "p", "{:.2g}")
SHARES = (
    Column("Share reference", "share_before", "{:.1%}"),
    Column("Share live", "share_now", "{:.1%}"),
    Column("Share change", "share_change", "{:+.1%}"),
)
MEDIANS = (
    FEATURE,
    Column("Median φ reference", "median_before", "{:.4g}"),
    Column("Median φ live", "median_now", "{:.4g}"),
    DISTANCE,
)
RECORDS = (
    Column("Event", "event_id", TEXT),
    Column("Time (UTC)", "at", TEXT),
    Column("Score", "score", "{:.4g}"),
    Column("φ", "phi", "{:+.4g}"),
    Column("Largest attribution", "name", TEXT),
)
SCORE_GROUPS = (
    Column("Records", "name", TEXT),
    Column("Scores that differ", "differing", "{:,}"),
    Column("Number of records", "records", "{:,}"),
    Column("Share", "share", "{:.1%}"),
)
HEAT = (
    FEATURE,
    Column("Windows beyond chance", "windows", "{:d}"),
    Column("Largest change", "largest", "{:+.1%}"),
    Column("Last window", "last", "{:+.1%}"),
)
EFFECTS = (
    Column("Effect", "name", TEXT),
    Column("Observed", "value", LEVEL),
    Column("Expected by chance", "noise", LEVEL),
    Column("p", "p", "{:.3g}"),
)
INPUTS = (
    Column("Input", "name", TEXT),
    LEVEL_COLUMN,
    DISTANCE,
    Column("Missing reference", "missing_before", "{:.1%}"),
    Column("Missing live", "missing_now", "{:.1%}"),
    Column("Unseen values", "unseen", "{:.1%}"),
    Column("Unseen expected", "unseen_expected", "{:.1%}"),
    P_HOLM,
    Column("Likely cause", "cause", TEXT),
)
OUTPUTS = (
    Column("Score", "label", TEXT),
    LEVEL_COLUMN,
    Column("Mean reference", "mean_before", "{:.4g}"),
    Column("Mean live", "mean_now", "{:.4g}"),
    Column("Change, lowest", "change_low", "{:+.2g}"),
    Column("Change, highest", "change_high", "{:+.2g}"),
    DISTANCE,
    P_HOLM,
)
TOP_CHANGES = (
    FEATURE,
    LEVEL_COLUMN,
    Column("Change and likely cause", "cause", TEXT),
    *SHARES,
    Column("Mean |φ|, ratio", "ratio", "{:.2f}"),
    Column("p of values", "p_values", "{:.2g}"),
    Column("p of φ", "p", "{:.2g}"),
)
FAMILIES = (
    Column("Family", "family", TEXT),
    LEVEL_COLUMN,
    Column("Limits", "measure", TEXT),
    Column("Feature or label", "name", TEXT),
    Column("Effect", "value", "{:.3g}"),
    Column("Expected by chance", "chance", "{:.2g}"),
    Column("Warning from", "warning", "{:.3g}"),
    Column("Violation from", "violation", "{:.3g}"),
)
SEGMENTS = (
    Column("Segment", "name", TEXT),
    LEVEL_COLUMN,
    Column("Records reference", "rows_reference", "{:,}"),
    Column("Records live", "rows_live", "{:,}"),
    Column("Attribution shift", "attribution_shift", "{:.1%}"),
    Column("Expected by chance", "noise", "{:.1%}"),
    Column("p", "p", "{:.2g}"),
    Column("Largest change", "top_change", TEXT),
)
BASELINE_SCORES = (
    Column("Label", "label", TEXT),
    Column("Score of the SHAP baseline", "score", "{:.5g}"),
    Column("Records with a lower score", "quantile", "{:.1%}"),
)
DETECTABLE = (
    Column("Records in the window", "records", "{:,}"),
    Column("Smallest detectable change", "change", "{:.1%}"),
)
SEARCHED = (
    Column("Input", "name", TEXT),
    Column("Setting", "setting", TEXT),
    Column("Value", "place", TEXT),
    Column("Found", "found", TEXT),
)
MOST_BASELINE_ROWS = 5
"""Maximum number of rows of the SHAP baseline in a report; each is a column of the table."""
BASELINE = (
    FEATURE,
    *(Column(f"Row {i}", f"row_{i}", LEVEL) for i in range(1, MOST_BASELINE_ROWS + 1)),
)
WINDOWS = (
    Column("End of window (UTC)", "end", TEXT),
    Column("Status", "status", LEVEL),
    LEVEL_COLUMN,
    Column("nDCG", "ndcg", "{:.4f}"),
    Column("Attribution shift", "attribution_shift", "{:.1%}"),
    Column("Expected by chance", "attribution_shift_noise", "{:.1%}"),
    Column("Total, log2 change", "total_log2_change", "{:+.2f}"),
    Column("± by chance", "total_log2_change_noise", "{:.2f}"),
)


def live_columns(agg_method: str) -> tuple[Column, ...]:
    """Return the columns of features without a comparison."""
    return (
        FEATURE,
        Column("Rank", "rank_now", "{:d}"),
        Column(VALUES[agg_method], "now", "{:.4g}"),
        Column("Share", "share_now", "{:.1%}"),
    )


def compared_columns(agg_method: str) -> tuple[Column, ...]:
    """Return the columns of features compared with the reference."""
    return (
        FEATURE,
        Column("Rank reference", "rank_before", "{:d}"),
        Column("Rank live", "rank_now", "{:d}"),
        Column(f"{VALUES[agg_method]} reference", "before", "{:.4g}"),
        Column(f"{VALUES[agg_method]} live", "now", "{:.4g}"),
        *SHARES,
        DISTANCE,
        P_HOLM,
    )
