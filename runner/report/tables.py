"""Tables: columns over plain rows, as the strings that page, PDF and notebook show alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]

TEXT = "{}"
"""The form of a text; every other form is that of a number, which stands to the right."""


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        head: what stands above it.
        key: of the figure in each row; where a row lacks it, its cell is empty.
        form: what `str.format` makes of the figure.
    """

    head: str
    key: str
    form: str

    def cell(self, row: Row) -> str:
        """Return the figure of a row as it is shown."""
        value = row.get(self.key)
        return "" if value is None else self.form.format(value)


def table(caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> dict[str, Any]:
    """Return a table for the templates, with those of the columns that any row has.

    >>> table("Ages", [Column("Name", "name", "{}"), Column("Age", "age", "{:.1f}")], [{"name": "a", "age": 7}])["rows"]
    [['a', '7.0']]
    """
    shown = [column for column in columns if any(column.key in row for row in rows)]
    return {
        "caption": caption,
        "keys": [column.key for column in shown],
        "heads": [column.head for column in shown],
        "texts": [column.form == TEXT for column in shown],
        "rows": [[column.cell(row) for column in shown] for row in rows],
        "bars": [],
        "left_out": 0,
    }


def bounded(table: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return a table with no more than `most` rows, which knows how many it leaves out."""
    rows = table["rows"]
    return {**table, "rows": rows[:most], "left_out": len(rows[most:])}


VALUES = {"mean_abs": "Mean |φ|", "median": "Median φ", "mean_sq": "Mean φ²"}
MEDIANS = [
    Column("Feature", "name", TEXT),
    Column("Median φ before", "median_before", "{:.4g}"),
    Column("Median φ now", "median_now", "{:.4g}"),
    Column("φ distance", "distance", "{:.2f}"),
]
"""Of how local attributions are distributed."""
EFFECT_COLUMNS = [
    Column("Effect", "name", TEXT),
    Column("Found", "value", "{:>}"),
    Column("By chance", "noise", "{:>}"),
    Column("p", "p", "{:.3g}"),
]
SEGMENT_COLUMNS = [
    Column("Part", "name", TEXT),
    Column("Level", "level", "{:>}"),
    Column("Records before", "rows_reference", "{:,}"),
    Column("Records now", "rows_live", "{:,}"),
    Column("Share moved", "moved", "{:.1%}"),
    Column("By chance", "noise", "{:.1%}"),
    Column("p", "p", "{:.2g}"),
    Column("Moved most", "mover", TEXT),
]
WINDOW_COLUMNS = [
    Column("End of the window, UTC", "end", TEXT),
    Column("Status", "status", "{:>}"),
    Column("Level", "level", "{:>}"),
    Column("nDCG", "ndcg", "{:.4f}"),
    Column("Share moved", "attribution_shift", "{:.1%}"),
    Column("By chance", "attribution_shift_noise", "{:.1%}"),
    Column("Growth, log2", "total_log2_change", "{:+.2f}"),
    Column("By chance, ±", "total_log2_change_noise", "{:.2f}"),
]


def alone_columns(method: str) -> list[Column]:
    """Return the columns of features that are compared with nothing; `method` is the name of the aggregation."""
    return [
        Column("Feature", "name", TEXT),
        Column("Rank", "rank_now", "{:d}"),
        Column(VALUES[method], "now", "{:.4g}"),
        Column("Share", "share_now", "{:.1%}"),
    ]


def compared_columns(method: str) -> list[Column]:
    """Return the columns of features that are compared; those of tests are for rows that have them."""
    return [
        Column("Feature", "name", TEXT),
        Column("Rank before", "rank_before", "{:d}"),
        Column("Rank now", "rank_now", "{:d}"),
        Column(f"{VALUES[method]} before", "before", "{:.4g}"),
        Column(f"{VALUES[method]} now", "now", "{:.4g}"),
        Column("Share before", "share_before", "{:.1%}"),
        Column("Share now", "share_now", "{:.1%}"),
        Column("Share moved", "moved", "{:+.1%}"),
        Column("φ distance", "distance", "{:.2f}"),
        Column("p (Holm)", "p", "{:.2g}"),
    ]


def top_changes_columns(method: str) -> list[Column]:
    """Return the columns of those that moved most."""
    left_out = {"share_before", "share_now", "distance"}
    return [
        *(column for column in compared_columns(method) if column.key not in left_out),
        Column("Likely cause", "cause", TEXT),
    ]
