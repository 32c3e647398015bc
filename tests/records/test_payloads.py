"""The body of an invocation → its documents."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import Payload
from runner.errors import RecordError
from runner.records.payloads import documents, text

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("encoding", ["JSON", "CSV", "base64", ""])
@pytest.mark.parametrize("content_type", ["application/jsonlines", "text/csv; charset=utf-8", ""])
def test_only_the_encoding_decides(encoding: str, content_type: str) -> None:
    """A body that does not say BASE64 is the text itself, whatever its content type."""
    assert text(Payload(content_type, "eyJhIjoxfQ==", encoding)) == "eyJhIjoxfQ=="


@given(st.text())
def test_base64_survives(body: str) -> None:
    """Any text that was captured as BASE64 comes back."""
    data = base64.b64encode(body.encode()).decode()
    assert text(Payload("text/csv", data, "BASE64")) == body


@pytest.mark.parametrize("data", ["%%%%", "eyJhIjoxfQ", "eyJh IjoxfQ==", "/w==", "é", "eyJhIjoxfQ==☃"])
def test_broken_base64_is_a_record_error(data: str) -> None:
    """A body that is not what its encoding says is rejected with the body shown."""
    with pytest.raises(RecordError, match="BASE64 that holds no UTF-8 text") as caught:
        text(Payload("application/jsonlines", data, "BASE64"))
    assert caught.value.kind == "encoding"
    assert str(caught.value).endswith(f": {data}")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("", []),
        ("\n \r\n\n", []),
        ('{"features":[1]}', [{"features": [1]}]),
        ('{"features":[1]}\n', [{"features": [1]}]),
        ('{"features":[1]}\r\n\r\n{"features":[2]}\r\n', [{"features": [1]}, {"features": [2]}]),
        ("1\n[2,3]\nnull", [1, [2, 3], None]),
        ('"a\u2028b"', ["a\u2028b"]),
    ],
)
def test_one_document_a_line(body: str, found: list[Any]) -> None:
    """Blank lines count for nothing, and only a line feed ends a line."""
    assert documents(body) == found


@given(st.lists(json_values))
def test_any_documents_survive(values: list[Any]) -> None:
    """A body of any JSON documents holds these documents."""
    assert documents("\n".join(orjson.dumps(value).decode() for value in values)) == values


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("1,2,3", "line 1 of the body is not JSON"),
        ('{"features":[1]}\n\n{"features":[', "line 3 of the body is not JSON"),
        ('{"features":[NaN]}', '{"features":[NaN]}'),
        ("\ufeff{}", "line 1 of the body is not JSON"),
        ("x" * 10_000, "x…"),
    ],
)
def test_broken_body_names_its_line(body: str, said: str) -> None:
    """A body that is no JSON Lines says which of its lines is none and shows it, shortened."""
    with pytest.raises(RecordError) as caught:
        documents(body)
    assert caught.value.kind == "payload"
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300
