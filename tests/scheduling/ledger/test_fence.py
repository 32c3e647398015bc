"""The process of an execution checks its claim, and records its result, in SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from runner.domain.executions import Execution, Status
from runner.domain.schedules import Claim
from runner.errors import ClaimLost
from runner.scheduling.ledger import Ledger
from runner.scheduling.ledger.fence import Fence
from tests.golden import Golden
from tests.scheduling.ledger.ledger_samples import NOON, planned

RESULT = Execution("done", directory="out")


@contextmanager
def claimed(ledger: Ledger) -> Iterator[Fence]:
    """Yield the fence of a claimed execution, as the process of the execution receives it."""
    (execution,) = planned(ledger, 1)
    claim = ledger.executions.claim(execution.id, "a", NOON)
    assert claim
    fence = Fence.load(Fence(ledger, claim).dump())
    with fence.ledger:
        yield fence


def test_a_valid_claim_permits_writing_and_publishing(ledger: Ledger) -> None:
    """The result is recorded before it is published."""
    with claimed(ledger) as valid:
        valid.check()
        valid.record(RESULT)
        assert ledger.executions.get(valid.claim.execution_id).status == Status.COMPLETED
        with pytest.raises(ClaimLost):
            valid.check()
        valid.record(RESULT)


def test_a_lost_claim_permits_neither(ledger: Ledger, golden: Golden) -> None:
    """The record remains that of the other process."""
    with claimed(ledger) as lost:
        assert ledger.executions.release(lost.claim, NOON, lost=True)
        with pytest.raises(ClaimLost):
            lost.check()
        later = ledger.executions.claim(lost.claim.execution_id, "b", NOON)
        with golden.raises(ClaimLost):
            lost.check()
        with pytest.raises(ClaimLost):
            lost.record(RESULT)
        claim = ledger.executions.get(lost.claim.execution_id).claim
        assert claim == later == Claim(lost.claim.execution_id, "b", 2)


def test_a_fence_waits_for_the_ledger(tmp_path: Path) -> None:
    """While the ledger is locked, the result waits, for as long as the execution may run."""
    with (
        Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", 0.01) as ledger,
        closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as other,
        claimed(ledger) as valid,
    ):
        pauses = list[float]()
        other.execute("BEGIN EXCLUSIVE")

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                other.execute("ROLLBACK")

        Fence(ledger, valid.claim, sleep=sleep).record(RESULT)
        assert len(pauses) == 3
        assert ledger.executions.get(valid.claim.execution_id).status == Status.COMPLETED
