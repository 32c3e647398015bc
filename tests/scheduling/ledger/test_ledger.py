"""Heartbeats and forgetting, in either database."""

from __future__ import annotations

import pytest

from runner.domain.executions import HOUR, Status
from runner.errors import LedgerError
from runner.scheduling.ledger import ledger as ledger_module
from runner.scheduling.ledger.ledger import Daemon, Ledger
from tests.golden import Golden
from tests.scheduling.ledger.ledger_samples import NOON, OTHERS, SETTINGS, dues, ended, planned, schedule

LATER = NOON + HOUR


def test_a_heartbeat_is_that_of_all_it_executes(ledger: Ledger) -> None:
    """What others execute, what is pending and what has ended keeps its own."""
    ours, stopping, theirs, pending, over = planned(ledger, 1, 2, 3, 4, 5)
    for entry, owner in ((ours, "us"), (stopping, "us"), (theirs, "them")):
        ledger.begin(entry.id, owner, NOON)
    ledger.ask_to_stop(stopping.id, NOON)
    over = ended(ledger, over)
    ledger.beat("us", LATER, True, "host", 17)
    heard = [ledger.entry(entry.id).heartbeat for entry in (ours, stopping, theirs, pending)]
    assert heard == [LATER, LATER, NOON, None]
    assert ledger.entry(over.id) == over


def test_daemons_come_and_go(ledger: Ledger) -> None:
    """A daemon is known since its first heartbeat; who leads comes first; who is long gone is not told of."""
    ledger.beat("a", NOON, False, "here", 1)
    ledger.beat("b", NOON, False, "there", 2)
    ledger.beat("b", LATER, True, "there", 2)
    assert ledger.daemons() == [
        Daemon("b", "there", 2, since=NOON, heartbeat=LATER, leading=True),
        Daemon("a", "here", 1, since=NOON, heartbeat=NOON, leading=False),
    ]
    ledger.retire("b")
    ledger.retire("nobody")
    assert [daemon.owner for daemon in ledger.daemons()] == ["a"]
    ledger.beat("c", NOON + 25 * HOUR, False, "here", 3)
    assert [daemon.owner for daemon in ledger.daemons()] == ["c"]


def test_what_has_ended_long_ago_is_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """What is under way stays, however old, and settings stay as long as anything refers to them."""
    monkeypatch.setattr(ledger_module, "AT_ONCE", 2)
    old = planned(ledger, *range(1, 8))
    for entry in old[:5]:
        ended(ledger, entry)
    ledger.begin(old[5].id, "us", NOON)
    ledger.update(schedule(snapshot=OTHERS.digest), OTHERS)
    assert ledger.forget(NOON) == 0
    assert ledger.forget(NOON + 6 * HOUR) == 4
    assert ledger.entries() == [ledger.entry(entry.id) for entry in reversed(old[4:])]
    assert ledger.snapshot(SETTINGS.digest) == SETTINGS
    for entry in old[5:]:
        ledger.begin(entry.id, "us", NOON)
        ledger.settle(
            entry.id, "us", Status.FAILED, LATER, exit_message=None, failure_reason="", output=None, peak_memory=0
        )
    assert ledger.forget(NOON + 100 * HOUR) == 3
    assert ledger.snapshot(OTHERS.digest) == OTHERS
    with golden.raises(LedgerError):
        ledger.snapshot(SETTINGS.digest)


def test_a_forgotten_number_is_not_given_again(ledger: Ledger) -> None:
    """Whoever remembers an execution never finds another one under its number."""
    (first,) = planned(ledger, 1)
    ended(ledger, first)
    ledger.forget(NOON + 2 * HOUR)
    (second,) = ledger.enter("watch", "adult", SETTINGS, 0, 60, dues(2), NOON)
    assert second.id > first.id
