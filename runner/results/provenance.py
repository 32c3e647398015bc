"""The parts of a manifest that do not depend on the data, and the durations of steps."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata

import runner

DEPENDENCIES = ("numpy", "polars", "hydra-core", "pydantic", "jmespath")
"""Packages whose versions are stored with each result."""


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


def versions() -> dict[str, str]:
    """Return the versions of shapwatch, Python and the dependencies."""
    packages = {name: metadata.version(name) for name in DEPENDENCIES}
    return {"shapwatch": runner.__version__, "python": platform.python_version(), **packages}
