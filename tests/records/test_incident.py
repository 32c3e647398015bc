"""Rehearsed incidents: a factor on a feature, and nothing else."""

from __future__ import annotations

import pytest

from runner.errors import SettingsError
from runner.records.fields import Fields
from runner.records.incident import rescale


@pytest.mark.parametrize(
    ("line", "expression", "expected"),
    [
        (b'{"features":[1,2.5,"x",null,true]}', "features", b'{"features":[10,2.5,"x",null,true]}'),
        (b'{"id":7,"data":{"values":[1,2]}}\n', "data.values", b'{"id":7,"data":{"values":[10,2]}}'),
    ],
)
def test_only_the_feature_changes(line: bytes, expression: str, expected: bytes) -> None:
    """The other values and the rest of the document stay as they are."""
    assert rescale(line, Fields(expression, "score"), {"column_0": 10}) == expected


def test_texts_and_nulls_cannot_be_multiplied() -> None:
    """A factor on what is no number changes nothing."""
    assert rescale(b'{"f":["a",null]}', Fields("f", "s"), {"column_0": 2, "column_1": 2}) == b'{"f":["a",null]}'


@pytest.mark.parametrize(("expression", "name"), [("f[*]", "column_0"), ("f", "nope")])
def test_what_cannot_be_done_is_told(expression: str, name: str) -> None:
    """An expression that only reads and an unknown feature are errors of the setting."""
    with pytest.raises(SettingsError, match=r"stage\.rescale: "):
        rescale(b'{"f":[1]}', Fields(expression, "s"), {name: 2})
