"""The health server of a daemon, with requests as from a probe and from Prometheus."""

from __future__ import annotations

import logging
import re
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runner.domain.drift import LabelRanking, Level, RankingResult
from runner.domain.executions import Execution, Status
from runner.domain.schedules import Claim, ExecutionRecord
from runner.errors import LedgerError, SettingsError
from runner.results.directory import commit
from runner.results.manifest import Manifest
from runner.results.manifest_file import as_document, dump_manifest, read_manifest
from runner.scheduling.daemon import health as health_module
from runner.scheduling.daemon.health import (
    LATE_SECONDS,
    MAX_CONNECTIONS,
    MAX_LABELS,
    DaemonState,
    LastExecutions,
    serve_health,
)
from tests.golden import Golden
from tests.processes import wait_until
from tests.publish.publications import NAMES, prometheus_sink, publication
from tests.results.samples import COMPARISON, COMPLETED
from tests.scheduling.daemon.bench import Bench
from tests.scheduling.daemon.execution_samples import NOON, make_execution
from tests.scheduling.ledger.ledger_samples import planned

HOST = "127.0.0.1"
HEALTHY = DaemonState(leading=True, round_age=0.5, problem=None, running=1, workers=2)
SPECIAL_NAME = 'a "quoted"\nname with \\n and {braces}'


def no_executions() -> dict[str, ExecutionRecord]:
    """Return the last executions of a ledger without schedules."""
    return {}


@dataclass
class Page:
    """A client of the server, and the data that the server shows."""

    state: DaemonState = HEALTHY
    last: Callable[[], dict[str, ExecutionRecord]] = no_executions
    port: int = 0

    def last_with_status(self, statuses: Collection[Status]) -> dict[str, ExecutionRecord]:
        """Return the last executions with one of the statuses."""
        return {name: each for name, each in self.last().items() if each.status in statuses}

    def get(self, path: str) -> httpx.Response:
        """Return the response to a request."""
        return httpx.get(f"http://{HOST}:{self.port}{path}", trust_env=False, timeout=10)

    def metrics(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Return the metrics that Prometheus reads, by name and labels."""
        response = self.get("/metrics")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/plain; version=")
        samples = [sample for family in text_string_to_metric_families(response.text) for sample in family.samples]
        return {(sample.name, tuple(sample.labels.values())): sample.value for sample in samples}


class LogCollector(logging.Handler):
    """A log handler that stores messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Store the message."""
        self.messages.append(record.getMessage())


@contextmanager
def serving(last: LastExecutions | None = None) -> Iterator[Page]:
    """Yield a client of a server, whose port is in the log; by default the client has the last executions."""
    page, collector, logger = Page(), LogCollector(), logging.getLogger("shapwatch.daemon")
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.INFO)
    try:
        with serve_health(HOST, 0, lambda: page.state, last or page.last_with_status):
            (message,) = collector.messages
            match = re.fullmatch(r"health at http://127\.0\.0\.1:(\d+)/healthz, metrics at /metrics", message)
            assert match
            page.port = int(match[1])
            yield page
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)


@pytest.fixture(scope="module")
def shared() -> Iterator[Page]:
    """A server for all tests that do not end it."""
    with serving() as page:
        yield page


@pytest.fixture
def page(shared: Page) -> Page:
    """A client of the server of a healthy daemon, without schedules."""
    shared.state, shared.last = HEALTHY, no_executions
    return shared


def test_many_slow_clients_do_not_delay_a_probe(page: Page) -> None:
    """The newest connections are open, and the threads of the others have ended."""
    before = len(enumerate_threads())
    with ExitStack() as stack:
        for _ in range(5 * MAX_CONNECTIONS):
            connection = stack.enter_context(socket.create_connection((HOST, page.port), 20))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nX-A: ")
        assert page.get("/healthz").status_code == 200
        wait_until(lambda: len(enumerate_threads()) - before <= MAX_CONNECTIONS)
        connection.sendall(b"1\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.0 200 ")


def test_client_that_sends_byte_by_byte_is_disconnected(monkeypatch: pytest.MonkeyPatch, page: Page) -> None:
    """The time limit holds for the whole connection."""
    monkeypatch.setattr(health_module, "CONNECTION_SECONDS", 0.2)
    with socket.create_connection((HOST, page.port), 20) as connection:
        connection.setblocking(False)

        def is_closed() -> bool:
            try:
                connection.sendall(b"G")
                return connection.recv(1) == b""
            except BlockingIOError:
                return False
            except ConnectionError:
                return True

        wait_until(is_closed)


@pytest.mark.parametrize(("host", "status"), [("page.example:80", 403), ("localhost:80", 200), ("[::1]", 200)])
def test_web_pages_cannot_read_the_health(page: Page, host: str, status: int) -> None:
    """On loopback, a domain name that points to this machine is rejected."""
    url = f"http://{HOST}:{page.port}/metrics"
    assert httpx.get(url, headers={"Host": host}, trust_env=False).status_code == status


def test_a_healthy_daemon_responds_with_200(page: Page) -> None:
    """The body contains its state."""
    response = page.get("/healthz")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == {
        "ok": True,
        "leading": True,
        "round_age": 0.5,
        "problem": None,
        "running": 1,
        "workers": 2,
    }


@pytest.mark.parametrize(
    ("age", "code"), [(0.0, 200), (LATE_SECONDS - 0.01, 200), (LATE_SECONDS, 503), (LATE_SECONDS + 1e6, 503)]
)
def test_a_daemon_without_recent_round_responds_with_503(page: Page, age: float, code: int) -> None:
    """The body contains the problem; metrics are still available."""
    page.state = DaemonState(leading=False, round_age=age, problem="locked", running=0, workers=2)
    response = page.get("/healthz")
    assert response.status_code == code
    assert (response.json()["ok"], response.json()["problem"]) == (code == 200, "locked")
    assert page.metrics()["shapwatch_daemon_round_age_seconds", ()] == age


def test_a_standby_is_healthy(page: Page) -> None:
    """Each response has the current state."""
    assert page.metrics()["shapwatch_daemon_leading", ()] == 1
    page.state = replace(HEALTHY, leading=False)
    assert page.get("/healthz").status_code == 200
    assert page.metrics()["shapwatch_daemon_leading", ()] == 0


@pytest.mark.parametrize("path", ["/", "/health", "/metrics/x", "//"])
def test_unknown_paths_respond_with_404(page: Page, path: str, golden: Golden) -> None:
    """The response names the known paths."""
    response = page.get(path)
    assert response.status_code == 404
    golden(response.text)


def test_prometheus_reads_the_metrics(page: Page) -> None:
    """Metrics of the daemon, and of the last execution of each schedule."""
    last = {
        "adult": make_execution(status=Status.COMPLETED, peak_memory=3 * 2**30),
        "other": make_execution(status=Status.FAILED, scheduled=NOON.replace(year=2025), peak_memory=None),
    }
    page.last = lambda: last
    metrics = page.metrics()
    assert metrics["shapwatch_daemon_leading", ()] == 1
    assert metrics["shapwatch_daemon_round_age_seconds", ()] == 0.5
    assert (metrics["shapwatch_executions_running", ()], metrics["shapwatch_workers", ()]) == (1, 2)
    statuses = {key[1]: value for key, value in metrics.items() if key[0] == "shapwatch_last_execution_status"}
    assert statuses == {(n, str(status)): float(status == last[n].status) for n in last for status in Status}
    at = "shapwatch_last_execution_scheduled_timestamp_seconds"
    assert {name: metrics[at, (name,)] for name in last} == {
        name: each.scheduled.timestamp() for name, each in last.items()
    }
    memory = {key[1]: value for key, value in metrics.items() if key[0] == "shapwatch_last_execution_peak_memory_bytes"}
    assert memory == {("adult",): 3 * 2**30}


def test_names_of_schedules_are_escaped(page: Page) -> None:
    """Quotes, line breaks and braces are read back unchanged."""
    page.last = lambda: {SPECIAL_NAME: make_execution(peak_memory=7)}
    metrics = page.metrics()
    assert metrics["shapwatch_last_execution_peak_memory_bytes", (SPECIAL_NAME,)] == 7
    assert {key[1][0] for key in metrics if key[1]} == {SPECIAL_NAME}


RANKINGS = (LabelRanking("label0", "label0", 0.875, 0.5, 0.7), LabelRanking("label1", "label1", None, None, None))
RESULT = replace(COMPARISON, verdict=RankingResult(0.9, RANKINGS))


def manifest(**changes: Any) -> Manifest:
    """Return the manifest of an execution with changed results."""
    return replace(COMPLETED, comparison=replace(RESULT, **changes))


def damaged(**changes: object) -> bytes:
    """Return a manifest with changed JSON values."""
    return orjson.dumps({**as_document(manifest()), **changes})


def completed(directory: Path, document: bytes, **changes: Any) -> ExecutionRecord:
    """Return an execution that has completed, with a manifest in its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (new := directory / "new").write_bytes(document)
    new.replace(directory / "manifest.json")
    return make_execution(**{"status": Status.COMPLETED, "output": str(directory)} | changes)


def results(page: Page) -> dict[tuple[str, ...], float]:
    """Return the metrics of drift results, by name and labels."""
    names = {"shapwatch_drift_level", "shapwatch_largest_attribution_shift", "shapwatch_ndcg"}
    found = {(name.removeprefix("shapwatch_"), *labels): value for (name, labels), value in page.metrics().items()}
    return {key: value for key, value in found.items() if f"shapwatch_{key[0]}" in names}


RESULTS = {
    ("drift_level", "adult", "adult-monitor"): Level.WARNING.order,
    ("largest_attribution_shift", "adult", "adult-monitor"): 0.25,
    ("ndcg", "adult", "label0", "adult-monitor"): 0.875,
}


def test_the_last_result_is_shown(page: Page, tmp_path: Path) -> None:
    """Names, labels and descriptions are those of the textfile; undefined values are left out."""
    last = {"adult-monitor": completed(tmp_path, dump_manifest(manifest()))}
    page.last = lambda: last
    assert results(page) == RESULTS
    text = page.get("/metrics").text
    file = prometheus_sink(tmp_path / "textfile")
    file.publish(publication())
    textfile = file.file(publication()).read_text()
    for name in ("drift_level", "ndcg"):
        (description,) = [line for line in text.splitlines() if line.startswith(f"# HELP shapwatch_{name} ")]
        assert description in textfile.splitlines()


def test_without_tests_only_the_ndcg_is_shown(page: Page, tmp_path: Path) -> None:
    """Without stored reference records there is no level, which differs from the level `none`."""
    document = dump_manifest(manifest(level=None, effects=None))
    page.last = lambda: {"adult-monitor": completed(tmp_path, document)}
    assert results(page).keys() == {("ndcg", "adult", "label0", "adult-monitor")}


def test_labels_are_escaped_and_limited_to_the_lowest_ndcg(page: Page, tmp_path: Path) -> None:
    """Quotes, line breaks and emoji are read back unchanged."""
    names = [*NAMES, *(f"good {i}" for i in range(1000))]
    assert len(NAMES) == MAX_LABELS
    rankings = [LabelRanking(name, name, i / len(names), None, None) for i, name in enumerate(names)]
    document = dump_manifest(manifest(verdict=RankingResult(0.9, tuple(rankings[::-1]))))
    execution = completed(tmp_path, document, schedule=SPECIAL_NAME, endpoint="\U0001f986")
    page.last = lambda: {SPECIAL_NAME: execution}
    found = {key[1:]: value for key, value in results(page).items() if key[0] == "ndcg"}
    assert found == {("\U0001f986", name, SPECIAL_NAME): i / len(names) for i, name in enumerate(NAMES)}


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[1]", b"null", b"\xff", b"{}", b"[" * 5000]
    + [
        damaged(**{key: value})
        for key in ("window", "status", "level", "effects", "verdict")
        for value in (
            7,
            "x",
            [7],
            {"labels": 7, "attribution_shift": 7},
            {"labels": [{}], "attribution_shift": {"value": []}},
        )
    ],
)
def test_a_damaged_manifest_affects_only_its_own_metrics(page: Page, tmp_path: Path, document: bytes) -> None:
    """The response contains the other schedules."""
    last = {
        "damaged": completed(tmp_path / "damaged", document, schedule="damaged"),
        "adult-monitor": completed(tmp_path / "good", dump_manifest(manifest())),
    }
    page.last = lambda: last
    metrics = results(page)
    assert {key: value for key, value in metrics.items() if "damaged" not in key} == RESULTS


def test_a_missing_directory_has_no_results(page: Page, tmp_path: Path) -> None:
    """A failed execution, and a file instead of a directory, have none either."""
    last = {"adult-monitor": completed(tmp_path / "06", dump_manifest(manifest()))}
    page.last = lambda: last
    (tmp_path / "06").rename(tmp_path / "aside")
    assert results(page) == {}
    (tmp_path / "aside").rename(tmp_path / "06")
    assert results(page) == RESULTS
    (tmp_path / "file").write_text("no directory")
    for changes in ({"output": None}, {"output": ""}, {"output": str(tmp_path / "file")}, {"status": Status.FAILED}):
        last["adult-monitor"] = replace(completed(tmp_path / "06", dump_manifest(manifest())), **changes)
        assert results(page) == {}


def test_a_manifest_is_read_once_per_version(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This applies to damaged ones as well."""
    reads = list[Path]()

    def recording(directory: Path) -> Manifest | None:
        reads.append(directory)
        return read_manifest(directory)

    monkeypatch.setattr(health_module, "read_manifest", recording)
    last = {
        "adult-monitor": completed(tmp_path / "06", dump_manifest(manifest())),
        "damaged": completed(tmp_path / "07", b"{", schedule="damaged"),
    }
    page.last = lambda: last
    assert [results(page) for _ in range(3)] == [RESULTS] * 3
    assert sorted(reads) == [tmp_path / "06", tmp_path / "07"]
    completed(tmp_path / "06", dump_manifest(manifest(level=Level.VIOLATION)))
    assert results(page) == RESULTS | {("drift_level", "adult", "adult-monitor"): Level.VIOLATION.order}
    assert reads[2:] == [tmp_path / "06"]


def test_directories_may_be_replaced_during_a_request(page: Page, tmp_path: Path) -> None:
    """Each response has the complete result, or none."""
    target, document = tmp_path / "06", dump_manifest(manifest())
    last = {"adult-monitor": completed(target, document)}
    page.last = lambda: last
    done = Event()

    def replacing() -> None:
        while not done.is_set():
            commit(target, {"manifest.json": document})

    writer = Thread(target=replacing)
    writer.start()
    try:
        assert all(results(page) in (RESULTS, {}) for _ in range(30))
    finally:
        done.set()
        writer.join()
    assert results(page) == RESULTS


def test_a_result_stays_until_the_next_execution_ends(bench: Bench, tmp_path: Path) -> None:
    """The status is that of the last execution."""
    first, _ = planned(bench.ledger, 1, 2, name="adult-monitor")
    output = completed(tmp_path / "06", dump_manifest(manifest())).output
    assert bench.ledger.executions.claim(first.id, "a", NOON)
    result = Execution("", status=Status.COMPLETED, directory=output or "")
    assert bench.ledger.executions.finish(Claim(first.id, "a", 1), result, NOON)
    with serving(bench.ledger.executions.last_by_schedule) as page:
        assert results(page) == RESULTS
        assert page.metrics()["shapwatch_last_execution_status", ("adult-monitor", "Pending")] == 1


def test_an_unavailable_ledger_affects_only_its_own_metrics(page: Page) -> None:
    """Metrics of the daemon are available."""

    def unavailable() -> dict[str, ExecutionRecord]:
        raise LedgerError("sqlite:///x", "it is locked")

    page.last = unavailable
    metrics = page.metrics()
    assert page.get("/healthz").status_code == 200
    assert metrics["shapwatch_daemon_leading", ()] == 1
    assert not any(name.startswith("shapwatch_last_execution") for name, _ in metrics)


def test_requests_are_not_logged(page: Page, capfd: pytest.CaptureFixture[str]) -> None:
    """Probes are frequent."""
    for path in ("/healthz", "/metrics", "/"):
        page.get(path)
    assert capfd.readouterr() == ("", "")


def request_threads() -> list[Thread]:
    """Return the threads of open requests."""
    return [thread for thread in enumerate_threads() if "process_request_thread" in thread.name]


def test_aborted_connections_are_not_logged(page: Page, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed to standard error."""
    with socket.create_connection((HOST, page.port)) as probe:
        probe.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        wait_until(request_threads)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: not request_threads())
    assert capfd.readouterr().err == ""


def test_the_port_is_free_after_the_end() -> None:
    """An idle connection does not prevent the end."""
    with ExitStack() as stack:
        with serving() as page:
            stack.enter_context(socket.create_connection((HOST, page.port)))
            assert page.get("/healthz").status_code == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, page.port))
        with serve_health(HOST, page.port, lambda: HEALTHY, lambda _: {}):
            assert page.get("/healthz").status_code == 200


@pytest.mark.parametrize("host", [HOST, "192.0.2.1"])
def test_an_unavailable_address_is_a_settings_error(host: str, golden: Golden) -> None:
    """The port is taken, or the address belongs to another machine."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as caught, serve_health(host, port, lambda: HEALTHY, lambda _: {}):
            raise AssertionError("the server listens")
    (problem,) = caught.value.problems
    golden(problem)
