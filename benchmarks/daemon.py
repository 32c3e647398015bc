"""A daemon with a thousand hourly schedules, beside APScheduler alone with a thousand cron jobs, in the same run.

    python -m benchmarks.daemon [--json] [--schedules 1000] [--seconds 60] [--workers 4]

Both processes idle for so many seconds, and their processor time and memory are read from the system. Then all
schedules of the daemon fire in one minute, without a start buffer; executions are processes that do nothing. Prints
how late each was claimed and how long it took to work all of them off. Fails when one is missing, or there twice.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from runner.domain.executions import Status
from runner.domain.schedules import ExecutionRecord, Snapshot
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.daemon.dispatcher import Dispatcher
from runner.scheduling.daemon.process import Child
from runner.scheduling.daemon.supervisor import HeartbeatMonitor, Supervisor
from runner.scheduling.ledger.leadership import Leadership
from runner.scheduling.ledger.ledger import Ledger
from runner.scheduling.timetable import load
from runner.stages.daemon import Daemon, DaemonStage

MINUTE = timedelta(minutes=1)
START_SECONDS = 20
LATEST_SECONDS = 60.0
LEASE_SECONDS = 60.0
HOURLY = {
    "kind": "cron",
    "start_offset": None,
    "end_offset": None,
    "buffer_minutes": 0,
    "catch_up": "all",
    "max_catch_up": 24,
    "overlap": "wait",
    "max_runtime": 3600,
}


def nothing(_: ExecutionRecord) -> Child:
    """Return the process of an execution that has nothing to do."""
    line = orjson.dumps({"message": "", "status": Status.COMPLETED}).decode()
    return Child(lambda _: ["/bin/echo", line], "/", {}, lambda _: None)


def run_daemon(url: str, workers: int) -> None:
    """Work until SIGTERM, as `stage=daemon` does, with everything loaded that the command line loads."""
    import runner.config.compose  # noqa: F401

    with Ledger(url, 30) as ledger:
        clock = partial(datetime.now, UTC)
        heartbeats = HeartbeatMonitor(LEASE_SECONDS, time.monotonic)
        supervisor = Supervisor(ledger, nothing, f"daemon-{os.getpid()}", workers, 5, heartbeats, clock)
        Daemon(
            settings=DaemonStage(
                "daemon", (), workers, poll_seconds=1.0, grace_seconds=30, host="127.0.0.1", port=None
            ),
            ledger=ledger,
            leadership=Leadership(ledger.database),
            supervisor=supervisor,
            create_dispatcher=lambda: Dispatcher(ledger, supervisor, clock, time.monotonic),
            monitors=(),
            health=None,
            lease_seconds=LEASE_SECONDS,
            keep=None,
            keep_results=lambda _: None,
            clock=clock,
            stopwatch=time.monotonic,
        ).run()


def run_peer(minute: int, schedules: int) -> None:
    """Keep as many cron jobs in the memory of APScheduler alone."""
    from apscheduler.schedulers.blocking import BlockingScheduler

    scheduler = BlockingScheduler(timezone=UTC)
    for number in range(schedules):
        scheduler.add_job(print, "cron", [number], minute=minute, id=str(number))
    scheduler.start()


def create(ledger: Ledger, schedules: int, minute: int) -> None:
    """Create hourly schedules."""
    timetable = load(json.dumps({**HOURLY, "expression": f"cron({minute} * ? * * *)"}))
    for number in range(schedules):
        name = f"monitor-{number:05}"
        declared = Declaration(name, "endpoint", "reference", timetable, None, Snapshot(f"name: {name}\n", "/"))
        declared.create(ledger, datetime.now(UTC))


def processor_seconds(process: int) -> float:
    """Return what a process has used of the processor."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process: int) -> float:
    """Return the most that a process has had of memory, in MB."""
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def idle(processes: dict[str, int], seconds: float) -> dict[str, float]:
    """Return the share of a core that each process uses while nothing is due."""
    before = {name: processor_seconds(process) for name, process in processes.items()}
    time.sleep(seconds)
    return {name: (processor_seconds(process) - before[name]) / seconds for name, process in processes.items()}


def fired(ledger: Ledger, schedules: int, scheduled: datetime, seconds: float) -> list[ExecutionRecord]:
    """Return all executions of a minute, once they have ended."""
    until = time.monotonic() + seconds
    while True:
        ended = [
            each for each in ledger.executions.newest(limit=2 * schedules) if each.ended and each.scheduled == scheduled
        ]
        if len(ended) == schedules:
            return ended
        if time.monotonic() > until:
            raise SystemExit(f"only {len(ended)} of {schedules} executions ended within {seconds:g} s")
        time.sleep(1)


def measure(schedules: int, seconds: float, workers: int) -> dict[str, Any]:
    """Return the figures of a run."""
    with tempfile.TemporaryDirectory() as folder, Ledger(f"sqlite:///{folder}/ledger.sqlite", 30) as ledger:
        settled = datetime.now(UTC) + timedelta(seconds=START_SECONDS + seconds + schedules / 50)
        due = settled.replace(second=0, microsecond=0) + MINUTE
        create(ledger, schedules, due.minute)
        command = [sys.executable, "-m", "benchmarks.daemon", f"--schedules={schedules}", f"--workers={workers}"]
        processes = {
            name: subprocess.Popen([*command, option], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
            for name, option in {"daemon": f"--daemon={ledger.database.file}", "peer": f"--peer={due.minute}"}.items()
        }
        try:
            time.sleep(START_SECONDS)
            numbers = {name: process.pid for name, process in processes.items()}
            shares = idle(numbers, seconds)
            processes["peer"].terminate()
            peer = memory(numbers["peer"])
            entries = fired(ledger, schedules, due, (due - datetime.now(UTC)).total_seconds() + 10 * LATEST_SECONDS)
            used = memory(numbers["daemon"])
        finally:
            for process in processes.values():
                process.terminate()
                process.wait(60)
    late = sorted((entry.started - entry.start_at).total_seconds() for entry in entries if entry.started)
    ended = max(entry.ended for entry in entries if entry.ended)
    return {
        "schedules": schedules,
        "idle_cpu_percent": round(100 * shares["daemon"], 2),
        "idle_cpu_percent_apscheduler": round(100 * shares["peer"], 2),
        "memory_mb": round(used, 1),
        "memory_mb_apscheduler": round(peer, 1),
        "memory_ratio": round(used / peer, 2),
        "claimed_late_seconds_median": round(late[len(late) // 2], 1),
        "claimed_late_seconds_max": round(late[-1], 1),
        "all_done_seconds": round((ended - due).total_seconds(), 1),
        "attempts": max(entry.attempts for entry in entries),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object on a line")
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60, help="to idle")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--daemon", help=argparse.SUPPRESS)
    parser.add_argument("--peer", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.daemon:
        return run_daemon(f"sqlite:///{arguments.daemon}", arguments.workers)
    if arguments.peer is not None:
        return run_peer(arguments.peer, arguments.schedules)
    found = measure(arguments.schedules, arguments.seconds, arguments.workers)
    if arguments.json:
        print(json.dumps(found))
        return None
    for key, value in found.items():
        print(f"{key.replace('_', ' '):<34} {value:>8}")
    return None


if __name__ == "__main__":
    main()
