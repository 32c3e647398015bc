"""Tables are created once; those of a later version are refused."""

from __future__ import annotations

from threading import Barrier, Thread

import pytest
from sqlalchemy import update

from runner.errors import LedgerError
from runner.scheduling.ledger import Ledger, schema
from tests.golden import Golden
from tests.scheduling.ledger.ledger_samples import BUSY


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


@pytest.mark.parametrize(("value", "stored"), [("a\0b", "a\\x00b"), ("\udc80", "\\udc80"), ("", None), (None, None)])
def test_texts_are_storable(value: str | None, stored: str | None) -> None:
    """NUL and lone surrogates are escaped; an empty text is stored as NULL."""
    assert schema.text(value) == stored
