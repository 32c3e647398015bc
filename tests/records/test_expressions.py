"""JMESPath expressions, evaluated by functions or by jmespath."""

from __future__ import annotations

from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.records.expressions import compiled, finder, is_structural
from tests.golden import Golden

STRUCTURAL = [
    "a",
    "a.b",
    "@",
    "a[*]",
    "a[*].b",
    "[*].a",
    "[*].[a, b]",
    '[*]["a","b"]',
    "[a, b.a]",
    "a[0]",
    "a[-1].b",
    "a[*].b[*].a",
    "a[*][0]",
    "a.b[*].[a]",
]

documents = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=12,
)


def without_nulls(found: Any, depth: int) -> Any:
    """Return the result of projections as jmespath has it, without nulls."""
    if depth == 0 or not isinstance(found, list):
        return found
    return [without_nulls(element, depth - 1) for element in found if element is not None]


@pytest.mark.parametrize(
    "expression",
    ["features[", "", "a b", "[?x", "unheard_of(features)"],
    ids=["open bracket", "empty", "two words", "open filter", "unknown function"],
)
def test_malformed_expression_is_refused(expression: str, golden: Golden) -> None:
    """An invalid expression is refused by a message of one line with the expression."""
    with golden.raises(ValueError) as caught:
        compiled(expression)
    assert repr(expression) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("features", True),
        ("a.b", True),
        ("@", True),
        ("instances[*].features", True),
        ("instances[0]", True),
        ("[Age, Sex]", True),
        ("instances[*].[Age, Sex]", True),
        ("items[?kind=='a']", False),
        ("sort(x)", False),
        ("a || b", False),
        ("features[]", False),
        ("values(@)", False),
        ("instances[*].values(@)", False),
        ("{a: b}", False),
        ("features[1:]", False),
    ],
)
def test_expressions_with_filters_or_functions_are_not_structural(expression: str, expected: bool) -> None:
    """An expression is structural unless it filters, flattens, selects or computes."""
    assert is_structural(expression) == expected


@pytest.mark.parametrize("expression", STRUCTURAL)
@given(document=documents)
def test_structural_expressions_agree_with_jmespath(expression: str, document: Any) -> None:
    """A structural expression has jmespath's result, except for the nulls in projections."""
    assert is_structural(expression)
    projections = expression.count("[*]")
    assert without_nulls(finder(expression)(document), projections) == jmespath.search(expression, document)


def test_projection_contains_null_for_a_missing_value() -> None:
    """An element without the value is null, so that later scores stay with their records."""
    assert finder("p[*].score")({"p": [{"score": 1}, {}, {"score": 3}]}) == [1, None, 3]


def test_other_expressions_are_evaluated_by_jmespath() -> None:
    """Functions, filters and slices are evaluated by jmespath; a type error gives null."""
    assert finder("items[?kind=='a'].x")({"items": [{"kind": "a", "x": 1}, {"kind": "b", "x": 2}]}) == [1]
    assert finder("x[:2]")({"x": [1, 2, 3]}) == [1, 2]
    assert finder("max(x)")({"x": ["a", 1]}) is None
    assert finder(None)({"x": 1}) == {"x": 1}
