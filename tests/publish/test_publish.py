"""Publishing to sinks that fail, hang or raise any error."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any

import pytest

from runner.domain.executions import Publication
from runner.errors import PublishError
from runner.publish import MAX_PROBLEMS, publish_all
from tests.golden import Golden
from tests.publish.publications import SECRET, publication


@dataclass
class Scripted:
    """A sink that raises the given errors, one per call, and then records publications."""

    errors: list[Exception] = field(default_factory=list)
    published: list[Publication] = field(default_factory=list)

    def publish(self, publication: Publication) -> None:
        """Raise the next error, or record the publication."""
        if self.errors:
            raise self.errors.pop(0)
        self.published.append(publication)


def problems_and_pauses(*sinks: Any) -> tuple[list[str], list[float]]:
    """Publish to sinks, and return the messages about failures and the pauses between attempts."""
    pauses: list[float] = []
    return publish_all(sinks, publication(), pauses.append), pauses


def test_working_sinks_publish_once() -> None:
    """There is no message and no pause."""
    sinks = Scripted(), Scripted()
    assert problems_and_pauses(*sinks) == ([], [])
    assert [len(sink.published) for sink in sinks] == [1, 1]


def test_temporary_failure_is_retried() -> None:
    """There are up to three attempts, with doubling pauses."""
    sink = Scripted([PublishError("a", "busy"), PublishError("a", "busy")])
    assert problems_and_pauses(sink) == ([], [1.0, 2.0])
    assert len(sink.published) == 1


def test_persistent_failure_is_reported(caplog: pytest.LogCaptureFixture, golden: Golden) -> None:
    """After three attempts the problem is returned and logged; other sinks publish."""
    other = Scripted()
    problems, pauses = problems_and_pauses(Scripted([PublishError("a", "busy")] * 4), other)
    (problem,) = problems
    assert pauses == [1.0, 2.0]
    assert len(other.published) == 1
    assert caplog.record_tuples == [("shapwatch.publish", logging.WARNING, problem)]
    golden(problem)


def test_a_permanent_failure_is_not_retried(golden: Golden) -> None:
    """There is one attempt and no pause."""
    sink = Scripted([PublishError("a", "no", retryable=False)])
    (problem,), pauses = problems_and_pauses(sink)
    assert (pauses, sink.published) == ([], [])
    golden(problem)


def test_only_the_remaining_part_is_retried() -> None:
    """The next attempt uses the sink in `remaining`."""
    remaining = Scripted()
    sink = Scripted([PublishError("a", "half", remaining=remaining)])
    assert problems_and_pauses(sink) == ([], [1.0])
    assert (len(sink.published), len(remaining.published)) == (0, 1)


def test_remaining_part_fails_under_the_name_of_its_sink(golden: Golden) -> None:
    """A problem names the configured sink."""

    class Remaining(Scripted):
        """A class with another name."""

    (problem,), _ = problems_and_pauses(
        Scripted([PublishError("scripted", "half", remaining=Remaining([ValueError(SECRET)] * 2))])
    )
    assert {"scripted:", "ValueError"} <= set(problem.split())
    golden(problem)


def test_unexpected_error_is_caught_without_its_text(golden: Golden) -> None:
    """The problem names sink and type; the text of a library's error may contain a secret."""
    (problem,), _ = problems_and_pauses(Scripted([ValueError(f"https://{SECRET}@host")] * 3))
    assert {"scripted:", "ValueError"} <= set(problem.split())
    assert SECRET not in problem
    golden(problem)


def test_hanging_sink_times_out(golden: Golden) -> None:
    """Other sinks publish meanwhile; the problem states the timeout."""
    end, other = Event(), Scripted()

    class Hanging:
        def publish(self, _: Publication) -> None:
            end.wait()

    (problem,) = publish_all([Hanging(), other], publication(), lambda _: None, timeout=0.1)
    end.set()
    assert len(other.published) == 1
    assert {"hanging:", "0.1"} <= set(problem.split())
    golden(problem)


class Split:
    """A sink with parts."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self.parts = parts

    def publish(self, _: Publication) -> dict[str, Any]:
        """Return the parts."""
        return self.parts


def test_parts_are_published_apart_from_each_other() -> None:
    """One part hangs, one fails, one is retried; each has its own problem, and a part may have parts."""
    end, good, late = Event(), Scripted(), Scripted([ValueError()])

    class Hanging:
        def publish(self, _: Publication) -> None:
            end.wait()

    parts = {"a": Hanging(), "b": Scripted([PublishError("split", "b: no", retryable=False)]), "c": Split({"d": late})}
    problems = publish_all([Split(parts), good], publication(), lambda _: None, timeout=0.5)
    end.set()
    assert len(good.published) == len(late.published) == 1
    assert sorted(problems) == ["not published to split: a: timed out after 0.5 s", "not published to split: b: no"]


@pytest.mark.parametrize("returned", [True, "x", [1], 3.0])
def test_other_returned_values_are_ignored(returned: object) -> None:
    """A sink of a user may return the response of its server."""

    class Returning:
        def publish(self, _: Publication) -> object:
            return returned

    other = Scripted()
    assert problems_and_pauses(Returning(), other) == ([], [])
    assert len(other.published) == 1


def test_abandoned_sink_makes_no_further_attempt() -> None:
    """Its first attempt fails after the timeout; the second one does not take place."""
    begun, end, attempts = Event(), Event(), []

    class Late:
        def publish(self, _: Publication) -> None:
            attempts.append(1)
            begun.set()
            end.wait()
            raise PublishError("late", "busy")

    def pause(_: float) -> None:
        paused.set()

    paused = Event()
    assert len(publish_all([Late()], publication(), pause, timeout=0.2)) == 1
    end.set()
    assert paused.wait(10)
    assert (begun.is_set(), len(attempts)) == (True, 1)


def test_end_of_a_thread_is_a_failure() -> None:
    """A sink that calls sys.exit fails at once; it does not wait for the timeout."""
    (problem,) = publish_all([Scripted([SystemExit(3)] * 3)], publication(), lambda _: None, timeout=60)  # type: ignore[list-item]
    assert "SystemExit" in problem


def test_thousand_sinks_are_all_tried() -> None:
    """Half of them hang; the others publish; the messages about failures are limited."""
    end, good, lock = Event(), [Scripted() for _ in range(500)], Lock()
    active = [0]

    class Hanging:
        def publish(self, _: Publication) -> None:
            with lock:
                active[0] += 1
            end.wait()

    hanging = [Hanging() for _ in range(500)]
    mixed = [sink for pair in zip(hanging, good, strict=True) for sink in pair]
    problems = publish_all(mixed, publication(), lambda _: None, timeout=1.0)
    end.set()
    assert [len(sink.published) for sink in good] == [1] * 500
    assert active[0] == 500
    assert len(problems) == MAX_PROBLEMS + 1
    assert "480 more" in problems[-1]


def test_result_that_waits_in_the_queue_counts_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting many threads takes time; a delivery that ended meanwhile did not time out."""
    clock, start = itertools.count(0, 100), Thread.start

    def start_and_wait(thread: Thread) -> None:
        start(thread)
        thread.join()

    monkeypatch.setattr(Thread, "start", start_and_wait)
    monkeypatch.setattr("runner.publish.monotonic", lambda: next(clock))
    assert publish_all([Scripted(), Scripted()], publication(), lambda _: None, timeout=1) == []


def test_process_without_further_threads_publishes_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink waits for the thread of another one; without any thread it fails."""
    sinks, start, running = [Scripted() for _ in range(5)], Thread.start, list[Thread]()

    def limited(thread: Thread) -> None:
        if any(each.is_alive() for each in running):
            raise RuntimeError("can't start new thread")
        running.append(thread)
        start(thread)

    monkeypatch.setattr(Thread, "start", limited)
    assert publish_all(sinks, publication(), lambda _: None) == []
    assert [len(sink.published) for sink in sinks] == [1] * 5

    def refused(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refused)
    assert len(publish_all(sinks, publication(), lambda _: None)) == 5
