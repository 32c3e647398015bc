"""pytest's side of the golden files: the fixture, and the option that writes them, also with several workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.golden import MACHINE, Golden, load, located, save

WRITTEN = pytest.StashKey[dict[str, dict[str, str]]]()
"""Texts by area and name that this process has seen."""
RAN = pytest.StashKey[set[tuple[str, str]]]()
"""Area and file name of each module that ran: the texts of its former tests are dropped."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --golden."""
    parser.addoption("--golden", action="store_true", help="write the golden files instead of comparing with them")


def pytest_configure(config: pytest.Config) -> None:
    """Begin without any text."""
    config.stash[WRITTEN] = {}
    config.stash[RAN] = set()


@pytest.fixture
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Golden]:
    """Compares sentences with the golden file of the test's area."""
    area, test = located(request.node)
    writes = request.config.getoption("--golden")
    seen = Golden(test, None if writes else load(area), ((str(tmp_path), "{tmp}"), *MACHINE))
    yield seen
    request.config.stash[WRITTEN].setdefault(area, {}).update(seen.texts)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note the module of a test that uses the fixture."""
    if "golden" in getattr(item, "fixturenames", ()):
        area, _ = located(item)
        item.config.stash[RAN].add((area, item.path.name))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the files, or hand the texts to the process that does."""
    config = session.config
    if not config.getoption("--golden"):
        return
    ran = config.stash[RAN]
    if hasattr(config, "workeroutput"):
        config.workeroutput["golden"] = config.stash[WRITTEN], sorted(ran)
    else:
        _write(config.stash[WRITTEN], ran)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over the texts of a worker that has ended."""
    texts, ran = getattr(node, "workeroutput", {}).get("golden", ({}, ()))
    for area, named in texts.items():
        node.config.stash[WRITTEN].setdefault(area, {}).update(named)
    node.config.stash[RAN].update(ran)


def _write(texts: dict[str, dict[str, str]], ran: set[tuple[str, str]]) -> None:
    for area, named in texts.items():
        former = {name: text for name, text in load(area).items() if (area, name.partition("::")[0]) not in ran}
        save(area, former | named)
