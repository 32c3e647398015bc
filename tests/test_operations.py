"""The daemon as a process: signals, standby, and what happens at 3 a.m."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import orjson
import pytest
from moto.server import ThreadedMotoServer

from runner.domain.executions import HOUR, Status
from runner.scheduling.ledger.ledger import Ledger
from runner.scheduling.ledger.tables import executions
from tests.cli_runner import CHECKOUT
from tests.golden import Golden
from tests.history_samples import AlertHistory, settle
from tests.object_store import use_endpoint
from tests.processes import daemon

BUSY = 30.0
DONE = {Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS}
PATIENCE = 20.0
"""Seconds that a daemon has to do what a test waits for."""


@pytest.fixture
def past(tmp_path: Path) -> AlertHistory:
    """Six hours with traffic and a reference."""
    six = AlertHistory(tmp_path, 6)
    six.prepare()
    return six


@pytest.fixture
def ledger(past: AlertHistory) -> Iterator[Ledger]:
    """Its ledger."""
    with Ledger(f"sqlite:///{past.root}/ledger.sqlite", BUSY) as opened:
        yield opened


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def begun(ledger: Ledger) -> bool:
    """Return whether an execution has begun."""
    return any(entry.attempts for entry in ledger.executions.newest())


def leading(ledger: Ledger) -> list[bool]:
    """Return for each daemon whether it leads."""
    return [one.leading for one in ledger.daemons()]


def test_sigterm_lets_what_runs_end(past: AlertHistory, ledger: Ledger, golden: Golden) -> None:
    """SIGHUP changes nothing and logs that; after SIGTERM nothing new starts, and the exit code is 0."""
    past.schedule(ledger)
    with daemon(past.root) as running:
        wait_until(partial(begun, ledger))
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("SIGHUP")
        assert running.end() == 0
        (hung_up,) = (line["message"] for line in running.lines() if "SIGHUP" in line["message"])
        (draining,) = (line["message"] for line in running.lines() if "draining" in line["message"])
    statuses = Counter(entry.status in DONE for entry in ledger.executions.newest())
    assert statuses == {True: 1, False: 5}
    assert ledger.daemons() == []
    golden(hung_up)
    golden(draining)


def test_sigterm_while_it_starts_ends_it_too(past: AlertHistory, ledger: Ledger) -> None:
    """However early it comes, the daemon ends with 0, 130 or by the signal, and the ledger is whole."""
    past.schedule(ledger)
    for seconds in (0.1, 0.4, 0.8, 1.2):
        with daemon(past.root, wait="") as running:
            time.sleep(seconds)
            assert running.end() in {0, 130, -signal.SIGTERM}
        assert "Traceback" not in running.log.read_text()
    with daemon(past.root):
        assert {entry.status for entry in settle(ledger)} <= DONE


@pytest.mark.soak
def test_two_daemons_never_run_one_window_twice(past: AlertHistory, ledger: Ledger) -> None:
    """One leads, the other stands by and takes over; each window is executed once."""
    with daemon(past.root) as first, daemon(past.root, wait="") as second:
        past.schedule(ledger, "schedule.overlap=allow")
        wait_until(partial(begun, ledger))
        wait_until(lambda: leading(ledger) == [True, False])
        assert not second.said("leading")
        first.end()
        wait_until(lambda: leading(ledger) == [True])
        entries = settle(ledger)
        lines = [*first.lines(), *second.lines()]
    assert {entry.status for entry in entries} <= DONE
    logged = Counter(line["execution"] for line in lines if "execution" in line and line["level"] == "info")
    assert logged == {entry.id: 2 for entry in entries}, "its begin and its end"
    assert {entry.attempts for entry in entries} == {1}


@pytest.mark.soak
def test_each_monitor_keeps_its_results_as_long_as_it_says(past: AlertHistory, ledger: Ledger) -> None:
    """The daemon takes monitor.keep from the settings that each execution ran with, not from its own."""
    hour = f"stage.start={past.first:%FT%TZ}", f"stage.end={past.first + HOUR:%FT%TZ}"
    for name, keep in (("short", "PT1S"), ("long", "P9D"), ("for-ever", "null")):
        past(
            "stage=backfill",
            *hour,
            f"monitor.name={name}",
            f"monitor.keep={keep}",
            f"monitor.reference={past.reference}",
        )
    with ledger.database.writing() as connection:
        connection.execute(executions.update().values(ended=past.first))
    with daemon(past.root) as running:
        running.wait_for("monitor.keep")
    left = {path.parts[-6] for path in past.root.glob("monitor/*/*/*/*/*/*/manifest.json")}
    assert left == {"long", "for-ever"}
    assert {entry.schedule: entry.output is None for entry in ledger.executions.newest()} == {
        "short": True,
        "long": False,
        "for-ever": False,
    }


@pytest.mark.soak
def test_a_ledger_that_is_locked_for_20_s_delays_and_loses_nothing(past: AlertHistory, ledger: Ledger) -> None:
    """A shell with an open transaction: what runs ends meanwhile, is written down afterwards, and the next one runs."""
    past.schedule(ledger)
    with daemon(past.root, "ledger.busy_seconds=2") as running:
        wait_until(partial(begun, ledger))
        with closing(sqlite3.connect(past.root / "ledger.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(20)
            assert running.said("ledger.busy_seconds=2")
            other.execute("ROLLBACK")
        entries = settle(ledger)
    assert {(entry.status in DONE, entry.attempts) for entry in entries} == {(True, 1)}


@pytest.mark.soak
def test_storage_that_is_unreachable_fails_that_hour_and_not_the_next(
    past: AlertHistory, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason names the address; once the store is back the schedule goes on, and a backfill makes up for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    use_endpoint(monkeypatch, f"http://127.0.0.1:{port}")
    remote = AlertHistory(past.root, 6, ("paths.capture=s3://captures/traffic",))
    remote.schedule(ledger)
    with daemon(past.root, "stage.workers=1"):
        until = time.monotonic() + 90
        while not (failed := ledger.executions.newest(statuses=[Status.FAILED])):
            assert time.monotonic() < until
            time.sleep(0.2)
        assert "s3://captures/traffic" in (failed[0].failure_reason or "")
        store = ThreadedMotoServer("127.0.0.1", port=port, verbose=False)
        store.start()
        try:
            use_endpoint(monkeypatch, f"http://127.0.0.1:{port}")
            upload(past.root / "capture", port)
            entries = settle(ledger, 120)
            assert {entry.status for entry in entries[2:]} <= DONE
            remote("stage=backfill", f"stage.start={remote.first:%FT%TZ}", f"stage.end={entries[-1].scheduled:%FT%TZ}")
            after = {entry.id: entry for entry in ledger.executions.newest()}
            assert {after[entry.id].status for entry in entries} <= DONE
            again = [entry for entry in entries if after[entry.id].ended != entry.ended]
            assert again == [entry for entry in entries if entry.status is Status.FAILED]
            assert 1 <= len(again) <= 2
        finally:
            store.stop()


def upload(folder: Path, port: int) -> None:
    """Put captured traffic into a store."""
    with closing(boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")) as client:
        client.create_bucket(Bucket="captures")
        for path in folder.rglob("*.jsonl"):
            client.upload_file(str(path), "captures", f"traffic/{path.relative_to(folder).as_posix()}")


@pytest.mark.soak
def test_a_full_disk_fails_that_hour_and_not_the_next(tmp_path: Path) -> None:
    """On a small file system of its own: Failed with the reason, nothing half-written, and the next hour runs."""
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs unshare -rm, a mount namespace of its own: util-linux, and a kernel that allows it")
    command = [unshare, "-rm", sys.executable, "-m", "tests.full_disk", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    full, later, left = orjson.loads(done.stdout.splitlines()[-1])
    assert full[0] == Status.FAILED
    assert os.strerror(28) in full[1]
    assert {status for status, _ in later} <= DONE
    assert left == []
