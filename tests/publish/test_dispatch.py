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


def test_a_sink_that_does_not_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """The sentence is returned and logged, and the next sink is told all the same."""
    other = Scripted()
    problems, pauses = told(Scripted([PublishError("a", "busy")] * 4), other)
    assert problems == ["not published to a: busy (after 3 attempts)"]
    assert pauses == [1.0, 2.0]
    assert len(other.told) == 1
    assert caplog.record_tuples == [("shapwatch.publish", logging.WARNING, problems[0])]


def test_what_does_not_pass_is_not_tried_again() -> None:
    """Another try is spared where it cannot help."""
    assert told(Scripted([PublishError("a", "no", passing=False)])) == (["not published to a: no"], [])


def test_only_the_rest_is_tried_again() -> None:
    """A sink that was told in part hands on what is left."""
    rest = Scripted()
    sink = Scripted([PublishError("a", "half", rest=rest)])
    assert told(sink) == ([], [1.0])
    assert (len(sink.told), len(rest.told)) == (0, 1)


def test_the_rest_fails_under_the_name_of_its_sink() -> None:
    """What is left of a sink is nothing that anybody has configured."""

    class Rest(Scripted):
        """Another class, another name."""

    problems, _ = told(Scripted([PublishError("scripted", "half", rest=Rest([ValueError(SECRET)] * 2))]))
    assert problems == ["not published to scripted: it fails with ValueError (after 3 attempts)"]


def test_whatever_a_sink_raises_is_caught_and_its_text_is_not_repeated() -> None:
    """A library's error may quote an address with a secret in it."""
    problems, _ = told(Scripted([ValueError(f"https://{SECRET}@host")] * 3))
    assert problems == ["not published to scripted: it fails with ValueError (after 3 attempts)"]


def test_a_sink_that_hangs_is_not_waited_for() -> None:
    """The others are told meanwhile, and the sentence says how long it was waited."""
    end, other = Event(), Scripted()

    class Hanging:
        def publish(self, _: Publication) -> None:
            end.wait()

    problems = tell([Hanging(), other], publication(), lambda _: None, patience=0.1)
    end.set()
    assert problems == ["not published to hanging: it hangs for 0.1 s"]
    assert len(other.told) == 1
