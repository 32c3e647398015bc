"""The daemon as a process: signals, standby, retention, and failures of ledger, storage and disk."""

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
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import orjson
import pytest
from moto.server import ThreadedMotoServer

from runner.domain.executions import HOUR, Status
from runner.scheduling.ledger import Ledger
from runner.scheduling.ledger.schema import executions
from tests.cli_runner import CHECKOUT, HANG_SECONDS
from tests.golden import Golden
from tests.history_samples import TrafficHistory, settle
from tests.object_store import use_endpoint
from tests.processes import daemon, wait_until

BUSY_SECONDS = 30.0
DONE = {Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS}


@pytest.fixture
def history(tmp_path: Path) -> TrafficHistory:
    """Six hours of traffic, and a reference."""
    six_hours = TrafficHistory(tmp_path, 6)
    six_hours.prepare()
    return six_hours


@pytest.fixture
def ledger(history: TrafficHistory) -> Iterator[Ledger]:
    """The ledger of these hours."""
    with Ledger(f"sqlite:///{history.root}/ledger.sqlite", BUSY_SECONDS) as opened:
        yield opened


def any_started(ledger: Ledger) -> bool:
    """Return whether an execution has started."""
    return any(entry.attempts for entry in ledger.executions.newest())


def leading(ledger: Ledger) -> list[bool]:
    """Return for each daemon whether it is the leader."""
    return [one.leading for one in ledger.daemons()]


def test_sigterm_drains(history: TrafficHistory, ledger: Ledger, golden: Golden) -> None:
    """After SIGTERM no execution starts, and the exit code is 0; SIGHUP changes nothing and is logged."""
    history.schedule(ledger)
    with daemon(history.root) as running:
        wait_until(partial(any_started, ledger))
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("SIGHUP")
        assert running.stop() == 0
        (hung_up,) = (line["message"] for line in running.lines() if "SIGHUP" in line["message"])
        (draining,) = (line["message"] for line in running.lines() if "draining" in line["message"])
    statuses = Counter(entry.status in DONE for entry in ledger.executions.newest())
    assert statuses == {True: 1, False: 5}
    assert ledger.daemons() == []
    golden(hung_up)
    golden(draining)


@pytest.mark.soak
def test_sigterm_during_startup_stops_the_daemon(history: TrafficHistory, ledger: Ledger) -> None:
    """However early, the daemon exits with 0, 130 or by the signal, and the ledger stays intact."""
    history.schedule(ledger, "schedule.catch_up=last")
    for seconds in (0.1, 0.4, 0.8, 1.2):
        with daemon(history.root, wait="") as running:
            time.sleep(seconds)
            assert running.stop() in {0, 130, -signal.SIGTERM}
        assert "Traceback" not in running.log.read_text()
    with daemon(history.root):
        assert Counter(execution.status in DONE for execution in settle(ledger)) == {True: 1, False: 5}


@pytest.mark.soak
def test_standby_takes_over_and_no_window_runs_twice(history: TrafficHistory, ledger: Ledger) -> None:
    """One daemon leads, the other takes over; each window is executed once, and no change is logged twice."""
    with daemon(history.root) as first, daemon(history.root, wait="") as second:
        history.schedule(ledger, "schedule.overlap=allow")
        wait_until(partial(any_started, ledger))
        wait_until(lambda: leading(ledger) == [True, False])
        assert not second.logged("leading")
        first.stop()
        wait_until(lambda: leading(ledger) == [True])
        entries = settle(ledger)
    lines = [*first.lines(), *second.lines()]
    assert {entry.status for entry in entries} <= DONE
    logged = Counter(line["execution"] for line in lines if "execution" in line and line["level"] == "info")
    assert set(logged.values()) == {1}
    assert {entry.attempts for entry in entries} == {1}


@pytest.mark.soak
def test_retention_follows_the_snapshot_of_each_execution(history: TrafficHistory, ledger: Ledger) -> None:
    """The daemon applies the monitor.keep of each execution, not its own."""
    hour = f"stage.start={history.first:%FT%TZ}", f"stage.end={history.first + HOUR:%FT%TZ}"
    for name, keep in (("short", "PT1S"), ("long", "P9D"), ("unlimited", "null")):
        history(
            "stage=backfill",
            *hour,
            f"monitor.name={name}",
            f"monitor.keep={keep}",
            f"monitor.reference={history.reference}",
        )
    with ledger.database.writing() as connection:
        connection.execute(executions.update().values(ended=history.first))
    with daemon(history.root) as running:
        running.wait_for("monitor.keep")
    remaining = {path.parts[-6] for path in history.root.glob("monitor/*/*/*/*/*/*/manifest.json")}
    assert remaining == {"long", "unlimited"}
    assert {entry.schedule: entry.output is None for entry in ledger.executions.newest()} == {
        "short": True,
        "long": False,
        "unlimited": False,
    }


@pytest.mark.soak
def test_ledger_locked_for_20_s_loses_nothing(history: TrafficHistory, ledger: Ledger) -> None:
    """While another program holds a transaction, results wait; afterwards they are recorded."""
    history.schedule(ledger)
    with daemon(history.root, "ledger.busy_seconds=2") as running:
        wait_until(partial(any_started, ledger))
        with closing(sqlite3.connect(history.root / "ledger.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(20)
            assert running.logged("ledger.busy_seconds=2")
            other.execute("ROLLBACK")
        entries = settle(ledger)
    assert {(entry.status in DONE, entry.attempts) for entry in entries} == {(True, 1)}


@pytest.mark.soak
def test_unreachable_storage_fails_only_its_executions(
    history: TrafficHistory, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason names the address; later executions succeed, and a backfill repeats the failed ones."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    use_endpoint(monkeypatch, f"http://127.0.0.1:{port}")
    remote = TrafficHistory(history.root, 6, ("paths.capture=s3://captures/traffic",))
    remote.schedule(ledger)
    with daemon(history.root, "stage.workers=1"):
        deadline = time.monotonic() + 90
        while not (failed := ledger.executions.newest(statuses=[Status.FAILED])):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert "s3://captures/traffic" in (failed[0].failure_reason or "")
        store = ThreadedMotoServer("127.0.0.1", port=port, verbose=False)
        store.start()
        try:
            use_endpoint(monkeypatch, f"http://127.0.0.1:{port}")
            upload(history.root / "capture", port)
            entries = settle(ledger, 120)
            assert {entry.status for entry in entries[2:]} <= DONE
            remote("stage=backfill", f"stage.start={remote.first:%FT%TZ}", f"stage.end={entries[-1].scheduled:%FT%TZ}")
            after = {entry.id: entry for entry in ledger.executions.newest()}
            assert {after[entry.id].status for entry in entries} <= DONE
            repeated = [entry for entry in entries if after[entry.id].ended != entry.ended]
            assert repeated == [entry for entry in entries if entry.status is Status.FAILED]
            assert 1 <= len(repeated) <= 2
        finally:
            store.stop()


def upload(folder: Path, port: int) -> None:
    """Upload captured traffic into a new bucket."""
    with closing(boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")) as client:
        client.create_bucket(Bucket="captures")
        for path in folder.rglob("*.jsonl"):
            client.upload_file(str(path), "captures", f"traffic/{path.relative_to(folder).as_posix()}")


@pytest.mark.soak
def test_full_disk_fails_only_its_execution(tmp_path: Path) -> None:
    """On a small file system: Failed with the reason, no partial files, and the next executions succeed."""
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs unshare -rm (a mount namespace): util-linux, and a kernel that allows it")
    command = [unshare, "-rm", sys.executable, "-m", "tests.full_disk", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    full, later, remaining = orjson.loads(done.stdout.splitlines()[-1])
    assert full[0] == Status.FAILED
    assert os.strerror(28) in full[1]
    assert {status for status, _ in later} <= DONE
    assert remaining == []
