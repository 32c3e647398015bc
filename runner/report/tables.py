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
