"""HTTP server with the health of a daemon at `/healthz`, and its metrics for Prometheus at `/metrics`."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from threading import Lock, Thread
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from runner.domain.executions import METRICS, Status
from runner.domain.schedules import ExecutionRecord
from runner.errors import LedgerError, SettingsError
from runner.results.directory import MANIFEST
from runner.results.manifest import Comparison
from runner.results.manifest_file import read_manifest
from runner.urls import is_loopback, is_public_name

POLL_SECONDS = 0.05
"""Seconds between two checks whether the server has to stop."""
REQUEST_SECONDS = 10.0
"""Seconds without data after which a connection is closed."""
CONNECTION_SECONDS = 30.0
"""Seconds after which a connection is closed in any case."""
MAX_CONNECTIONS = 32
"""Maximum number of open connections; a new one replaces the oldest one."""
LATE_SECONDS = 120.0
"""Seconds without a successful round after which a daemon is unhealthy."""
MAX_LABELS = 10
"""Maximum number of labels per execution; labels with the lowest nDCG come first."""

WITH_RESULT = (Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS, Status.FAILED)
"""Statuses of executions that ran to their end."""

LastExecutions = Callable[[Collection[Status]], dict[str, ExecutionRecord]]
"""Function that returns the last execution with one of the statuses, by schedule."""

logger = logging.getLogger("shapwatch.daemon")


@dataclass(frozen=True)
class DaemonState:
    """State of a daemon.

    Attributes:
        leading: whether the daemon is the leader, which runs executions; False for a standby.
        round_age: seconds since the last successful round.
        problem: error since the last successful round; None without an error.
        running: number of running executions.
        workers: maximum number of parallel executions.
    """

    leading: bool
    round_age: float
    problem: str | None
    running: int
    workers: int

    @property
    def healthy(self) -> bool:
        """Whether the last successful round is recent."""
        return self.round_age < LATE_SECONDS


class HealthServer(ThreadingHTTPServer):
    """HTTP server on IPv4 or IPv6, with few connections, which are closed after some time.

    It does not resolve its own name, and it does not log aborted connections.
    """

    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._started: dict[socket.socket, float] = {}
        self._lock = Lock()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without the name lookup of HTTPServer."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Respond in a new thread; if too many connections are open, close the oldest one."""
        with self._lock:
            if len(self._started) >= MAX_CONNECTIONS:
                self._close_oldest()
            self._started[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Close connections that have been open for too long; the server calls this method between requests."""
        with self._lock:
            while self._started and time.monotonic() - next(iter(self._started.values())) > CONNECTION_SECONDS:
                self._close_oldest()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection after its response."""
        with self._lock:
            self._started.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        """Log errors other than aborted connections."""
        if not isinstance(sys.exception(), ConnectionError):
            logger.exception("a request for the health of the daemon failed")

    def _close_oldest(self) -> None:
        oldest = next(iter(self._started))
        del self._started[oldest]
        with suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)


@contextmanager
def serve_health(host: str, port: int, state: Callable[[], DaemonState], last: LastExecutions) -> Iterator[None]:
    """Serve `/healthz` and `/metrics` in the background.

    Args:
        host: address to listen at.
        port: port to listen at; 0 for a free one.
        state: function that returns the state of the daemon.
        last: function that returns the last executions.

    Raises:
        SettingsError: if the server cannot listen at the address.
    """
    comparisons = ComparisonCache()

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if is_loopback(host) and is_public_name(self.headers.get("Host", "")):
                self._respond(403, "text/plain", b"expected the address of this machine as host\n")
            elif path == "/healthz":
                now = state()
                document = {"ok": now.healthy} | vars(now)
                self._respond(200 if now.healthy else 503, "application/json", orjson.dumps(document))
            elif path == "/metrics":
                self._respond(200, CONTENT_TYPE_LATEST, metrics(state(), last, comparisons))
            else:
                self._respond(404, "text/plain", b"not found; this server has /healthz and /metrics\n")

        def _respond(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log no requests: probes are frequent."""

    try:
        server = HealthServer((host, port), Handler)
    except OSError as error:
        problem = f"cannot listen at {host} ({error.strerror or error}); choose another port, or 0 for a free one"
        raise SettingsError([f"stage.port={port}: {problem}"]) from error
    logger.info("health at http://%s:%d/healthz, metrics at /metrics", host, server.server_address[1])
    thread = Thread(target=server.serve_forever, args=[POLL_SECONDS], daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class ManifestVersion:
    """Version of the manifest in a directory: inode, modification time and size of the file; 0 for a missing file."""

    directory: str
    inode: int = 0
    modified: int = 0
    size: int = 0


class ComparisonCache:
    """Cache of the comparisons in manifests; it reads each version of a manifest once."""

    def __init__(self) -> None:
        self._comparisons: Mapping[ManifestVersion, Comparison | None] = {}

    def get(self, directories: Iterable[str]) -> dict[str, Comparison]:
        """Return the comparisons by directory, without missing and damaged ones; remove all others from the cache."""
        before, versions = self._comparisons, [_manifest_version(directory) for directory in directories]
        self._comparisons = {
            version: before[version] if version in before else _read_comparison(version.directory)
            for version in versions
        }
        return {version.directory: found for version, found in self._comparisons.items() if found}


def metrics(state: DaemonState, last: LastExecutions, comparisons: ComparisonCache) -> bytes:
    """Return the metrics in the exposition format of Prometheus; only those of the daemon if the ledger fails."""
    registry = CollectorRegistry()
    gauges = {
        "shapwatch_daemon_leading": ("1 for the daemon that runs executions, 0 for a standby", state.leading),
        "shapwatch_daemon_round_age_seconds": ("Seconds since the last successful round", state.round_age),
        "shapwatch_executions_running": ("Running executions", state.running),
        "shapwatch_workers": ("Maximum number of parallel executions", state.workers),
    }
    for name, (description, value) in gauges.items():
        Gauge(name, description, registry=registry).set(value)
    try:
        executions, with_result = last(tuple(Status)), last(WITH_RESULT)
    except LedgerError:
        executions, with_result = {}, {}
    _add_executions(registry, executions)
    _add_results(registry, with_result, comparisons)
    return generate_latest(registry)


def _add_executions(registry: CollectorRegistry, last: dict[str, ExecutionRecord]) -> None:
    """Add metrics of the last execution of each schedule."""
    status, scheduled, memory = (
        Gauge(f"shapwatch_last_execution_{name}", description, labels, registry=registry)
        for name, description, labels in (
            ("status", "1 for the status of the last execution", ["schedule", "status"]),
            ("scheduled_timestamp_seconds", "Scheduled time of the last execution", ["schedule"]),
            ("peak_memory_bytes", "Peak memory of the last execution", ["schedule"]),
        )
    )
    for schedule, execution in last.items():
        for each in Status:
            status.labels(schedule, each).set(each == execution.status)
        scheduled.labels(schedule).set(execution.scheduled.timestamp())
        if execution.peak_memory is not None:
            memory.labels(schedule).set(execution.peak_memory)


def _add_results(registry: CollectorRegistry, last: dict[str, ExecutionRecord], comparisons: ComparisonCache) -> None:
    """Add results of the last execution of each schedule that has a result.

    Metrics that `publish=[prometheus]` also writes have the same names and labels.
    """
    level, shift, ndcg = (
        Gauge(f"shapwatch_{name}", METRICS[name], ["endpoint", "monitor", *labels], registry=registry)
        for name, labels in (("drift_level", []), ("largest_attribution_shift", []), ("ndcg", ["label"]))
    )
    completed = {each: each.output for each in last.values() if each.output and each.status is not Status.FAILED}
    results = comparisons.get(completed.values())
    for execution, directory in completed.items():
        if (result := results.get(directory)) is None:
            continue
        ids = execution.endpoint, execution.schedule
        if result.level is not None:
            level.labels(*ids).set(result.level.order)
        if result.effects and result.effects.attribution_shift.value is not None:
            shift.labels(*ids).set(result.effects.attribution_shift.value)
        for label, value in _lowest_ndcg(result):
            ndcg.labels(*ids, label).set(value)


def _lowest_ndcg(result: Comparison) -> list[tuple[str, float]]:
    """Return the labels with the lowest nDCG and their nDCG, lowest first, at most `MAX_LABELS`."""
    figures = [(drift.label, drift.ndcg) for drift in result.verdict.drifts if drift.ndcg is not None]
    return sorted(figures, key=lambda figure: figure[1])[:MAX_LABELS]


def _manifest_version(directory: str) -> ManifestVersion:
    with suppress(OSError):
        status = (Path(directory) / MANIFEST).stat()
        return ManifestVersion(directory, status.st_ino, status.st_mtime_ns, status.st_size)
    return ManifestVersion(directory)


def _read_comparison(directory: str) -> Comparison | None:
    """Return the comparison in a manifest, None if it is missing or damaged."""
    with suppress(ValueError):
        if manifest := read_manifest(Path(directory)):
            return manifest.comparison
    return None
