"""Fixtures and constants of many tests: the notebook's data, a model, an engine, ledgers."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from runner.engine import Engine
from runner.models.linear_learner import LinearLearner
from runner.probes import KEY_VARIABLE
from runner.protocols import Item
from tests.postgres import clear_database, server

settings.register_profile("shapwatch", deadline=None, derandomize=True)
settings.load_profile("shapwatch")

os.environ.setdefault(KEY_VARIABLE, "the key of the tests")  # so that no test writes a key for this user

SIGNAL_HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
DEMO = Path(__file__).parents[1] / "runner" / "demo"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest module first, so that the other workers do not wait for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_torture.py")


def pytest_collection_finish() -> None:
    """Exclude the modules and tests, a million objects, from each later garbage collection."""
    gc.collect()
    gc.freeze()


SERIAL = Engine(kind="serial", workers=None, address=None)
"""The engine that computes in this process."""


def untracked(items: Iterable[Item], what: str, total: int | None) -> Iterable[Item]:
    """Yield the items without showing progress."""
    return items


@pytest.fixture(autouse=True)
def signal_handlers() -> None:
    """Restore the handlers that the command line has replaced in this process, also in a fixture of a module."""
    for number, handler in SIGNAL_HANDLERS.items():
        signal.signal(number, handler)


@pytest.fixture
def adult() -> Path:
    """The folder with the model and data of AWS's notebook."""
    folder = Path(os.environ.get("ADULT_DIR", "../shared/data/adult"))
    if not folder.is_dir():
        pytest.skip(f"the notebook's model and data are not at {folder}; set ADULT_DIR to test with them")
    return folder.resolve()


@pytest.fixture
def demo_model() -> LinearLearner:
    """The model of the quickstart."""
    return LinearLearner(kind="linear_learner", artifact=DEMO / "model.tar.gz", label_headers=None, deploy=None)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """URL of a PostgreSQL database that tests share."""
    with server().database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database in SQLite and in PostgreSQL, without the tables of a ledger."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/ledger.sqlite"
    url: str = request.getfixturevalue("postgresql_url")
    clear_database(url)
    return url
