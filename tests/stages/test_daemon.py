"""A daemon, round by round: it leads or stands by, and the ledger may go away under it."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runner.domain.executions import HOUR, Status
from runner.results.directories import ANALYSIS, MANIFEST, execution_directory
from runner.scheduling.daemon.supervisor import Supervisor
from runner.scheduling.ledger.leadership import Leadership
from runner.scheduling.ledger.ledger import Ledger
from runner.stages.daemon import Daemon
from tests.golden import Golden
from tests.scheduling.daemon.supervisor_bench import LEASE, Bench, declaration, telling, wait_until
from tests.scheduling.ledger.ledger_samples import NOON

BUSY = 0.05


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench around a ledger that does not wait long for others."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", BUSY) as ledger:
        yield Bench(ledger)


def made(bench: Bench, supervisor: Supervisor | None = None, **changes: Any) -> Daemon:
    """Return a daemon."""
    supervisor = supervisor or bench.supervisor()
    parts: dict[str, Any] = {
        "ledger": bench.ledger,
        "leadership": Leadership(bench.ledger),
        "supervisor": supervisor,
        "dispatcher": partial(bench.dispatcher, supervisor),
        "monitors": (),
        "health": None,
        "poll_seconds": 0.01,
        "grace_seconds": 5.0,
        "lease_seconds": LEASE,
        "keep": None,
        "keep_results": lambda _: None,
        "clock": bench.clock,
    }
    return Daemon(**parts | changes)


@contextmanager
def leading(bench: Bench, **changes: Any) -> Iterator[Daemon]:
    """Yield a daemon after its first round; nothing of it is left."""
    daemon = made(bench, **changes)
    try:
        daemon.round()
        yield daemon
    finally:
        daemon.grace_seconds = 0
        daemon._drain()


def alarm(daemon: Daemon) -> None:
    """Let the alarms of a leader ring."""
    assert daemon._lead
    daemon._lead.wake()


@contextmanager
def locked(bench: Bench) -> Iterator[None]:
    """Let somebody else hold the ledger."""
    assert bench.ledger.file
    with closing(sqlite3.connect(bench.ledger.file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_one_leads_and_the_other_takes_over(bench: Bench) -> None:
    """Both are heard, one runs what is due; when it ends the other one does, from the same ledger."""
    bench.create()
    with leading(bench) as first, leading(bench) as second:
        assert (first.leading, second.leading) == (True, False)
        assert [one.leading for one in bench.ledger.daemons()] == [True, False]
        bench.clock.go_on(HOUR)
        alarm(first)
        for daemon in (second, first):
            daemon.round()
        wait_until(lambda: not first.supervisor.running)
        first._drain()
        second.round()
        assert second.leading
        assert [one.owner for one in bench.ledger.daemons()] == [second.supervisor.owner]
        bench.clock.go_on(HOUR)
        alarm(second)
        second.round()
        wait_until(lambda: not second.supervisor.running)
    owners = [entry.owner for entry in bench.ledger.entries()][::-1]
    assert owners == [first.supervisor.owner, second.supervisor.owner]


def test_its_monitors_are_in_the_ledger_when_it_begins_to_lead(bench: Bench) -> None:
    """Created, updated where they differ, and left alone where they do not."""
    bench.create("old", expression="cron(0 0 ? * * *)")
    bench.create("same")
    with leading(bench, monitors=[declaration("new"), declaration("old"), declaration("same")]):
        revisions = {one.name: (one.revision, '"cron(0 * ' in one.timetable) for one in bench.ledger.schedules()}
    assert revisions == {"new": (1, True), "old": (2, True), "same": (1, True)}


def test_a_ledger_that_is_away_is_told_of_once_and_used_again(
    bench: Bench, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """What runs goes on meanwhile, and health says what is wrong."""
    bench.codes["watch"] = telling(seconds=0.3)
    bench.create()
    with leading(bench) as daemon, caplog.at_level(logging.INFO, "shapwatch"):
        bench.clock.go_on(HOUR)
        alarm(daemon)
        daemon.round()
        daemon._beaten -= LEASE / 2
        with locked(bench):
            for _ in range(3):
                daemon.round()
            golden(daemon.facts().problem or "")
            assert daemon.facts().running == 1
        daemon.round()
        assert daemon.facts().problem is None
        wait_until(lambda: not daemon.supervisor.running)
    assert caplog.text.count("; trying again") <= 3
    assert sum("the ledger answers again" in line for line in caplog.messages) == 1
    assert bench.ledger.entries()[0].status == Status.COMPLETED


def test_a_leader_without_a_ledger_for_a_lease_steps_down(bench: Bench) -> None:
    """It ends what it runs, for somebody else may have taken that over; and leads again once it can."""
    bench.codes["watch"] = telling(seconds=60)
    bench.create()
    with leading(bench) as daemon:
        bench.clock.go_on(HOUR)
        alarm(daemon)
        daemon.round()
        assert daemon.facts().running == 1
        with locked(bench):
            daemon._beaten = time.monotonic() - LEASE - 1
            daemon.round()
            assert (daemon.leading, daemon.facts().running) == (False, 0)
        daemon.round()
        assert daemon.leading
        assert bench.ledger.entries()[0].status in {Status.PENDING, Status.IN_PROGRESS}
        assert bench.ledger.entries()[0].attempts <= 2


def test_a_leader_whose_lock_is_gone_steps_down(bench: Bench) -> None:
    """As when somebody removes the file of the lock: two leaders are worse than none."""
    with leading(bench) as daemon:
        assert bench.ledger.file
        bench.ledger.file.with_name("ledger.sqlite.leader").unlink()
        with leading(bench) as other:
            daemon.round()
            assert (daemon.leading, other.leading) == (False, True)


def test_what_is_old_goes(bench: Bench, tmp_path: Path) -> None:
    """First the directories, then the rows; what holds something else stays, and so does what is young."""
    for hours in (1, 2, 30):
        folder = execution_directory(tmp_path / "monitor", "e", "watch", NOON + hours * HOUR)
        folder.mkdir(parents=True)
        for name in (ANALYSIS, MANIFEST):
            (folder / name).write_text("{}")
        bench.codes["watch"] = telling(output=str(folder))
        supervisor, bench.clock.now = bench.supervisor(), NOON + hours * HOUR
        supervisor.start(bench.pending(hours=hours))
        supervisor.wait()
    kept = execution_directory(tmp_path / "monitor", "e", "watch", NOON + 2 * HOUR)
    (kept / "notes.txt").write_text("mine")
    bench.clock.now = NOON + 31 * HOUR
    with leading(bench, keep=timedelta(hours=10), keep_results=lambda _: timedelta(hours=5)):
        pass
    left = {path.parent.relative_to(tmp_path / "monitor/e/watch").as_posix() for path in tmp_path.rglob("*.json")}
    assert left == {"2026/01/05/14", "2026/01/06/18"}
    assert [entry.scheduled for entry in bench.ledger.entries()] == [NOON + 30 * HOUR]


def test_what_cannot_be_removed_ends_nothing(bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A day that is a file now is told of; the others go, and are not told of again."""
    for hours in (1, 30):
        folder = execution_directory(tmp_path / "monitor", "e", "watch", NOON + hours * HOUR)
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_text("{}")
        bench.codes["watch"] = telling(output=str(folder))
        supervisor = bench.supervisor()
        supervisor.start(bench.pending(hours=hours))
        supervisor.wait()
    day = tmp_path / "monitor/e/watch/2026/01/05"
    shutil.rmtree(day)
    day.write_text("no folder")
    bench.clock.go_on(100 * HOUR)
    with caplog.at_level(logging.INFO), leading(bench, keep_results=lambda _: timedelta(hours=5)) as daemon:
        assert daemon.leading
        daemon._tidied = float("-inf")
        daemon.round()
    assert not (tmp_path / "monitor/e/watch/2026/01/06").exists()
    assert sum("is removed" in line for line in caplog.messages) == 1
    assert sum("cannot be removed" in line for line in caplog.messages) == 2


def test_it_works_until_it_is_told_to_end(bench: Bench, golden: Golden) -> None:
    """What runs then has its time; the daemon is heard no more, and somebody else can lead."""
    bench.codes["watch"] = telling(seconds=0.5)
    bench.create()
    daemon = made(bench)
    bench.clock.go_on(HOUR)

    def tell() -> None:
        wait_until(lambda: daemon.supervisor.running)
        daemon._signals.ask()

    teller = threading.Thread(target=tell)
    teller.start()
    outcome = daemon.run()
    teller.join()
    golden(outcome.message)
    assert bench.ledger.entries()[0].status == Status.COMPLETED
    assert bench.ledger.daemons() == []
    with leading(bench) as other:
        assert other.leading


@pytest.mark.parametrize("hurried", [False, True])
def test_what_has_no_time_left_is_the_next_ones(bench: Bench, hurried: bool) -> None:
    """After its grace, or a second signal, an execution is ended and pending again."""
    bench.codes["watch"] = telling(seconds=60)
    bench.create()
    daemon = made(bench, grace_seconds=60.0 if hurried else 0.1)
    bench.clock.go_on(HOUR)
    daemon.round()
    daemon._signals.ask()
    if hurried:
        daemon._signals.ask()
    daemon._drain()
    (entry,) = bench.ledger.entries()
    assert (entry.status, entry.attempts) == (Status.PENDING, 1)


def test_it_is_well_as_long_as_the_ledger_answers(bench: Bench) -> None:
    """Its facts are what the page of health tells."""
    with leading(bench) as daemon:
        facts = daemon.facts()
        assert (facts.leading, facts.well, facts.running, facts.workers) == (True, True, 0, 2)
        daemon._rounded -= 1000
        assert not daemon.facts().well
