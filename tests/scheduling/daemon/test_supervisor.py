"""Executions as processes that end by themselves, by force, or with whoever watches them."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from threading import Timer

import pytest

from runner.domain.executions import Status
from runner.domain.schedules import ExecutionRecord
from runner.scheduling.daemon.process import Child
from runner.scheduling.daemon.result import RUN_AGAIN, STOPPED_BY_HAND
from runner.scheduling.ledger.ledger import Ledger
from tests.golden import Golden
from tests.scheduling.daemon.supervisor_bench import LEASE, Bench, deaf, program, settled, wait_until
from tests.scheduling.ledger.ledger_samples import NOON

SOON = timedelta(seconds=1)


def test_what_a_process_tells_is_written_down(bench: Bench) -> None:
    """Status, message, reason and output are the process's own words; memory and owner are added."""
    bench.codes["watch"] = program(
        Status.COMPLETED_WITH_VIOLATIONS, exit_message="drift", failure_reason="because", output="/out/13"
    )
    supervisor = bench.supervisor("us")
    entry = bench.pending()
    bench.clock.go_on(SOON)
    assert supervisor.start(entry)
    ended = settled(bench, entry, supervisor)
    assert (ended.status, ended.exit_message, ended.failure_reason, ended.output) == (
        Status.COMPLETED_WITH_VIOLATIONS,
        "drift",
        "because",
        "/out/13",
    )
    assert (ended.owner, ended.attempts, ended.started, ended.ended) == ("us", 1, NOON + SOON, NOON + SOON)
    assert ended.peak_memory is not None
    assert ended.peak_memory > 1_000_000


def test_what_somebody_else_has_claimed_is_not_started(bench: Bench) -> None:
    """Of two supervisors one runs it, and a free place stays free."""
    entry, supervisor = bench.pending(), bench.supervisor()
    assert bench.ledger.begin(entry.id, "somebody", NOON)
    assert not supervisor.start(entry)
    assert (bench.started, supervisor.free) == ([], 2)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL: by hand, or because memory ran out"),
        ("import os; os.kill(os.getpid(), 11)", "ended by SIGSEGV"),
        ("import sys; sys.exit('the artefact is gone')", "exit code 1, without a result: the artefact is gone"),
        ("raise MemoryError", "ran out of memory"),
        ("print('{')", "exit code 0, without a result"),
    ],
)
def test_a_process_that_dies_has_failed_with_the_reason(bench: Bench, code: str, reason: str) -> None:
    """The reason says by what, and holds its last words."""
    bench.codes["watch"] = code
    supervisor, entry = bench.supervisor(), bench.pending()
    supervisor.start(entry)
    ended = settled(bench, entry, supervisor)
    assert ended.status == Status.FAILED
    assert reason in (ended.failure_reason or "")


def test_what_takes_too_long_is_stopped_with_all_it_started(bench: Bench, golden: Golden) -> None:
    """Even one that is deaf to SIGTERM, and even its own children."""
    bench.codes["watch"] = deaf()
    supervisor, entry = bench.supervisor(grace_seconds=0.1), bench.pending(max_runtime=1)
    supervisor.start(entry)
    ended = settled(bench, entry, supervisor)
    assert ended.status == Status.STOPPED
    golden(ended.failure_reason)


def test_what_is_stopped_by_hand_says_so_unless_it_was_done(bench: Bench) -> None:
    """A result that came before the signal counts."""
    bench.codes |= {"watch": program(seconds=60), "done": f"{program()}; sys.stdout.flush(); time.sleep(60)"}
    supervisor, entry, done = bench.supervisor(), bench.pending(), bench.pending("done")
    for each in (entry, done):
        supervisor.start(each)
    running = supervisor.running[done.id].child
    wait_until(lambda: running._answer)
    for each in (entry, done):
        supervisor.stop(each.id, STOPPED_BY_HAND)
        supervisor.stop(each.id, RUN_AGAIN)  # comes too late
    ended = settled(bench, entry, supervisor)
    assert (ended.status, ended.failure_reason) == (Status.STOPPED, STOPPED_BY_HAND.failure_reason)
    assert settled(bench, done, supervisor).status == Status.COMPLETED


def test_what_cannot_be_started_has_failed(bench: Bench) -> None:
    """As when the folder of its settings is gone."""

    def nowhere(_: ExecutionRecord) -> Child:
        return Child(lambda _: ["/bin/true"], "/no/such/folder", {})

    supervisor, entry = bench.supervisor(launch=nowhere), bench.pending()
    assert supervisor.start(entry)
    ended = bench.ledger.entry(entry.id)
    assert ended.status == Status.FAILED
    assert "/no/such/folder" in (ended.failure_reason or "")


def test_a_result_waits_for_a_ledger_that_is_locked(tmp_path: Path) -> None:
    """However long that takes: it is written down once somebody else's lock is gone."""
    file = tmp_path / "ledger.sqlite"
    with (
        Ledger(f"sqlite:///{file}", 0.05) as ledger,
        closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other,
    ):
        bench = Bench(ledger, codes={"watch": program(seconds=0.2)})
        supervisor, entry = bench.supervisor(), bench.pending()
        supervisor.start(entry)
        other.execute("BEGIN EXCLUSIVE")
        Timer(1.5, other.execute, ["ROLLBACK"]).start()
        assert settled(bench, entry, supervisor).status == Status.COMPLETED


@pytest.mark.parametrize("problem", [errno.EMFILE, errno.EAGAIN])
def test_what_is_scarce_now_is_tried_again(bench: Bench, problem: int) -> None:
    """No file descriptor, no process: the execution goes back in the next round, three times at most."""

    def scarce(_: ExecutionRecord) -> Child:
        raise OSError(problem, os.strerror(problem))

    supervisor, entry = bench.supervisor(launch=scarce), bench.pending()
    for attempt in (1, 2, 3):
        assert supervisor.start(bench.ledger.entry(entry.id))
        supervisor.reap()
        assert bench.ledger.entry(entry.id).attempts == attempt
    assert bench.ledger.entry(entry.id).status == Status.FAILED


def test_only_some_may_be_looked_after(bench: Bench) -> None:
    """A backfill leaves the executions of others alone, however long they are silent."""
    supervisor = bench.supervisor()
    ours, theirs = bench.pending(), bench.pending(hours=2)
    for entry in (ours, theirs):
        assert bench.ledger.begin(entry.id, "gone", NOON)
    supervisor.reap({ours.id})
    bench.clock.go_on(timedelta(seconds=LEASE))
    supervisor.reap({ours.id})
    assert bench.ledger.entry(ours.id).status == Status.PENDING
    assert bench.ledger.entry(theirs.id).status == Status.IN_PROGRESS


def test_who_has_promised_a_longer_lease_is_waited_for(bench: Bench) -> None:
    """The lease is its owner's, not that of whoever judges it."""
    supervisor, entry = bench.supervisor(), bench.pending()
    assert bench.ledger.begin(entry.id, "slow", NOON, 3 * LEASE)
    for expected in (Status.IN_PROGRESS, Status.IN_PROGRESS, Status.IN_PROGRESS, Status.PENDING):
        supervisor.reap()
        assert bench.ledger.entry(entry.id).status == expected
        bench.clock.go_on(timedelta(seconds=LEASE))


def test_what_a_dead_process_ran_is_run_again_after_its_lease(bench: Bench, golden: Golden) -> None:
    """Not before; after three times it has failed, and what was to be stopped is stopped."""
    supervisor = bench.supervisor()
    entry, stopping = bench.pending(), bench.pending(hours=2)
    for attempt in (1, 2, 3):
        assert bench.ledger.begin(entry.id, "gone", bench.clock())
        supervisor.reap()
        bench.clock.go_on(timedelta(seconds=LEASE - 1))
        supervisor.reap()
        assert bench.ledger.entry(entry.id).status == Status.IN_PROGRESS, attempt
        bench.clock.go_on(SOON)
        supervisor.reap()
        assert bench.ledger.entry(entry.id).status == (Status.FAILED if attempt == 3 else Status.PENDING)
    golden(bench.ledger.entry(entry.id).failure_reason or "")
    assert bench.ledger.begin(stopping.id, "gone", NOON)
    assert bench.ledger.ask_to_stop(stopping.id, NOON)
    supervisor.reap()
    bench.clock.go_on(timedelta(seconds=LEASE))
    supervisor.reap()
    assert bench.ledger.entry(stopping.id).status == Status.STOPPED


def test_what_beats_is_left_alone(bench: Bench) -> None:
    """Another process that is heard keeps what it runs, for as long as it likes."""
    supervisor, entry = bench.supervisor(), bench.pending()
    assert bench.ledger.begin(entry.id, "alive", NOON)
    for _ in range(5):
        bench.clock.go_on(timedelta(seconds=LEASE / 2))
        bench.ledger.beat("alive", bench.clock(), False, "host", 1)
        supervisor.reap()
    assert bench.ledger.entry(entry.id).status == Status.IN_PROGRESS


def test_what_we_began_and_lost_ourselves_goes_back_at_once(bench: Bench) -> None:
    """An execution under our name that we do not run, as when its settings could not be read."""
    supervisor, entry = bench.supervisor("us"), bench.pending()
    assert bench.ledger.begin(entry.id, "us", NOON)
    supervisor.reap()
    assert bench.ledger.entry(entry.id).status == Status.PENDING


def test_all_end_and_go_back_when_the_daemon_ends(bench: Bench) -> None:
    """They are pending again, but what was to be stopped is stopped."""
    bench.codes["watch"] = program(seconds=60)
    supervisor, entry, stopping = bench.supervisor(), bench.pending(), bench.pending(hours=2)
    for each in (entry, stopping):
        supervisor.start(each)
    assert bench.ledger.ask_to_stop(stopping.id, NOON)
    supervisor.stop_all(RUN_AGAIN, 5)
    assert (supervisor.running, supervisor.free) == ({}, 2)
    assert bench.ledger.entry(entry.id).status == Status.PENDING
    assert bench.ledger.entry(stopping.id).status == Status.STOPPED


def test_what_is_abandoned_is_ended_without_a_word(bench: Bench) -> None:
    """Somebody else may own it by now; and the supervisor can go on afterwards."""
    bench.codes["watch"] = program(seconds=60)
    supervisor, entry = bench.supervisor(), bench.pending()
    supervisor.start(entry)
    supervisor.abandon()
    assert bench.ledger.entry(entry.id).status == Status.IN_PROGRESS
    bench.codes["watch"] = program()
    supervisor.start(other := bench.pending(hours=2))
    assert settled(bench, other, supervisor).status == Status.COMPLETED


def test_an_execution_that_was_taken_over_is_not_written_over(bench: Bench) -> None:
    """The one who has it now has the say, whatever our process tells."""
    bench.codes["watch"] = program(seconds=0.3)
    supervisor, entry = bench.supervisor("us"), bench.pending()
    supervisor.start(entry)
    assert bench.ledger.hand_back(entry.id, "us", NOON)
    assert bench.ledger.begin(entry.id, "them", NOON)
    ended = settled(bench, entry, supervisor)
    assert (ended.status, ended.owner) == (Status.IN_PROGRESS, "them")
