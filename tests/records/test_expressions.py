"""JMESPath expressions, read by functions or by jmespath itself."""

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


def without_gaps(found: Any, depth: int) -> Any:
    """Return what projections found as jmespath has it, which drops what is null."""
    if depth == 0 or not isinstance(found, list):
        return found
    return [without_gaps(element, depth - 1) for element in found if element is not None]


@pytest.mark.parametrize(
    "expression",
    ["features[", "", "a b", "[?x", "unheard_of(features)"],
    ids=["open bracket", "empty", "two words", "open filter", "unknown function"],
)
def test_a_malformed_expression_is_refused(expression: str, golden: Golden) -> None:
    """An expression that can never be searched is refused in one line that shows it."""
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
def test_structure_alone_decides(expression: str, expected: bool) -> None:
    """What an expression finds depends on structure unless it filters, flattens, chooses or computes."""
    assert is_structural(expression) == expected


@pytest.mark.parametrize("expression", STRUCTURAL)
@given(document=documents)
def test_functions_find_what_jmespath_finds(expression: str, document: Any) -> None:
    """A structural expression finds the same as a function, but for the nulls that jmespath's projections drop."""
    assert is_structural(expression)
    projections = expression.count("[*]")
    assert without_gaps(finder(expression)(document), projections) == jmespath.search(expression, document)


def test_a_projection_keeps_its_places() -> None:
    """An element without the value leaves a gap, so that the scores of the others stay with their records."""
    assert finder("p[*].score")({"p": [{"score": 1}, {}, {"score": 3}]}) == [1, None, 3]


def test_the_rest_goes_through_jmespath() -> None:
    """Functions, filters and slices are searched by jmespath; what they do not fit has nothing."""
    assert finder("items[?kind=='a'].x")({"items": [{"kind": "a", "x": 1}, {"kind": "b", "x": 2}]}) == [1]
    assert finder("x[:2]")({"x": [1, 2, 3]}) == [1, 2]
    assert finder("max(x)")({"x": ["a", 1]}) is None
    assert finder(None)({"x": 1}) == {"x": 1}
