"""The manifests that a batch transform with data capture writes: which objects it read.

Source: `[{"prefix": "s3://…/"}, "a.csv", "b.csv"]`; for a single object the prefix is its whole key and the one
element is the empty text.
"""

from __future__ import annotations

import orjson

from runner.errors import RecordError, snippet


def decode(data: bytes) -> list[str]:
    """Return the locations that a manifest lists.

    Raises:
        RecordError: `not_a_manifest`.

    >>> decode(b'[{"prefix":"s3://b/in/"},"a.csv","b.csv"]'), decode(b'[{"prefix":"s3://b/test.json"},""]')
    (['s3://b/in/a.csv', 's3://b/in/b.csv'], ['s3://b/test.json'])
    """
    try:
        head, *names = orjson.loads(data)
        prefix = head["prefix"]
    except (orjson.JSONDecodeError, TypeError, ValueError, KeyError) as error:
        raise RecordError("not_a_manifest", f'expected [{{"prefix": …}}, names…], got {snippet(data)}') from error
    if not isinstance(prefix, str) or not all(isinstance(name, str) for name in names):
        raise RecordError("not_a_manifest", f"prefix and names should be texts, got {snippet(data)}")
    if any(".." in name.split("/") or "\0" in name for name in (prefix, *names)):
        raise RecordError("not_a_manifest", f"a name with .. or a NUL in it: {snippet(data)}")
    return [prefix + name for name in names]


def encode(prefix: str, *names: str) -> bytes:
    """Return the manifest of objects below a prefix, or of the one object that the prefix is."""
    return orjson.dumps([{"prefix": prefix}, *(names or [""])])
