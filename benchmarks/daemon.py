"""A daemon with 1,000 hourly schedules, compared with APScheduler with 1,000 cron jobs in the same run.

    python -m benchmarks.daemon [--json] [--schedules 1000] [--seconds 60] [--workers 4]

Both processes are idle for `--seconds`; CPU time and memory are read from /proc. Then all schedules of the daemon are
due in the same minute, without start buffer; executions are processes that do nothing. Prints the delays of the claims
and the time until all executions have ended. Fails if an execution is missing.
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
from runner.scheduling.ledger import Leadership, Ledger
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


def empty_execution(_: ExecutionRecord) -> Child:
    """Return the process of an execution that does nothing."""
    line = orjson.dumps({"message": "", "status": Status.COMPLETED}).decode()
    return Child(lambda _: ["/bin/echo", line], "/", {}, lambda _: None)


def run_daemon(url: str, workers: int) -> None:
    """Run a daemon until SIGTERM, with the same imports as `stage=daemon`."""
    import runner.config.compose  # noqa: F401

    with Ledger(url, 30) as ledger:
        clock = partial(datetime.now, UTC)
        heartbeats = HeartbeatMonitor(LEASE_SECONDS, time.monotonic)
        supervisor = Supervisor(
            ledger.executions, empty_execution, f"daemon-{os.getpid()}", workers, 5, heartbeats, clock
        )
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
    """Run APScheduler with the same number of cron jobs in memory."""
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
        declared.create(ledger.schedules, datetime.now(UTC))


def processor_seconds(process: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process: int) -> float:
    """Return the peak memory of a process in MB."""
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def idle(processes: dict[str, int], seconds: float) -> dict[str, float]:
    """Return the share of a core that each process uses while nothing is due."""
    before = {name: processor_seconds(process) for name, process in processes.items()}
    time.sleep(seconds)
    return {name: (processor_seconds(process) - before[name]) / seconds for name, process in processes.items()}


def ended_executions(ledger: Ledger, schedules: int, scheduled: datetime, seconds: float) -> list[ExecutionRecord]:
    """Return all executions of a scheduled time when they have ended."""
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
    """Return the results of a run."""
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
            entries = ended_executions(
                ledger, schedules, due, (due - datetime.now(UTC)).total_seconds() + 10 * LATEST_SECONDS
            )
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
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60, help="idle seconds")
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
