"""At most one process leads, in SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from runner.scheduling.ledger import Leadership, Ledger
from tests.processes import wait_until
from tests.scheduling.ledger.ledger_samples import BUSY


@pytest.fixture
def leader(ledger: Ledger) -> Iterator[Leadership]:
    """A leader."""
    leadership = Leadership(ledger.database)
    assert leadership.try_lead()
    yield leadership
    leadership.release()


def test_one_of_two_leads_until_its_release(leader: Leadership, ledger_url: str) -> None:
    """A leader that tries again still leads."""
    with Ledger(ledger_url, BUSY) as ledger:
        other = Leadership(ledger.database)
        assert not other.try_lead()
        assert leader.try_lead()
        assert (leader.holds(), other.holds()) == (True, False)
        leader.release()
        assert other.try_lead()
        assert (leader.holds(), other.holds()) == (False, True)
        other.release()


def test_a_lost_lock_ends_the_leadership(leader: Leadership, ledger: Ledger, ledger_url: str) -> None:
    """The lock file was removed, or the server closed the session; another process can lead."""
    if ledger.database.file:
        ledger.database.file.with_name("ledger.sqlite.leader").unlink()
    else:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        with ledger.database.writing() as connection:
            connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))  # noqa: S608
    assert not leader.holds()
    with Ledger(ledger_url, BUSY) as other:
        successor = Leadership(other.database)
        assert successor.try_lead()
        assert not leader.try_lead()
        successor.release()


def test_a_leader_is_deposed(leader: Leadership, ledger_url: str) -> None:
    """Another process can lead, and the former leader notices."""
    with Ledger(ledger_url, BUSY) as other:
        successor = Leadership(other.database)
        assert not successor.try_lead()
        successor.depose()
        wait_until(successor.try_lead)
        assert (leader.holds(), successor.holds()) == (False, True)
        successor.release()
