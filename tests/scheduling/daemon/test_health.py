"""The page of a daemon, asked over HTTP as a probe and as Prometheus would."""

from __future__ import annotations

import logging
import re
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runner.domain.executions import Status
from runner.domain.schedules import ExecutionRecord
from runner.errors import LedgerError, SettingsError
from runner.results.directory import commit
from runner.results.manifest import Manifest
from runner.results.manifest_file import as_document, read_manifest
from runner.scheduling.daemon.health import LATE_SECONDS, Facts, Lasts, health
from runner.scheduling.daemon.result import Result
from runner.scheduling.daemon.verdicts import MOST_LABELS
from tests.golden import Golden
from tests.publish.publications import NAMES, prometheus_sink, publication
from tests.results.samples import COMPLETED
from tests.scheduling.daemon.execution_samples import NOON, entry
from tests.scheduling.daemon.supervisor_bench import Bench, wait_until
from tests.scheduling.ledger.ledger_samples import planned

HOST = "127.0.0.1"
GOOD = Facts(leading=True, round_age=0.5, problem=None, running=1, workers=2)
STRANGE = 'a "quoted"\nname with \\n and {braces}'


def none() -> dict[str, ExecutionRecord]:
    """Return the last executions where there is no schedule."""
    return {}


@dataclass
class Page:
    """A page that is asked over HTTP, and what there is to tell."""

    facts: Facts = GOOD
    lasts: Callable[[], dict[str, ExecutionRecord]] = none
    port: int = 0

    def ledger(self, statuses: Collection[Status]) -> dict[str, ExecutionRecord]:
        """Return what the ledger tells now."""
        return {name: entry for name, entry in self.lasts().items() if entry.status in statuses}

    def get(self, path: str) -> httpx.Response:
        """Return the answer to a request."""
        return httpx.get(f"http://{HOST}:{self.port}{path}", trust_env=False, timeout=10)

    def figures(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Return the figures that Prometheus reads, by name and labels."""
        answered = self.get("/metrics")
        assert answered.status_code == 200
        assert answered.headers["content-type"].startswith("text/plain; version=")
        samples = [sample for family in text_string_to_metric_families(answered.text) for sample in family.samples]
        return {(sample.name, tuple(sample.labels.values())): sample.value for sample in samples}


class Ear(logging.Handler):
    """Hears what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.heard.append(record.getMessage())


@contextmanager
def listening(lasts: Lasts | None = None) -> Iterator[Page]:
    """Yield a page at a free port, which the log tells, on a ledger or on what the page has in its place."""
    page, ear, logger = Page(), Ear(), logging.getLogger("shapwatch.daemon")
    level = logger.level
    logger.addHandler(ear)
    logger.setLevel(logging.INFO)
    try:
        with health(HOST, 0, lambda: page.facts, lasts or page.ledger):
            (told,) = ear.heard
            found = re.fullmatch(r"health at http://127\.0\.0\.1:(\d+)/healthz, figures at /metrics", told)
            assert found
            page.port = int(found[1])
            yield page
    finally:
        logger.removeHandler(ear)
        logger.setLevel(level)


@pytest.fixture(scope="module")
def shared() -> Iterator[Page]:
    """One page for all tests that do not end it."""
    with listening() as page:
        yield page


@pytest.fixture
def page(shared: Page) -> Page:
    """The page of a daemon that is well, on a ledger without schedules."""
    shared.facts, shared.lasts = GOOD, none
    return shared


def test_a_daemon_that_is_well_says_so(page: Page) -> None:
    """With all that it knows of itself."""
    answered = page.get("/healthz")
    assert (answered.status_code, answered.headers["content-type"]) == (200, "application/json")
    assert answered.json() == {
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
def test_a_daemon_that_is_late_is_not_well(page: Page, age: float, code: int) -> None:
    """Then it says why, too; its figures are there all the same."""
    page.facts = Facts(leading=False, round_age=age, problem="locked", running=0, workers=2)
    answered = page.get("/healthz")
    assert answered.status_code == code
    assert (answered.json()["ok"], answered.json()["problem"]) == (code == 200, "locked")
    assert page.figures()["shapwatch_daemon_round_age_seconds", ()] == age


def test_a_standby_is_well(page: Page) -> None:
    """It does what it is there for, and the state is that of the moment: each request asks anew."""
    assert page.figures()["shapwatch_daemon_leading", ()] == 1
    page.facts = replace(GOOD, leading=False)
    assert page.get("/healthz").status_code == 200
    assert page.figures()["shapwatch_daemon_leading", ()] == 0


@pytest.mark.parametrize("path", ["/", "/health", "/metrics/x", "//"])
def test_other_paths_are_not_there(page: Page, path: str, golden: Golden) -> None:
    """The answer names those that are."""
    answered = page.get(path)
    assert answered.status_code == 404
    golden(answered.text)


def test_figures_are_what_prometheus_reads(page: Page) -> None:
    """Of the daemon, and of the last execution of each schedule."""
    lasts = {
        "adult": entry(status=Status.COMPLETED, peak_memory=3 * 2**30),
        "other": entry(status=Status.FAILED, scheduled=NOON.replace(year=2025), peak_memory=None),
    }
    page.lasts = lambda: lasts
    found = page.figures()
    assert found["shapwatch_daemon_leading", ()] == 1
    assert found["shapwatch_daemon_round_age_seconds", ()] == 0.5
    assert (found["shapwatch_executions_running", ()], found["shapwatch_workers", ()]) == (1, 2)
    statuses = {key[1]: value for key, value in found.items() if key[0] == "shapwatch_last_execution_status"}
    assert statuses == {(name, str(status)): float(status == lasts[name].status) for name in lasts for status in Status}
    at = "shapwatch_last_execution_scheduled_timestamp_seconds"
    assert {name: found[at, (name,)] for name in lasts} == {n: one.scheduled.timestamp() for n, one in lasts.items()}
    memory = {key[1]: value for key, value in found.items() if key[0] == "shapwatch_last_execution_peak_memory_bytes"}
    assert memory == {("adult",): 3 * 2**30}


def test_names_are_escaped(page: Page) -> None:
    """Whatever a schedule is called, its name reads back and makes no line of its own."""
    page.lasts = lambda: {STRANGE: entry(peak_memory=7)}
    found = page.figures()
    assert found["shapwatch_last_execution_peak_memory_bytes", (STRANGE,)] == 7
    assert {key[1][0] for key in found if key[1]} == {STRANGE}


def ranking(name: str, ndcg: float | None) -> dict[str, Any]:
    """Return the nDCG figures of a label in a manifest."""
    return {"label": name, "reference_label": name, "ndcg": ndcg, "floor": None, "chance": None}


def manifest(**changes: Any) -> dict[str, Any]:
    """Return the manifest of an execution, as JSON object."""
    found = {
        "level": "warning",
        "effects": {
            "attribution_shift": {"value": 0.25, "noise": 0.1, "p": 0.01},
            "total_log2_change": {"value": 0.5, "noise": None, "p": None},
        },
        "verdict": {"threshold": 0.9, "labels": [ranking("label0", 0.875), ranking("label1", None)]},
    }
    return {**as_document(COMPLETED), **found, **changes}


def completed(directory: Path, document: bytes, **changes: Any) -> ExecutionRecord:
    """Return an execution that has completed, with a manifest in its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (new := directory / "new").write_bytes(document)
    new.replace(directory / "manifest.json")
    return entry(**{"status": Status.COMPLETED, "output": str(directory)} | changes)


def verdicts(page: Page) -> dict[tuple[str, ...], float]:
    """Return what the page tells of verdicts, by name and labels."""
    names = {"shapwatch_drift_level", "shapwatch_largest_attribution_shift", "shapwatch_ndcg"}
    found = {(name.removeprefix("shapwatch_"), *labels): value for (name, labels), value in page.figures().items()}
    return {key: value for key, value in found.items() if f"shapwatch_{key[0]}" in names}


VERDICT = {
    ("drift_level", "adult", "adult-monitor"): 3,
    ("largest_attribution_shift", "adult", "adult-monitor"): 0.25,
    ("ndcg", "adult", "label0", "adult-monitor"): 0.875,
}


def test_the_last_verdict_is_there(page: Page, tmp_path: Path) -> None:
    """Under the names, labels and meanings of the textfile; what is undefined is left out."""
    lasts = {"adult-monitor": completed(tmp_path, orjson.dumps(manifest()))}
    page.lasts = lambda: lasts
    assert verdicts(page) == VERDICT
    text = page.get("/metrics").text
    file = prometheus_sink(tmp_path / "textfile")
    file.publish(publication())
    theirs = file.file(publication()).read_text()
    for name in ("drift_level", "ndcg"):
        (told,) = [line for line in text.splitlines() if line.startswith(f"# HELP shapwatch_{name} ")]
        assert told in theirs.splitlines()


def test_a_reference_without_records_leaves_the_ranking(page: Page, tmp_path: Path) -> None:
    """There is no level then, which is not the level `none`."""
    document = orjson.dumps(manifest(level=None, effects=None))
    page.lasts = lambda: {"adult-monitor": completed(tmp_path, document)}
    assert verdicts(page).keys() == {("ndcg", "adult", "label0", "adult-monitor")}


def test_names_of_outputs_are_escaped_and_the_worst_come_first(page: Page, tmp_path: Path) -> None:
    """Quotes, line ends, emoji come out as they went in; of many labels those with the lowest nDCG are shown."""
    names = [*NAMES, *(f"good {i}" for i in range(1000))]
    assert len(NAMES) == MOST_LABELS
    labels = [ranking(name, i / len(names)) for i, name in enumerate(names)]
    document = orjson.dumps(manifest(verdict={"threshold": 0.9, "labels": labels[::-1]}))
    strange = completed(tmp_path, document, schedule=STRANGE, endpoint="\U0001f986")
    page.lasts = lambda: {STRANGE: strange}
    found = {key[1:]: value for key, value in verdicts(page).items() if key[0] == "ndcg"}
    assert found == {("\U0001f986", name, STRANGE): i / len(names) for i, name in enumerate(NAMES)}


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[1]", b"null", b"\xff", b"{}", b"[" * 5000]
    + [
        orjson.dumps(manifest(**{key: value}))
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
def test_a_damaged_manifest_takes_only_its_own_figures_away(page: Page, tmp_path: Path, document: bytes) -> None:
    """Whatever stands in it, the page and the other schedules are there."""
    lasts = {
        "damaged": completed(tmp_path / "damaged", document, schedule="damaged"),
        "adult-monitor": completed(tmp_path / "good", orjson.dumps(manifest())),
    }
    page.lasts = lambda: lasts
    found = verdicts(page)
    assert {key: value for key, value in found.items() if "damaged" not in key} == VERDICT


def test_a_directory_that_is_gone_has_no_figures(page: Page, tmp_path: Path) -> None:
    """They come back with it; one that never was, a file in its place and a failure have none either."""
    lasts = {"adult-monitor": completed(tmp_path / "06", orjson.dumps(manifest()))}
    page.lasts = lambda: lasts
    (tmp_path / "06").rename(tmp_path / "aside")
    assert verdicts(page) == {}
    (tmp_path / "aside").rename(tmp_path / "06")
    assert verdicts(page) == VERDICT
    (tmp_path / "file").write_text("no directory")
    for changes in ({"output": None}, {"output": ""}, {"output": str(tmp_path / "file")}, {"status": Status.FAILED}):
        lasts["adult-monitor"] = replace(completed(tmp_path / "06", orjson.dumps(manifest())), **changes)
        assert verdicts(page) == {}


def test_a_manifest_is_read_once_until_it_is_replaced(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a damaged one; and what is asked for no longer is forgotten."""
    reads = list[Path]()

    def reading(directory: Path) -> Manifest | None:
        reads.append(directory)
        return read_manifest(directory)

    monkeypatch.setattr("runner.scheduling.daemon.verdicts.read_manifest", reading)
    lasts = {
        "adult-monitor": completed(tmp_path / "06", orjson.dumps(manifest())),
        "damaged": completed(tmp_path / "07", b"{", schedule="damaged"),
    }
    page.lasts = lambda: lasts
    assert [verdicts(page) for _ in range(3)] == [VERDICT] * 3
    assert sorted(reads) == [tmp_path / "06", tmp_path / "07"]
    completed(tmp_path / "06", orjson.dumps(manifest(level="violation")))
    assert verdicts(page) == VERDICT | {("drift_level", "adult", "adult-monitor"): 4}
    assert reads[2:] == [tmp_path / "06"]


def test_directories_that_are_replaced_meanwhile_break_nothing(page: Page, tmp_path: Path) -> None:
    """Each answer has the verdict before, the one after, or none."""
    target, document = tmp_path / "06", orjson.dumps(manifest())
    lasts = {"adult-monitor": completed(target, document)}
    page.lasts = lambda: lasts
    done = Event()

    def replacing() -> None:
        while not done.is_set():
            commit(target, {"manifest.json": document})

    writer = Thread(target=replacing)
    writer.start()
    try:
        assert all(verdicts(page) in (VERDICT, {}) for _ in range(30))
    finally:
        done.set()
        writer.join()
    assert verdicts(page) == VERDICT


def test_a_verdict_stays_while_the_next_execution_waits(bench: Bench, tmp_path: Path) -> None:
    """Until that one has ended; the status is that of the newest, as the ledger has it."""
    one, _ = planned(bench.ledger, 1, 2, name="adult-monitor")
    output = completed(tmp_path / "06", orjson.dumps(manifest())).output
    assert bench.ledger.begin(one.id, "us", NOON)
    result = Result(Status.COMPLETED, output=output)
    assert bench.ledger.settle(one.id, "us", now=NOON, **asdict(result))
    with listening(bench.ledger.last_of_each) as page:
        assert verdicts(page) == VERDICT
        assert page.figures()["shapwatch_last_execution_status", ("adult-monitor", "Pending")] == 1


def test_a_ledger_that_does_not_answer_takes_only_its_own_figures_away(page: Page) -> None:
    """The daemon's are there, so that somebody is told."""

    def silent() -> dict[str, ExecutionRecord]:
        raise LedgerError("sqlite:///x", "it is locked")

    page.lasts = silent
    found = page.figures()
    assert page.get("/healthz").status_code == 200
    assert found["shapwatch_daemon_leading", ()] == 1
    assert not any(name.startswith("shapwatch_last_execution") for name, _ in found)


def test_requests_are_not_logged(page: Page, capfd: pytest.CaptureFixture[str]) -> None:
    """Probes come every few seconds."""
    for path in ("/healthz", "/metrics", "/"):
        page.get(path)
    assert capfd.readouterr() == ("", "")


def answering() -> list[Thread]:
    """Return what is answering a request."""
    return [thread for thread in enumerate_threads() if "process_request_thread" in thread.name]


def test_who_hangs_up_leaves_no_word(page: Page, capfd: pytest.CaptureFixture[str]) -> None:
    """A probe that breaks its connection off puts nothing between the lines of the log."""
    with socket.create_connection((HOST, page.port)) as probe:
        probe.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        wait_until(answering)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: not answering())
    assert capfd.readouterr().err == ""


def test_afterwards_nobody_listens() -> None:
    """Not even when somebody is connected who says nothing; the port is free again."""
    with ExitStack() as stack:
        with listening() as page:
            stack.enter_context(socket.create_connection((HOST, page.port)))
            assert page.get("/healthz").status_code == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, page.port))
        with health(HOST, page.port, lambda: GOOD, lambda _: {}):
            assert page.get("/healthz").status_code == 200


@pytest.mark.parametrize("host", [HOST, "192.0.2.1"])
def test_an_address_that_cannot_be_had_is_a_setting(host: str, golden: Golden) -> None:
    """Taken, or not this machine's: the sentence names the setting and says what to do."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as caught, health(host, port, lambda: GOOD, lambda _: {}):
            raise AssertionError("it listens")
    (problem,) = caught.value.problems
    golden(problem)
