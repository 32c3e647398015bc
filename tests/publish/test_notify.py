"""Messages: what is told when, to whom, and what is never told."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.drift import Level
from runner.domain.executions import Status
from runner.domain.publication import AlertHistory, State
from runner.errors import PublishError
from runner.publish.dispatch import tell
from runner.publish.notify import Notify, message
from tests.golden import Golden
from tests.models.servers import Answerer, Reply, Seen, Served, always, serving
from tests.publish.publications import SECRET, failure, publication

URLS = "SHAPWATCH_NOTIFY_URLS"
SINK = Notify(urls_env=(URLS,), min_level=Level.WARNING)
VIOLATED, DONE, FAILED = Status.COMPLETED_WITH_VIOLATIONS, Status.COMPLETED, Status.FAILED
FAILURE = (FAILED, Level.NONE)
EXECUTED = st.tuples(st.sampled_from([DONE, VIOLATED]), st.sampled_from(Level))
STEPS = st.lists(EXECUTED | st.just(FAILURE))


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


def story(*steps: State, min_level: Level = Level.WARNING) -> list[str | None]:
    """Return the first word of each message of consecutive executions, None where there is none."""
    words: list[str | None] = []
    for i, (status, level) in enumerate(steps):
        told = message(publication(level, status=status, past=AlertHistory.of(steps[:i][::-1])), min_level)
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


def test_too_few_records_are_no_news() -> None:
    """Nobody is told that a drift is over, or has begun again, because nobody called."""
    good, bad, few = (DONE, Level.NONE), (DONE, Level.VIOLATION), (DONE, Level.INSUFFICIENT_DATA)
    assert story(bad, few, few, good, few, good) == ["Violation", None, None, "Recovered", None, None]
    assert story(bad, few, bad) == ["Violation", None, None]
    assert story(good, few, good) == [None] * 3
    assert story(few, few, bad) == [None, None, "Violation"]


def test_the_ranking_judges_also_too_few_records() -> None:
    """A violation of the nDCG rule is an alarm however few they are."""
    few, ranked = (DONE, Level.INSUFFICIENT_DATA), (VIOLATED, Level.INSUFFICIENT_DATA)
    assert story(few, ranked, few, ranked, (DONE, Level.NONE)) == [None, "Violation", None, None, "Recovered"]


def test_a_failure_ends_no_alarm() -> None:
    """That it works again is told, the alarm that was there before is not told anew."""
    good, bad, warned, failed = (DONE, Level.NONE), (DONE, Level.VIOLATION), (DONE, Level.WARNING), (FAILED, Level.NONE)
    assert story(bad, failed, failed, bad, bad) == ["Violation", "Failed", None, "Works again", None]
    assert story(bad, failed, warned) == ["Violation", "Failed", "Warning"]
    assert story(bad, failed, good, good) == ["Violation", "Failed", "Recovered", None]
    assert story(good, failed, bad) == [None, "Failed", "Violation"]


def test_too_few_records_end_no_failure() -> None:
    """At night executions may fail for want of data and have too few in turn; the state stays what it was."""
    good, bad, few, failed = (DONE, Level.NONE), (DONE, Level.VIOLATION), (DONE, Level.INSUFFICIENT_DATA), FAILURE
    assert story(good, failed, few, failed, few, good) == [None, "Failed", None, None, None, "Recovered"]
    assert story(bad, failed, few, failed, few, bad) == ["Violation", "Failed", None, None, None, "Works again"]


def flags(steps: Sequence[State]) -> Iterator[tuple[bool, bool]]:
    """Yield whether there is an alarm and whether it fails, after each execution: two lamps, as a person has them."""
    alarm = failing = False
    for status, level in steps:
        if status is FAILED:
            failing = True
        elif (status, level) != (DONE, Level.INSUFFICIENT_DATA):
            alarm, failing = status is VIOLATED or level.order >= Level.WARNING.order, False
        yield alarm, failing


@given(steps=STEPS)
def test_each_episode_is_told_once_with_one_recovery(steps: list[State]) -> None:
    """Over any sequence a message has the state that lamps have, and no two of them say the same."""
    lamps = list(flags(steps))
    words = story(*steps)
    for word, before, now in zip(words, [(False, False), *lamps], lamps, strict=False):
        assert (word == "Failed") is (now[1] and not before[1])
        assert (word == "Recovered") is (now == (False, False) and now != before)
        assert (word == "Works again") <= (before == (True, True) and now == (True, False))
        assert word or now == before
    for one, two in itertools.pairwise(word for word in words if word):
        assert one != two or one == "Violation"  # by another rule, or by both


@given(steps=STEPS, place=st.integers(0))
def test_too_few_records_change_no_story(steps: list[State], place: int) -> None:
    """With an execution more that cannot judge, wherever it is, all others tell what they told."""
    at = place % (len(steps) + 1)
    more = story(*steps[:at], (DONE, Level.INSUFFICIENT_DATA), *steps[at:])
    assert more == [*(words := story(*steps))[:at], None, *words[at:]]


@given(steps=st.lists(EXECUTED, min_size=1), place=st.integers(0))
def test_the_same_again_is_no_news(steps: list[State], place: int) -> None:
    """What an execution has told the next one like it does not tell again, and nothing after it changes."""
    at = place % len(steps) + 1
    words = story(*steps)
    assert story(*steps[:at], *steps[at - 1 :]) == [*words[:at], None, *words[at:]]


def test_a_message_names_monitor_window_and_report(hook: Served, golden: Golden) -> None:
    """Its title names monitor and window, its text begins with the sentence of the verdict; names are plain text."""
    told = publication(
        Level.VIOLATION, sentence='Most moved: <b>"\u05e9\u05dc\u05d5\u05dd"</b>\n\U0001f986.', status=VIOLATED
    )
    SINK.publish(told)
    (seen,) = hook.seen
    assert seen.path == f"/{SECRET}/"
    sent = orjson.loads(seen.body)
    assert sent["type"] == "failure"
    assert sent["message"].startswith(told.sentence)
    for part in (told.monitor, told.endpoint, str(told.window)):
        assert part in sent["title"]
        assert part in sent["message"]
    assert {told.status, told.report} <= set(sent["message"].split())
    golden(sent["title"])
    golden(sent["message"])


def test_nothing_is_sent_where_nothing_is_new(hook: Served) -> None:
    """The same as before: no request."""
    SINK.publish(publication(Level.VIOLATION, past=AlertHistory((DONE, Level.VIOLATION))))
    assert not hook.seen


def test_only_those_who_were_not_reached_are_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two webhooks the second fails at first: the first one gets the message once."""

    def stumbling(seen: Seen) -> Reply:
        return Reply(500 if seen.number == 0 else 200, "")

    with serving(always(200, "")) as first, serving(stumbling) as second:
        name(monkeypatch, first, second)
        assert tell([SINK], failure(), lambda _: None) == []
    assert [len(first.seen), len(second.seen)] == [1, 2]


@pytest.mark.parametrize(
    ("codes", "noted"),
    [((200, 200), False), ((200, 500), False), ((500, 500), True)],
    ids=["all are reached", "one is", "none is"],
)
def test_news_that_reached_nobody_is_noted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, codes: tuple[int, int], noted: bool
) -> None:
    """Beside the directory; whoever was reached is not told again because another was not."""
    (directory := tmp_path / "05").mkdir()
    with serving(always(codes[0], "")) as first, serving(always(codes[1], "")) as second:
        name(monkeypatch, first, second)
        tell([SINK], failure(directory=directory), lambda _: None)
    assert (tmp_path / ".05.unpublished").exists() is noted


def test_news_is_noted_where_there_is_no_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And no longer once the same execution, made again, has none."""
    monkeypatch.delenv(URLS, raising=False)
    tell([SINK], failure(directory=tmp_path / "05"), lambda _: None)
    assert (tmp_path / ".05.unpublished").exists()
    tell([SINK], publication(Level.NONE, directory=tmp_path / "05"), lambda _: None)
    assert not (tmp_path / ".05.unpublished").exists()


@pytest.mark.parametrize(
    "answer",
    [always(500, SECRET), always(404, ""), always(200, "", fault="stall")],
    ids=["fails", "refuses", "hangs"],
)
def test_an_unreached_service_is_reported_without_its_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, golden: Golden, answer: Answerer
) -> None:
    """By the variable, the number of the address in it and the kind of service."""
    with serving(answer) as served:
        name(monkeypatch, served, more="?rto=0.1&cto=0.1")
        (problem,) = tell([SINK], failure(), lambda _: None)
        assert len(served.seen) == 3
    assert f"1 in {URLS} (JSON)" in problem
    assert SECRET not in problem + caplog.text
    golden(problem)


@pytest.mark.parametrize(
    ("urls", "number"),
    [(None, ""), (" \n", "")]
    + [(f"json://127.0.0.1 {url}", "2") for url in (f"nonsense://{SECRET}", SECRET, f"slack://{SECRET}")],
    ids=["no variable", "blank", "unknown scheme", "no scheme", "incomplete"],
)
def test_wrong_addresses_are_reported_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, golden: Golden, urls: str | None, number: str
) -> None:
    """Before there is any news, without another try, by variable and number instead of the address itself."""
    if urls is None:
        monkeypatch.delenv(URLS, raising=False)
    else:
        monkeypatch.setenv(URLS, urls)
    pauses: list[float] = []
    (problem,) = tell([SINK], publication(Level.NONE), pauses.append)
    assert number in problem
    assert URLS in problem
    golden(problem)
    assert not pauses
    assert SECRET not in problem + caplog.text


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error names the extra to install; another try would not help."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with golden.raises(PublishError) as caught:
        SINK.publish(publication())
    assert "shapwatch[notify]" in str(caught.value)
    assert not caught.value.retryable
