"""A page that says whether the daemon is well, and its figures as Prometheus reads them."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from runner.domain.executions import Status
from runner.domain.publication import METRICS
from runner.domain.schedules import ExecutionRecord
from runner.errors import LedgerError, SettingsError
from runner.scheduling.daemon.verdicts import Verdicts

POLL_SECONDS = 0.05
SILENT_SECONDS = 10.0
LATE_SECONDS = 120.0
"""A daemon whose last good round is longer ago is not well."""

ENDED = (Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS, Status.FAILED)
"""Statuses of executions that were not kept from saying something."""

Lasts = Callable[[Collection[Status]], dict[str, ExecutionRecord]]
"""Gives the last execution of each schedule that has one with one of some statuses."""

logger = logging.getLogger("shapwatch.daemon")


@dataclass(frozen=True)
class Facts:
    """What a daemon knows of itself.

    Attributes:
        leading: whether it runs executions, instead of standing by.
        round_age: seconds since the ledger last answered; `problem` is what it said since.
        running, workers: executions under way, and how many there may be.
    """

    leading: bool
    round_age: float
    problem: str | None
    running: int
    workers: int

    @property
    def well(self) -> bool:
        """Whether it does what it is there for."""
        return self.round_age < LATE_SECONDS


class Server(ThreadingHTTPServer):
    """Listens on IPv4 or IPv6, asks no name server for its own name, and takes no notice of who hangs up."""

    def __init__(self, address: tuple[str, int], page: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, page)

    def server_bind(self) -> None:
        """Bind."""
        TCPServer.server_bind(self)

    def handle_error(self, *_: Any) -> None:
        """Log what is not the client's doing."""
        if not isinstance(sys.exception(), ConnectionError):
            logger.exception("the page of health failed")


@contextmanager
def health(host: str, port: int, facts: Callable[[], Facts], lasts: Lasts) -> Iterator[None]:
    """Serve `/healthz` and `/metrics` inside.

    Args:
        host: where.
        port: where; 0 is a free one.
        facts: the state of the daemon.
        lasts: gives the last executions.

    Raises:
        SettingsError: when the address is taken or not this machine's.
    """
    verdicts = Verdicts()

    class Page(BaseHTTPRequestHandler):
        timeout = SILENT_SECONDS

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/healthz":
                now = facts()
                self._answer(200 if now.well else 503, "application/json", orjson.dumps({"ok": now.well} | vars(now)))
            elif path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, metrics(facts(), lasts, verdicts))
            else:
                self._answer(404, "text/plain", b"there are /healthz and /metrics\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep quiet: probes come every few seconds."""

    try:
        server = Server((host, port), Page)
    except OSError as error:
        problem = f"cannot listen at {host} ({error.strerror or error}); take another port, or 0 for a free one"
        raise SettingsError([f"stage.port={port}: {problem}"]) from error
    logger.info("health at http://%s:%d/healthz, figures at /metrics", host, server.server_address[1])
    thread = Thread(target=server.serve_forever, args=[POLL_SECONDS], daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def metrics(facts: Facts, lasts: Lasts, verdicts: Verdicts) -> bytes:
    """Return the figures in Prometheus' exposition format; without those of the ledger when it does not answer."""
    registry = CollectorRegistry()
    figures = {
        "shapwatch_daemon_leading": ("1 for the daemon that runs executions, 0 for a standby", facts.leading),
        "shapwatch_daemon_round_age_seconds": ("Seconds since the ledger last answered", facts.round_age),
        "shapwatch_executions_running": ("Executions under way", facts.running),
        "shapwatch_workers": ("Executions that may be under way at once", facts.workers),
    }
    for name, (what, value) in figures.items():
        Gauge(name, what, registry=registry).set(value)
    try:
        found, ended = lasts(tuple(Status)), lasts(ENDED)
    except LedgerError:
        found, ended = {}, {}
    _add_executions(registry, found)
    _add_verdicts(registry, ended, verdicts)
    return generate_latest(registry)


def _add_executions(registry: CollectorRegistry, lasts: dict[str, ExecutionRecord]) -> None:
    """Add the figures of the last executions, whether they have begun or not."""
    last = Gauge(
        "shapwatch_last_execution_status",
        "1 for the status of the last execution",
        ["schedule", "status"],
        registry=registry,
    )
    at = Gauge(
        "shapwatch_last_execution_scheduled_timestamp_seconds",
        "When the last execution was scheduled",
        ["schedule"],
        registry=registry,
    )
    memory = Gauge(
        "shapwatch_last_execution_peak_memory_bytes", "Of the last execution's process", ["schedule"], registry=registry
    )
    for schedule, entry in lasts.items():
        for status in Status:
            last.labels(schedule, status).set(status == entry.status)
        at.labels(schedule).set(entry.scheduled.timestamp())
        if entry.peak_memory is not None:
            memory.labels(schedule).set(entry.peak_memory)


def _add_verdicts(registry: CollectorRegistry, lasts: dict[str, ExecutionRecord], verdicts: Verdicts) -> None:
    """Add what the last executions that ended have found, under the names that `publish=[prometheus]` has for it."""
    level, moved, ndcg = (
        Gauge(f"shapwatch_{name}", METRICS[name], ["endpoint", "monitor", *labels], registry=registry)
        for name, labels in (("drift_level", []), ("largest_attribution_shift", []), ("ndcg", ["label"]))
    )
    completed = {entry: entry.output for entry in lasts.values() if entry.output and entry.status is not Status.FAILED}
    read = verdicts.of(completed.values())
    for entry, found in [(entry, read[directory]) for entry, directory in completed.items() if directory in read]:
        whose = entry.endpoint, entry.schedule
        if found.level is not None:
            level.labels(*whose).set(found.level.order)
        if found.attribution_shift is not None:
            moved.labels(*whose).set(found.attribution_shift)
        for label, value in found.ndcg.items():
            ndcg.labels(*whose, label).set(value)
