"""Types of numeric settings, and numbers in messages.

Bounds are those of `annotated_types`. Pydantic reads them, and the constraints of this module, from annotations. So
pure packages can declare settings without importing pydantic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt

Schema = dict[str, object]


@dataclass(frozen=True)
class _Constraint:
    """Marker that adds a constraint to pydantic's schema of an annotated type."""

    key: str
    value: bool

    def __get_pydantic_core_schema__(self, source: Any, schema_of: Callable[[Any], Schema]) -> Schema:
        return {**schema_of(source), self.key: self.value}


Integer = Annotated[int, _Constraint("strict", True)]
"""An integer; booleans, strings and floats with an integral value are rejected."""
Finite = Annotated[float, _Constraint("allow_inf_nan", False)]
"""A float that is neither infinite nor NaN."""
Count = Annotated[Integer, Gt(0), Lt(2**40)]
Seed = Annotated[Integer, Ge(0), Lt(2**63)]


def plural(count: int, noun: str) -> str:
    """Return a count with its noun in the singular or plural.

    >>> plural(1, "file"), plural(1204, "record")
    ('1 file', '1,204 records')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def with_equal_decimals(*values: float) -> list[str]:
    """Return numbers with the same number of decimals, so that the largest one has at least three significant digits.

    Very large and very small numbers have an exponent.

    >>> with_equal_decimals(0.2471, 3.29e-29), with_equal_decimals(0.00041, 0.0012), with_equal_decimals(1204.4, 31)
    (['0.247', '0.000'], ['0.00041', '0.00120'], ['1,204', '31'])
    >>> with_equal_decimals(3e12, 1), with_equal_decimals(0.0, 0.0), with_equal_decimals(0.33912, 0.99998)
    (['3e+12', '1'], ['0', '0'], ['0.339', '1.000'])
    """
    largest = max(map(abs, values))
    if not 1e-6 <= largest < 1e9:
        return [f"{value:.3g}" for value in values]
    decimals = max(0, 3 - math.ceil(math.log10(largest)))
    return [f"{value:,.{decimals}f}" for value in values]
