"""Messages: what is told when, to whom, and what is never told."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator

import orjson
import pytest

from runner.domain import Status
from runner.errors import PublishError
from runner.finding import Level
from runner.publish.notify import Notify, message
from runner.publish.telling import tell
from tests.models.servers import Answerer, Reply, Seen, Served, always, serving
from tests.publish.publications import SECRET, failure, publication

URLS = "SHAPWATCH_NOTIFY_URLS"
SINK = Notify(urls_env=(URLS,), min_level=Level.WARNING)
VIOLATED, DONE, FAILED = Status.COMPLETED_WITH_VIOLATIONS, Status.COMPLETED, Status.FAILED


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A webhook that takes everything, and the environment that names it."""
    with serving(always(200, "")) as served:
        name(monkeypatch, served)
        yield served


def name(monkeypatch: pytest.MonkeyPatch, *served: Served, more: str = "") -> None:
    """Let the environment name webhooks, with a secret in each address."""
    addresses = (each.url.removeprefix("http://") for each in served)
    monkeypatch.setenv(URLS, " ".join(f"json://user:{SECRET}@{address}/{SECRET}/{more}" for address in addresses))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def story(*steps: tuple[Status, Level], min_level: Level = Level.WARNING) -> list[str | None]:
    """Return the first word of each message of consecutive executions, None where there is none."""
    words: list[str | None] = []
    for before, (status, level) in zip([None, *steps], steps, strict=False):
        told = message(publication(level, status=status, before=before), min_level)
        words.append(told.title.partition(":")[0] if told else None)
    return words


def test_an_episode_is_told_once_and_its_end_once() -> None:
    """What stays as it was is no news."""
    bad, good = (VIOLATED, Level.VIOLATION), (DONE, Level.NONE)
    assert story(good, bad, bad, bad, good, good) == [None, "Violation", None, None, "Recovered", None]


def test_the_first_execution_is_news_where_it_alarms() -> None:
    """A monitor that begins well says nothing."""
    assert story((DONE, Level.NONE)) == [None]
    assert story((DONE, Level.WARNING)) == ["Warning"]


def test_worse_and_better_are_news() -> None:
    """A change within an episode is told."""
    steps = [(DONE, level) for level in (Level.WARNING, Level.VIOLATION, Level.WARNING, Level.INFO)]
    assert story(*steps) == ["Warning", "Violation", "Warning", "Recovered"]


def test_a_failure_is_an_episode() -> None:
    """It is told once, and so is the first execution that works again."""
    good, failed, bad = (DONE, Level.NONE), (FAILED, Level.NONE), (VIOLATED, Level.NONE)
    assert story(good, failed, failed, good) == [None, "Failed", None, "Recovered"]
    assert story(failed, bad, failed) == ["Failed", "Violation", "Failed"]


def test_below_the_level_there_is_nothing_to_tell() -> None:
    """Violations of the nDCG rule are told whatever the level is."""
    steps = [(DONE, Level.NONE), (DONE, Level.INFO), (DONE, Level.WARNING), (VIOLATED, Level.NONE), (DONE, Level.NONE)]
    assert story(*steps, min_level=Level.VIOLATION) == [None, None, None, "Violation", "Recovered"]
    assert story(*steps, min_level=Level.INFO) == [None, "Drift", "Warning", "Violation", "Recovered"]


def test_too_few_records_are_no_recovery() -> None:
    """Nobody is told that a drift is over because nobody called."""
    steps = [(DONE, Level.VIOLATION), (DONE, Level.INSUFFICIENT_DATA), (DONE, Level.INSUFFICIENT_DATA)]
    assert story(*steps) == ["Violation", "Too few records to say", None]


def test_every_change_of_what_is_worth_telling_is_told_and_nothing_else() -> None:
    """Over all pairs of states: the same state twice is never told, an alarm after a quiet one always."""
    states = list(itertools.product((DONE, VIOLATED, FAILED), Level))
    for one, two in itertools.product(states, states):
        told = story(one, two)[1]
        alarming = [status is not DONE or level.order >= Level.WARNING.order for status, level in (one, two)]
        assert told is None if one == two or not any(alarming) else told or alarming == [True, True]


def test_a_message_says_it_all(hook: Served) -> None:
    """Sentence, monitor, window and the report's place; names are text and nothing else."""
    told = publication(
        Level.VIOLATION, sentence='Most moved: <b>"\u05e9\u05dc\u05d5\u05dd"</b>\n\U0001f986.', status=VIOLATED
    )
    SINK.publish(told)
    (seen,) = hook.seen
    assert seen.path == f"/{SECRET}/"
    sent = orjson.loads(seen.body)
    assert sent["title"] == "Violation: adult-monitor on adult, 2026-01-05 09:00–10:00 UTC"
    assert sent["type"] == "failure"
    assert sent["message"].startswith(told.sentence)
    for part in ("Monitor adult-monitor on adult, 2026-01-05 09:00–10:00 UTC", "Status: Comp", "output/report.html"):
        assert part in sent["message"]


def test_nothing_is_sent_where_nothing_is_new(hook: Served) -> None:
    """The same as before: no request."""
    SINK.publish(publication(Level.VIOLATION, before=(DONE, Level.VIOLATION)))
    assert not hook.seen


def test_only_those_who_were_not_reached_are_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two webhooks the second fails at first: the first one gets the message once."""

    def stumbling(seen: Seen) -> Reply:
        return Reply(500 if seen.number == 0 else 200, "")

    with serving(always(200, "")) as first, serving(stumbling) as second:
        name(monkeypatch, first, second)
        assert tell([SINK], failure(), lambda _: None) == []
    assert [len(first.seen), len(second.seen)] == [1, 2]


@pytest.mark.parametrize("answer", [always(500, SECRET), always(404, ""), always(200, "", fault="stall")])
def test_who_was_not_reached_is_told_without_the_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answer: Answerer
) -> None:
    """The number of the address and the kind of service say enough."""
    with serving(answer) as served:
        name(monkeypatch, served, more="?rto=0.1&cto=0.1")
        problems = tell([SINK], failure(), lambda _: None)
    who = f"address 1 in {URLS} (JSON)"
    assert problems == [f"not published to notify: {who} cannot be reached, or refuses the message (after 3 attempts)"]
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("urls", "told"),
    [(None, "holds no address"), (" \n", "holds no address")]
    + [(f"json://127.0.0.1 {url}", "address 2") for url in (f"nonsense://{SECRET}", SECRET, f"slack://{SECRET}")],
)
def test_addresses_that_cannot_work_are_told_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, urls: str | None, told: str
) -> None:
    """Before there is anything to tell, without another try, and without the address."""
    if urls is None:
        monkeypatch.delenv(URLS, raising=False)
    else:
        monkeypatch.setenv(URLS, urls)
    pauses: list[float] = []
    (problem,) = tell([SINK], publication(Level.NONE), pauses.append)
    assert told in problem
    assert URLS in problem
    assert not pauses
    assert SECRET not in problem + caplog.text


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what to install."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(PublishError, match=r"pip install 'shapwatch\[notify\]'"):
        SINK.publish(publication())
