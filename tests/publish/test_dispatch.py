"""Sinks that fail in every way, and a verdict that stands."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest

from runner.domain.publication import Publication
from runner.errors import PublishError
from runner.publish.dispatch import tell
from tests.golden import Golden
from tests.publish.publications import SECRET, publication


@dataclass
class Scripted:
    """A sink that raises what it is given, one after the other, and then takes everything."""

    errors: list[Exception] = field(default_factory=list)
    told: list[Publication] = field(default_factory=list)

    def publish(self, publication: Publication) -> None:
        """Raise, or take it."""
        if self.errors:
            raise self.errors.pop(0)
        self.told.append(publication)


def told(*sinks: Any) -> tuple[list[str], list[float]]:
    """Return the sentences on sinks, and the pauses that were made."""
    pauses: list[float] = []
    return tell(sinks, publication(), pauses.append), pauses


def test_sinks_that_work_say_nothing() -> None:
    """Each is told once, without a pause."""
    sinks = Scripted(), Scripted()
    assert told(*sinks) == ([], [])
    assert [len(sink.told) for sink in sinks] == [1, 1]


def test_a_sink_that_comes_back_is_told() -> None:
    """What passes is tried three times, with a pause that grows."""
    sink = Scripted([PublishError("a", "busy"), PublishError("a", "busy")])
    assert told(sink) == ([], [1.0, 2.0])
    assert len(sink.told) == 1


def test_a_sink_that_stays_away_is_reported(caplog: pytest.LogCaptureFixture, golden: Golden) -> None:
    """After three tries the problem is returned and logged, and the next sink is told all the same."""
    other = Scripted()
    problems, pauses = told(Scripted([PublishError("a", "busy")] * 4), other)
    (problem,) = problems
    assert pauses == [1.0, 2.0]
    assert len(other.told) == 1
    assert caplog.record_tuples == [("shapwatch.publish", logging.WARNING, problem)]
    golden(problem)


def test_a_permanent_failure_is_not_retried(golden: Golden) -> None:
    """Where another try cannot help there is neither one nor a pause."""
    sink = Scripted([PublishError("a", "no", retryable=False)])
    (problem,), pauses = told(sink)
    assert (pauses, sink.told) == ([], [])
    golden(problem)


def test_only_the_rest_is_tried_again() -> None:
    """A sink that was told in part hands on what is left."""
    rest = Scripted()
    sink = Scripted([PublishError("a", "half", remaining=rest)])
    assert told(sink) == ([], [1.0])
    assert (len(sink.told), len(rest.told)) == (0, 1)


def test_the_rest_fails_under_the_name_of_its_sink(golden: Golden) -> None:
    """A problem names the sink that was configured, not what is left of it."""

    class Rest(Scripted):
        """Another class, another name."""

    (problem,), _ = told(Scripted([PublishError("scripted", "half", remaining=Rest([ValueError(SECRET)] * 2))]))
    assert {"scripted:", "ValueError"} <= set(problem.split())
    golden(problem)


def test_any_error_of_a_sink_is_caught_and_its_text_is_not_repeated(golden: Golden) -> None:
    """The problem names sink and type: the text of a library's error may quote an address with a secret in it."""
    (problem,), _ = told(Scripted([ValueError(f"https://{SECRET}@host")] * 3))
    assert {"scripted:", "ValueError"} <= set(problem.split())
    assert SECRET not in problem
    golden(problem)


def test_a_sink_that_hangs_is_not_waited_for(golden: Golden) -> None:
    """The others are told meanwhile, and the problem names the seconds that it was waited for."""
    end, other = Event(), Scripted()

    class Hanging:
        def publish(self, _: Publication) -> None:
            end.wait()

    (problem,) = tell([Hanging(), other], publication(), lambda _: None, patience=0.1)
    end.set()
    assert len(other.told) == 1
    assert {"hanging:", "0.1"} <= set(problem.split())
    golden(problem)
