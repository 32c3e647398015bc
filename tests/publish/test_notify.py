"""Messages: when they are sent, to whom, and without secrets."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread

import orjson
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.drift import Level, Verdict
from runner.domain.executions import AlertHistory, Status
from runner.domain.executions import ExecutionState as State
from runner.errors import PublishError
from runner.publish import publish_all
from runner.publish.notify import Notify, message
from runner.results.directory import unpublished
from tests.cli_runner import CHECKOUT
from tests.golden import Golden
from tests.models.servers import ReceivedRequest, Reply, Responder, RunningServer, always, serving
from tests.processes import wait_until
from tests.publish.publications import SECRET, Unreachable, failed_publication, publication

URLS = "SHAPWATCH_NOTIFY_URLS"
SINK = Notify(urls_env=(URLS,), min_level=Level.WARNING)
COMPLETED, VIOLATED, FAILED = Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS, Status.FAILED
FAILURE = State(FAILED)
DEATH = State(FAILED, died=True)
GOOD = State(COMPLETED)
END = "No drift any more"
"""First words of the message about the end of an episode."""
FEW = State(COMPLETED, Level.INSUFFICIENT_DATA)
FINISHED = st.builds(State, st.sampled_from([COMPLETED, VIOLATED]), st.sampled_from(Level))
STATES = st.lists(FINISHED | st.just(FAILURE))


def unreachable(port: int, folder: Path) -> Unreachable:
    """Return a configuration in which the sink cannot publish."""
    return Unreachable({URLS: f"json://user:{SECRET}@127.0.0.1:{port}/{SECRET}?cto=0.2"})


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    """A webhook that accepts everything, with its address in the environment."""
    with serving(always(200, "")) as served:
        set_urls(monkeypatch, served)
        yield served


def set_urls(monkeypatch: pytest.MonkeyPatch, *served: RunningServer, options: str = "") -> None:
    """Set the addresses of webhooks in the environment, with a secret in each."""
    addresses = (each.url.removeprefix("http://") for each in served)
    monkeypatch.setenv(URLS, " ".join(f"json://user:{SECRET}@{address}/{SECRET}/{options}" for address in addresses))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def headlines(*states: State, min_level: Level = Level.WARNING) -> list[str | None]:
    """Return the first words of the messages of consecutive executions, None for no message."""
    words: list[str | None] = []
    for i, state in enumerate(states):
        changed = frozenset(["income"])  # as in the publication
        history = AlertHistory.from_executions((replace(each, changed=changed), ()) for each in states[:i][::-1])
        execution = publication(state.level, status=state.status, history=history, died=state.died)
        sent = message(execution, min_level)
        words.append(sent.title.partition(":")[0] if sent else None)
    return words


def test_start_and_end_of_an_alert_are_sent_once() -> None:
    """An unchanged state sends nothing."""
    bad, good = State(VIOLATED, Level.VIOLATION), GOOD
    assert headlines(good, bad, bad, bad, good, good) == [None, "Violation", None, None, END, None]


def test_first_execution_sends_only_an_alert() -> None:
    """A first execution without drift sends nothing."""
    assert headlines(GOOD) == [None]
    assert headlines(State(COMPLETED, Level.WARNING)) == ["Warning"]


def test_only_higher_levels_of_an_episode_are_sent() -> None:
    """A lower level, and the return of a level that was sent, are no news."""
    warning, violation, info = (State(COMPLETED, level) for level in (Level.WARNING, Level.VIOLATION, Level.INFO))
    assert headlines(warning, violation, warning, violation, info) == ["Warning", "Violation", None, None, END]
    assert headlines(violation, FAILURE, warning, violation) == ["Violation", "Failed", "Works again", None]
    assert headlines(warning, info, warning, GOOD, violation) == ["Warning", END, "Warning", END, "Violation"]
    assert headlines(violation, warning, violation, min_level=Level.VIOLATION) == ["Violation", END, "Violation"]


def test_input_that_joins_an_episode_is_sent_once() -> None:
    """An input that reaches the level of an alert for the first time in the episode is news, even at the same level."""
    first, both = State(COMPLETED, Level.WARNING, changed=frozenset(["age"])), frozenset(["age", "income"])
    history = AlertHistory.from_executions([(first, ()), (GOOD, ())])
    sent = message(publication(Level.WARNING, history=history), Level.WARNING)
    assert sent is not None
    assert sent.title.startswith("Another change: ")
    for states in ([replace(first, changed=both)], [first, replace(first, changed=both), GOOD]):
        history = AlertHistory.from_executions((each, ()) for each in states)
        assert message(publication(Level.WARNING, history=history), Level.WARNING) is None


def test_failure_and_recovery_are_sent_once() -> None:
    """The first execution after failures sends its result."""
    good, failed, bad = GOOD, State(FAILED, Level.NONE), State(VIOLATED, Level.NONE)
    assert headlines(good, failed, failed, good) == [None, "Failed", None, "Works again"]
    assert headlines(failed, bad, failed) == ["Failed", "Violation", "Failed"]


def test_levels_below_the_minimum_are_not_sent() -> None:
    """Violations of the nDCG rule are sent for any minimum level."""
    states = [
        GOOD,
        State(COMPLETED, Level.INFO),
        State(COMPLETED, Level.WARNING),
        State(VIOLATED, Level.NONE),
        GOOD,
    ]
    assert headlines(*states, min_level=Level.VIOLATION) == [None, None, None, "Violation", END]
    assert headlines(*states, min_level=Level.INFO) == [None, "Drift", "Warning", "Violation", END]


def test_too_few_records_send_nothing() -> None:
    """Windows with little traffic neither end an alert nor start it again."""
    good, bad, few = (
        GOOD,
        State(COMPLETED, Level.VIOLATION),
        FEW,
    )
    assert headlines(bad, few, few, good, few, good) == ["Violation", None, None, END, None, None]
    assert headlines(bad, few, bad) == ["Violation", None, None]
    assert headlines(good, few, good) == [None] * 3
    assert headlines(few, few, bad) == [None, None, "Violation"]


def test_ndcg_violation_is_an_alert_also_with_too_few_records() -> None:
    """The nDCG rule needs no minimum number of records."""
    few, ranked = FEW, State(VIOLATED, Level.INSUFFICIENT_DATA)
    assert headlines(few, ranked, few, ranked, GOOD) == [
        None,
        "Violation",
        None,
        None,
        END,
    ]


def test_failure_does_not_end_an_alert() -> None:
    """After a failure during an alert the message is `Works again`; the alert is not sent a second time."""
    good, bad, warning, failed = (
        GOOD,
        State(COMPLETED, Level.VIOLATION),
        State(COMPLETED, Level.WARNING),
        State(FAILED, Level.NONE),
    )
    assert headlines(bad, failed, failed, bad, bad) == ["Violation", "Failed", None, "Works again", None]
    assert headlines(bad, failed, warning) == ["Violation", "Failed", "Works again"]
    assert headlines(bad, failed, good, good) == ["Violation", "Failed", END, None]
    assert headlines(good, failed, bad) == [None, "Failed", "Violation"]


def test_too_few_records_do_not_end_a_failure() -> None:
    """The state is unchanged by alternating failures and windows with too few records."""
    good, bad, few, failed = (
        GOOD,
        State(COMPLETED, Level.VIOLATION),
        FEW,
        FAILURE,
    )
    assert headlines(good, failed, few, failed, few, good) == [None, "Failed", None, None, None, "Works again"]
    assert headlines(bad, failed, few, failed, few, bad) == ["Violation", "Failed", None, None, None, "Works again"]


def test_each_death_and_the_next_failure_are_sent_and_recovery_is_sent_once() -> None:
    """A death does not count as a repetition of a failure, nor a failure as one of a death."""
    assert headlines(GOOD, DEATH, DEATH, FAILURE, FAILURE, DEATH, FAILURE, FEW, GOOD, GOOD) == [
        *(None, "Failed", "Failed", "Failed", None, "Failed", None, None, "Works again", None)
    ]
    alert = State(VIOLATED)
    assert headlines(alert, DEATH, alert, alert) == ["Violation", "Failed", "Works again", None]


def alert_states(states: Sequence[State]) -> Iterator[tuple[bool, bool]]:
    """Yield after each execution whether there is an alert, and whether the monitor is failing."""
    alert = failing = False
    for state in states:
        if state.status is FAILED:
            failing = True
        elif state != FEW:
            alert, failing = state.status is VIOLATED or state.level.order >= Level.WARNING.order, False
        yield alert, failing


@given(states=STATES)
def test_messages_match_the_alert_states(states: list[State]) -> None:
    """For any sequence each change is sent once, and consecutive messages differ."""
    alerts = list(alert_states(states))
    words = headlines(*states)
    for word, before, now in zip(words, [(False, False), *alerts], alerts, strict=False):
        assert (word == "Failed") is (now[1] and not before[1])
        assert (word == END) is (before[0] and not now[0])
        assert (word == "Works again") <= (before[1] and not now[1] and before[0] is now[0])
        assert word or now == before
    for previous, word in itertools.pairwise(word for word in words if word):
        assert previous != word


@given(states=STATES, position=st.integers(0))
def test_too_few_records_do_not_change_other_messages(states: list[State], position: int) -> None:
    """An execution without a verdict can be inserted anywhere."""
    index = position % (len(states) + 1)
    longer = headlines(*states[:index], FEW, *states[index:])
    assert longer == [*(words := headlines(*states))[:index], None, *words[index:]]


@given(states=st.lists(FINISHED, min_size=1), position=st.integers(0))
def test_repeated_state_sends_nothing(states: list[State], position: int) -> None:
    """An execution can be repeated without a second message, and without changing later messages."""
    index = position % len(states) + 1
    words = headlines(*states)
    assert headlines(*states[:index], *states[index - 1 :]) == [*words[:index], None, *words[index:]]


def test_message_names_monitor_window_and_report(hook: RunningServer, golden: Golden) -> None:
    """The title names the change and the monitor; the body says what to do; names are plain text."""
    name = '<b>"\u05e9\u05dc\u05d5\u05dd"</b>\n\U0001f986'
    words = Verdict(f"{name}: missing", f"{name}: missing in 30% of the records.", "Large.", f"Check {name}.")
    execution = publication(Level.VIOLATION, words=words, status=VIOLATED)
    assert publish_all([SINK], execution, lambda _: None) == []
    (seen,) = hook.seen
    assert seen.path == f"/{SECRET}/"
    sent = orjson.loads(seen.body)
    assert sent["type"] == "failure"
    assert sent["message"].startswith(words.title)
    assert {" ".join(words.title.split()), execution.monitor} <= set(
        re.split(r"(?s)^Violation: | \(|\)$", sent["title"])
    )
    for part in (words.changed, words.matters, words.action, "Sun 4 Jan, 23:12 UTC"):
        assert part in sent["message"]
    for part in (execution.monitor, execution.endpoint, str(execution.window)):
        assert part in sent["message"]
    assert {execution.status, execution.report} <= set(sent["message"].split())
    golden(sent["title"])
    golden(sent["message"])


def test_unchanged_state_sends_no_request(hook: RunningServer) -> None:
    """An alert that continues sends nothing."""
    history = AlertHistory(State(COMPLETED, Level.VIOLATION, changed=frozenset(["income"])))
    assert publish_all([SINK], publication(Level.VIOLATION, history=history), lambda _: None) == []
    assert not hook.seen


def test_only_failed_services_are_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the second of two webhooks fails at first, the first one receives the message once."""

    def failing_once(seen: ReceivedRequest) -> Reply:
        return Reply(500 if seen.number == 0 else 200, "")

    with serving(always(200, "")) as first, serving(failing_once) as second:
        set_urls(monkeypatch, first, second)
        assert publish_all([SINK], failed_publication(), lambda _: None) == []
    assert [len(first.seen), len(second.seen)] == [1, 2]


@pytest.mark.parametrize("statuses", [(200, 200), (200, 500), (500, 200), (500, 500)])
def test_recipients_that_miss_a_message_are_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, statuses: tuple[int, int]
) -> None:
    """The record is next to the directory; there is none if all recipients received the message."""
    (target := tmp_path / "05").mkdir()
    with serving(always(statuses[0], "")) as first, serving(always(statuses[1], "")) as second:
        set_urls(monkeypatch, first, second)
        publish_all([SINK], failed_publication(directory=target), lambda _: None)
    names = {f"address {number} in {URLS}" for number, status in enumerate(statuses, 1) if status == 500}
    assert unpublished(target) == names
    assert (tmp_path / ".05.unpublished").exists() is bool(names)


def test_hanging_recipient_is_recorded_and_delays_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, golden: Golden
) -> None:
    """Of three recipients, the second one never answers; the others receive the message."""
    (target := tmp_path / "05").mkdir()
    with serving(always(200, "")) as first, serving(always(200, "", fault="stall")) as second:
        set_urls(monkeypatch, first, second, first)
        SINK.publish(publication(Level.NONE))  # imports apprise
        (problem,) = publish_all([SINK], failed_publication(directory=target), lambda _: None, timeout=2)
    assert len(first.seen) == 2
    assert unpublished(target) == {f"address 2 in {URLS}"}
    golden(problem)


def test_invalid_address_does_not_silence_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is reported and recorded; the other recipient receives the message."""
    (target := tmp_path / "05").mkdir()
    with serving(always(200, "")) as served:
        monkeypatch.setenv(URLS, f"nonsense://x {served.url.replace('http://', 'json://')}")
        (problem,) = publish_all([SINK], failed_publication(directory=target), lambda _: None)
    assert len(served.seen) == 1
    assert f"1 in the environment variable {URLS}" in problem
    assert unpublished(target) == {f"address 1 in {URLS}"}


@pytest.mark.parametrize("missed", ["address 2 in SHAPWATCH_NOTIFY_URLS", "SHAPWATCH_NOTIFY_URLS", "*"])
def test_recipient_receives_the_message_that_it_missed(missed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next execution, with an unchanged alert, sends it to this recipient only."""
    state = State(COMPLETED, Level.VIOLATION, changed=frozenset(["income"]))
    history = AlertHistory.from_executions([(state, [missed]), (GOOD, [])])
    with serving(always(200, "")) as first, serving(always(200, "")) as second:
        set_urls(monkeypatch, first, second)
        assert publish_all([SINK], publication(Level.VIOLATION, history=history), lambda _: None) == []
    assert [len(first.seen), len(second.seen)] == [int("address" not in missed), 1]


def test_only_the_beginning_of_a_response_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook that answers without end has received the message; other threads use requests as usual."""
    sent = [0]

    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
            while True:
                sent[0] += connection.send(bytes(65536))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=answer, args=(server,), daemon=True)
        thread.start()
        monkeypatch.setenv(URLS, f"json://127.0.0.1:{server.getsockname()[1]}/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert publish_all([SINK], failed_publication(), lambda _: None) == []
        thread.join(60)
    assert not thread.is_alive()
    assert sent[0] < 64 * 2**20
    assert requests.Session().hooks == {"response": []}


@pytest.mark.soak
def test_process_ends_while_a_recipient_drips(tmp_path: Path) -> None:
    """The answer comes byte by byte, so that no read times out; no thread delays the end of the process."""
    code = """
import os, sys
from dataclasses import replace
from runner.publish import publish_all
from tests.publish.publications import failed_publication
from tests.publish.test_notify import SINK
print(publish_all([SINK], failed_publication(), lambda _: None, timeout=1))
"""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        port = server.getsockname()[1]
        environment = {**os.environ, URLS: f"json://127.0.0.1:{port}/", "NO_PROXY": "127.0.0.1"}
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE)
        stack.callback(process.kill)
        connection, _ = server.accept()
        stack.enter_context(connection)
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        with suppress(OSError):
            while process.poll() is None:
                connection.sendall(b"x")
                time.sleep(0.02)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"timed out after 1 s" in output


def test_message_without_any_address_is_marked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The marker is removed when a repetition of the execution has nothing to send."""
    monkeypatch.delenv(URLS, raising=False)
    publish_all([SINK], failed_publication(directory=tmp_path / "05"), lambda _: None)
    assert (tmp_path / ".05.unpublished").exists()
    publish_all([SINK], publication(Level.NONE, directory=tmp_path / "05"), lambda _: None)
    assert not (tmp_path / ".05.unpublished").exists()


@pytest.mark.parametrize(
    "answer",
    [always(500, SECRET), always(404, ""), always(200, "", fault="stall")],
    ids=["server error", "rejection", "timeout"],
)
def test_unreachable_service_is_reported_without_its_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, golden: Golden, answer: Responder
) -> None:
    """The message names the variable, the number of the address in it and the kind of service."""
    with serving(answer) as served:
        set_urls(monkeypatch, served, options="?rto=0.5&cto=5")
        (problem,) = publish_all([SINK], failed_publication(), lambda _: None)
        wait_until(lambda: len(served.seen) == 3)
    assert f"1 in {URLS} (JSON)" in problem
    assert SECRET not in problem + caplog.text
    golden(problem)


@pytest.mark.parametrize(
    ("urls", "number"),
    [(None, ""), (" \n", "")]
    + [(f"json://127.0.0.1 {url}", "2") for url in (f"nonsense://{SECRET}", SECRET, f"slack://{SECRET}")],
    ids=["no variable", "blank", "unknown scheme", "no scheme", "incomplete"],
)
def test_invalid_addresses_are_reported_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, golden: Golden, urls: str | None, number: str
) -> None:
    """They are reported before a message is due, without a retry, by variable and number instead of the address."""
    if urls is None:
        monkeypatch.delenv(URLS, raising=False)
    else:
        monkeypatch.setenv(URLS, urls)
    pauses: list[float] = []
    (problem,) = publish_all([SINK], publication(Level.NONE), pauses.append)
    assert number in problem
    assert URLS in problem
    golden(problem)
    assert not pauses
    assert SECRET not in problem + caplog.text


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error names the extra to install, and is not retryable."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with golden.raises(PublishError) as caught:
        SINK.publish(publication())
    assert "shapwatch[notify]" in str(caught.value)
    assert not caught.value.retryable
