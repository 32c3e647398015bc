"""Ids: what they look like, and that no two are the same."""

from __future__ import annotations

import os
import uuid

from runner.serving.ids import new_id


def test_ids_are_random_uuids() -> None:
    """Ids are UUIDs of version 4 as Python writes them, all different."""
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    for each in ids:
        assert str(uuid.UUID(each)) == each
        assert (uuid.UUID(each).version, uuid.UUID(each).variant) == (4, uuid.RFC_4122)
    drawn = [int(each.replace("-", ""), 16) for each in ids]
    fixed = [bit for bit in range(128) if len({value >> bit & 1 for value in drawn}) == 1]
    assert fixed == [62, 63, 76, 77, 78, 79]


def test_workers_draw_their_own() -> None:
    """A process that was forked off goes on with other ids."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    assert uuid.UUID(theirs) != uuid.UUID(new_id())
