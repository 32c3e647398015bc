"""The pytest plugin for golden files: the fixture, and the option that writes them, also with several workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.golden import MACHINE, TESTS, Golden, load, located, save

WRITTEN = pytest.StashKey[dict[str, dict[str, str]]]()
"""Messages of this process, by area and name."""
RAN = pytest.StashKey[set[tuple[str, str]]]()
"""Area and file name of each module that ran; messages of its removed tests are deleted."""
DESELECTED = pytest.StashKey[set[tuple[str, str]]]()
"""Area and name of each test that a marker excludes from this run; its messages remain."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --golden."""
    parser.addoption("--golden", action="store_true", help="write the golden files instead of comparing with them")


def pytest_configure(config: pytest.Config) -> None:
    """Start without messages."""
    config.stash[WRITTEN] = {}
    config.stash[RAN], config.stash[DESELECTED] = set(), set()


@pytest.fixture
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Golden]:
    """Compares messages with the golden file of the test's area."""
    area, test = located(request.node)
    writes = request.config.getoption("--golden")
    comparison = Golden(test, None if writes else load(area), ((str(tmp_path), "{tmp}"), *MACHINE))
    yield comparison
    request.config.stash[WRITTEN].setdefault(area, {}).update(comparison.texts)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Record the module of a test that uses the fixture."""
    if "golden" in getattr(item, "fixturenames", ()):
        area, _ = located(item)
        item.config.stash[RAN].add((area, item.path.name))


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Record the tests that do not run; doctests of modules have no messages."""
    for item in items:
        if item.path.is_relative_to(TESTS):
            item.config.stash[DESELECTED].add(located(item))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the files, or send the messages to the main process."""
    config = session.config
    if not config.getoption("--golden"):
        return
    messages, ran, deselected = config.stash[WRITTEN], config.stash[RAN], config.stash[DESELECTED]
    if hasattr(config, "workeroutput"):
        config.workeroutput["golden"] = messages, sorted(ran), sorted(deselected)
    else:
        _write(messages, ran, deselected)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Collect the messages of a finished worker."""
    texts, ran, deselected = getattr(node, "workeroutput", {}).get("golden", ({}, (), ()))
    for area, named in texts.items():
        node.config.stash[WRITTEN].setdefault(area, {}).update(named)
    node.config.stash[RAN].update(map(tuple, ran))
    node.config.stash[DESELECTED].update(map(tuple, deselected))


def _write(texts: dict[str, dict[str, str]], ran: set[tuple[str, str]], deselected: set[tuple[str, str]]) -> None:
    for area, named in texts.items():
        unchanged = {
            name: text
            for name, text in load(area).items()
            if (area, name.partition("::")[0]) not in ran or (area, name.partition(" #")[0]) in deselected
        }
        save(area, unchanged | named)
