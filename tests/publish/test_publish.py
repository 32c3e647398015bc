"""Publishing to sinks that fail, hang or raise any error."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest

from runner.domain.executions import Publication
from runner.errors import PublishError
from runner.publish import publish_all
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
