"""The page of a daemon, asked over HTTP as a probe and as Prometheus would."""

from __future__ import annotations

import logging
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from threading import Thread
from threading import enumerate as enumerate_threads

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runner.agenda import Entry
from runner.domain import Status
from runner.errors import LedgerError, SettingsError
from runner.supervision.health import LATE_SECONDS, Facts, health
from tests.supervision.entries import NOON, entry
from tests.supervision.watching import wait_until

HOST = "127.0.0.1"
GOOD = Facts(leading=True, round_age=0.5, problem=None, running=1, workers=2)
STRANGE = 'a "quoted"\nname with \\n and {braces}'


def none() -> dict[str, Entry]:
    """Return the last executions where there is no schedule."""
    return {}


@dataclass
class Page:
    """A page that is asked over HTTP, and what there is to tell."""

    facts: Facts = GOOD
    lasts: Callable[[], dict[str, Entry]] = none
    port: int = 0

    def ledger(self) -> dict[str, Entry]:
        """Return what the ledger tells now."""
        return self.lasts()

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
def listening() -> Iterator[Page]:
    """Yield a page at a free port, which the log tells."""
    page, ear, logger = Page(), Ear(), logging.getLogger("shapwatch.daemon")
    level = logger.level
    logger.addHandler(ear)
    logger.setLevel(logging.INFO)
    try:
        with health(HOST, 0, lambda: page.facts, page.ledger):
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
    page.facts = Facts(leading=False, round_age=age, problem="the ledger is locked", running=0, workers=2)
    answered = page.get("/healthz")
    assert answered.status_code == code
    assert (answered.json()["ok"], answered.json()["problem"]) == (code == 200, "the ledger is locked")
    assert page.figures()["shapwatch_daemon_round_age_seconds", ()] == age


def test_a_standby_is_well(page: Page) -> None:
    """It does what it is there for, and the state is that of the moment: each request asks anew."""
    assert page.figures()["shapwatch_daemon_leading", ()] == 1
    page.facts = replace(GOOD, leading=False)
    assert page.get("/healthz").status_code == 200
    assert page.figures()["shapwatch_daemon_leading", ()] == 0


@pytest.mark.parametrize("path", ["/", "/health", "/metrics/x", "//"])
def test_other_paths_are_not_there(page: Page, path: str) -> None:
    """The answer names those that are."""
    answered = page.get(path)
    assert (answered.status_code, answered.text) == (404, "there are /healthz and /metrics\n")


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


def test_a_ledger_that_does_not_answer_takes_only_its_own_figures_away(page: Page) -> None:
    """The daemon's are there, so that somebody is told."""

    def silent() -> dict[str, Entry]:
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
        with health(HOST, page.port, lambda: GOOD, none):
            assert page.get("/healthz").status_code == 200


@pytest.mark.parametrize("host", [HOST, "192.0.2.1"])
def test_an_address_that_cannot_be_had_is_a_setting(host: str) -> None:
    """Taken, or not this machine's: the sentence names the setting and says what to do."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as caught, health(host, port, lambda: GOOD, none):
            raise AssertionError("it listens")
    (problem,) = caught.value.problems
    assert problem.startswith(f"stage.port={port}: cannot listen at {host} (")
    assert problem.endswith("); take another port, or 0 for a free one")
