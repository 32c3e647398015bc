"""Heartbeats, daemons and the deletion of old executions, in SQLite and PostgreSQL."""

from __future__ import annotations

import pytest

from runner.domain.executions import HOUR, Execution
from runner.domain.schedules import Claim
from runner.errors import LedgerError
from runner.scheduling import ledger as ledger_module
from runner.scheduling.ledger import DaemonRecord, Ledger
from tests.golden import Golden
from tests.scheduling.ledger.ledger_samples import (
    NOON,
    OTHER_SETTINGS,
    SETTINGS,
    finished,
    planned,
    schedule,
    scheduled_times,
)

LATER = NOON + HOUR


def test_daemons_are_recorded_and_removed(ledger: Ledger) -> None:
    """Leaders are listed first; daemons without heartbeat for a day are removed."""
    ledger.record_daemon("a", NOON, False, "host-a", 1)
    ledger.record_daemon("b", NOON, False, "host-b", 2)
    ledger.record_daemon("b", LATER, True, "host-b", 2)
    assert ledger.daemons() == [
        DaemonRecord("b", "host-b", 2, since=NOON, heartbeat=LATER, leading=True),
        DaemonRecord("a", "host-a", 1, since=NOON, heartbeat=NOON, leading=False),
    ]
    ledger.remove_daemon("b")
    ledger.remove_daemon("unknown")
    assert [daemon.owner for daemon in ledger.daemons()] == ["a"]
    ledger.record_daemon("c", NOON + 25 * HOUR, False, "host-a", 3)
    assert [daemon.owner for daemon in ledger.daemons()] == ["c"]


def test_old_executions_and_unused_snapshots_are_deleted(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """Running executions, and snapshots in use, remain."""
    monkeypatch.setattr(ledger_module, "BATCH", 2)
    old = planned(ledger, *range(1, 8))
    for execution in old[:5]:
        finished(ledger, execution)
    ledger.executions.claim(old[5].id, "a", NOON)
    ledger.schedules.update(schedule(snapshot=OTHER_SETTINGS.digest), OTHER_SETTINGS)
    assert ledger.delete_ended(NOON) == 0
    assert ledger.delete_ended(NOON + 6 * HOUR) == 4
    assert ledger.executions.newest() == [ledger.executions.get(execution.id) for execution in reversed(old[4:])]
    assert ledger.snapshot(SETTINGS.digest) == SETTINGS
    for execution in old[5:]:
        ledger.executions.claim(execution.id, "a", NOON)
        ledger.executions.finish(Claim(execution.id, "a", 1), Execution.failed("reason"), LATER)
    assert ledger.delete_ended(NOON + 100 * HOUR) == 3
    assert ledger.snapshot(OTHER_SETTINGS.digest) == OTHER_SETTINGS
    with golden.raises(LedgerError):
        ledger.snapshot(SETTINGS.digest)


def test_ids_of_deleted_executions_are_not_reused(ledger: Ledger) -> None:
    """An id always identifies the same execution."""
    (first,) = planned(ledger, 1)
    finished(ledger, first)
    ledger.delete_ended(NOON + 2 * HOUR)
    (second,) = ledger.executions.add(schedule(), SETTINGS, scheduled_times(2), NOON)
    assert second.id > first.id
