"""Tables are created once; those of a later version are refused."""

from __future__ import annotations

from threading import Barrier, Thread

import pytest
from sqlalchemy import inspect, select, text, update

from runner.errors import LedgerError
from runner.scheduling.ledger import Ledger, schema
from tests.golden import Golden
from tests.scheduling.ledger.ledger_samples import BUSY, planned


def test_tables_are_created_by_one_of_several_processes(ledger_url: str) -> None:
    """The others wait, and find the tables."""
    barrier, revisions = Barrier(4), list[int]()

    def open_ledger() -> None:
        with Ledger(ledger_url, BUSY) as ledger:
            barrier.wait()
            revisions.append(ledger.schedules.revision())

    threads = [Thread(target=open_ledger) for _ in range(barrier.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert revisions == [0, 0, 0, 0]


def test_tables_of_a_later_version_are_refused(ledger: Ledger, ledger_url: str, golden: Golden) -> None:
    """The error says which shapwatch to use."""
    with ledger.database.writing() as connection:
        connection.execute(update(schema.ledger).values(version=schema.VERSION + 1))
    with Ledger(ledger_url, BUSY) as other, golden.raises(LedgerError):
        other.schedules.all()


def test_tables_of_an_earlier_version_are_migrated(ledger: Ledger, ledger_url: str) -> None:
    """Executions remain, with the default values of new columns; missing columns, indexes and tables are added."""
    (execution,) = planned(ledger, 1)
    with ledger.database.writing() as connection:
        connection.execute(update(schema.ledger).values(version=1))
        connection.execute(text("DROP TABLE daemons"))
        connection.execute(text("DROP INDEX executions_by_end"))
        for column in ("losses", "lease_seconds", "ended"):
            connection.execute(text(f"ALTER TABLE executions DROP COLUMN {column}"))
    for _ in range(2):
        with Ledger(ledger_url, BUSY) as migrated:
            assert migrated.executions.get(execution.id) == execution
            assert migrated.daemons() == []
    with ledger.database.reading() as connection:
        assert connection.execute(select(schema.ledger.c.version)).scalar_one() == schema.VERSION
        assert "executions_by_end" in {index["name"] for index in inspect(connection).get_indexes("executions")}


@pytest.mark.parametrize(("value", "stored"), [("a\0b", "a\\x00b"), ("\udc80", "\\udc80"), ("", None), (None, None)])
def test_texts_are_storable(value: str | None, stored: str | None) -> None:
    """NUL and lone surrogates are escaped; an empty text is stored as NULL."""
    assert schema.text(value) == stored
