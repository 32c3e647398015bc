"""The parts of a manifest that do not depend on the data, and the durations of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Provenance:
    """The parts of a manifest that do not depend on the data: resolved settings, versions, and a clock in seconds."""

    settings: str
    versions: Mapping[str, str]
    clock: Callable[[], float]


@dataclass(frozen=True)
class Stopwatch:
    """Durations of the steps of an execution, in seconds."""

    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the duration of the block to the step."""
        start = self.clock()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + self.clock() - start, 4)
