"""The schema on which records agree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.records.fields import Fields
from runner.records.payloads import Scalar
from runner.records.tables import KINDS, Record, Schema, SchemaCounter, by_shape, part
from tests.golden import Golden

ValuesAndScores = tuple[list[Scalar], list[float]]

FIELDS = Fields("features", "score")
NAMED = Fields("features", "score", ("Age", "Sex"))
RECORDS: list[ValuesAndScores] = [
    ([1, "a", None], [0.5]),
    ([2.5, "b", None], []),
    (["x", "c", None], [0.5, 0.5]),
    ([True], [0.5]),
]

values = st.sampled_from([1, 2.5, "x", True, None])
records = st.tuples(st.lists(values, max_size=3), st.lists(st.just(0.5), max_size=2))
tables = st.lists(st.lists(records, max_size=4), max_size=5)


def counted(*tables_: Sequence[ValuesAndScores]) -> SchemaCounter:
    """Return the counts of tables of records."""
    counter = SchemaCounter()
    for table in tables_:
        for group in by_shape(Record(1, i, None, None, None, *record) for i, record in enumerate(table)):
            counter.add(part(group))
    return counter


def schema_of(*tables_: Sequence[ValuesAndScores], fields: Fields = FIELDS) -> Schema:
    """Return the schema of tables of records."""
    return counted(*tables_).schema(fields)


def test_schema_is_that_of_most_records() -> None:
    """Most records have three features, a number first, only nulls last, and one score."""
    schema = schema_of(RECORDS)
    assert schema.kinds == ("number", "string", None)
    assert schema.scores == 1
    assert schema.names == ("column_0", "column_1", "column_2")
    assert schema_of(RECORDS[::-1]) == schema


@given(tables.flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))))
def test_schema_is_independent_of_order_and_tables(
    found: tuple[list[list[ValuesAndScores]], list[list[ValuesAndScores]]],
) -> None:
    """Tables in any order, records in any order, and one table of all give the same schema."""
    plain, shuffled = found
    one = [record for table in plain for record in table]
    schemas = [
        schema_of(*plain),
        schema_of(*shuffled),
        schema_of(one),
        schema_of(one[::-1]),
        schema_of(*([r] for r in one)),
    ]
    assert schemas == schemas[:1] * 5


@given(st.lists(records, min_size=1))
def test_schema_agrees_with_naive_counting(found: list[ValuesAndScores]) -> None:
    """Width, kinds and scores are the most frequent ones, the smallest of equally frequent ones."""

    def most(counted: Sequence[int] | Sequence[str]) -> int | str | None:
        counts: Counter[int | str] = Counter(counted)
        return min(counts, key=lambda each: (-counts[each], each)) if counts else None

    schema = schema_of(found)
    width = most([len(row) for row, _ in found])
    assert len(schema.kinds) == width
    rows = [row for row, _ in found if len(row) == width]
    for d, kind in enumerate(schema.kinds):
        assert kind == most([KINDS[type(row[d])] for row in rows if row[d] is not None])
    assert schema.scores == (most([len(scores) for _, scores in found if scores]) or 0)


@pytest.mark.parametrize(
    ("found", "kinds"),
    [
        ([[0] * 10, [0] * 9], ("number",) * 9),
        ([[0] * 10, [0] * 9, [1] * 10], ("number",) * 10),
        ([["x"], [1]], ("number",)),
        ([["x"], [True]], ("boolean",)),
        ([[1], [1.5], ["x"], ["y"]], ("number",)),
        ([[1], ["x"], ["y"], [None], [None], [None]], ("string",)),
        ([[None]], (None,)),
        ([["x", 1], ["y", 2], [1], [2], [3]], ("number",)),
        ([], ()),
    ],
)
def test_ties_are_broken_by_the_smaller_value(found: list[list[Scalar]], kinds: tuple[str | None, ...]) -> None:
    """The smaller of equally frequent widths and kinds applies; widths are compared as numbers; nulls do not count."""
    assert schema_of([(row, []) for row in found]).kinds == kinds


@pytest.mark.parametrize(("counts", "scores"), [([], 0), ([0, 0, 1], 1), ([2, 1], 1), ([2, 2, 1], 2), ([0], 0)])
def test_missing_scores_do_not_count(counts: list[int], scores: int) -> None:
    """Records without scores do not decide the number of scores."""
    assert schema_of([([1], [0.5] * count) for count in counts]).scores == scores


def test_headers_decide_the_number_of_features() -> None:
    """With headers, records of another width do not count, even if they are most."""
    schema = schema_of([(["x"], []), (["y"], []), ([1, None], [])], fields=NAMED)
    assert (schema.kinds, schema.names) == (("number", None), ("Age", "Sex"))
    assert schema_of(fields=NAMED).kinds == (None, None)


@pytest.mark.parametrize(
    ("row", "scores", "kind", "shown"),
    [
        ([1, "a"], 0, "feature_count", {"2", "3"}),
        ([], 0, "feature_count", {"0", "3"}),
        (["x", "a", None], 0, "feature_type", {"'column_0'", "'x'"}),
        ([True, "a", None], 0, "feature_type", {"'column_0'", "True"}),
        ([1, 2, None], 0, "feature_type", {"'column_1'", "2"}),
        ([None, 2.5, None], 2, "feature_type", {"'column_1'", "2.5"}),
        ([1, "a", None], 2, "score_count", {"2", "1"}),
        ([None, None, None], 2, "score_count", {"2", "1"}),
        ([2.5, "", None], 3, "score_count", {"3", "1"}),
    ],
    ids=["two", "none", "string", "boolean", "integer", "float", "scores", "scores of nulls", "three scores"],
)
def test_each_difference_has_its_reason(
    row: list[Scalar], scores: int, kind: str, shown: set[str], golden: Golden
) -> None:
    """A wrong number of features or scores or a wrong kind has its reason; nulls have no kind."""
    found, problem = schema_of(RECORDS).problem(row, scores)
    assert found == kind
    assert shown <= set(re.split("[ :,]", problem))
    golden(problem)


@pytest.mark.parametrize("fields", [NAMED, FIELDS], ids=["headers", "majority"])
def test_message_contains_the_source_of_the_number_of_features(fields: Fields, golden: Golden) -> None:
    """The message on a missing feature contains data.headers or most records as the source."""
    kind, problem = schema_of([([28, 2], [])], fields=fields).problem([28], 0)
    assert kind == "feature_count"
    assert ("data.headers" in problem) is (fields is NAMED)
    golden(problem)


def test_message_contains_the_name_of_the_feature(golden: Golden) -> None:
    """The message on a wrong kind contains the feature's header, and a long value is shortened."""
    kind, problem = schema_of([([28, 2], [])], fields=NAMED).problem([28, "x" * 10_000], 0)
    assert kind == "feature_type"
    assert "'Sex'" in problem
    assert len(problem) < 300
    golden(problem)
