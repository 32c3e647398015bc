"""What several tests share: the notebook's data where it is, small models, an empty track, databases."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from runner.engine import Engine
from runner.models.linear_learner import LinearLearner
from runner.protocols import Item
from tests.postgres import server

settings.register_profile("shapwatch", deadline=None, derandomize=True)
settings.load_profile("shapwatch")

DEMO = Path(__file__).parents[1] / "runner" / "demo"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that it is not what all wait for in the end."""
    items.sort(key=lambda item: item.path.name != "test_torture.py")


HERE = Engine(kind="serial", workers=None, address=None)
"""The engine that does all work in this process."""


def untracked(items: Iterable[Item], what: str, total: int | None) -> Iterable[Item]:
    """Pass the items through."""
    return items


@pytest.fixture
def adult() -> Path:
    """The folder with the notebook's model and data."""
    folder = Path(os.environ.get("ADULT_DIR", "../shared/data/adult"))
    if not folder.is_dir():
        pytest.skip(f"the notebook's model and data are not at {folder}; set ADULT_DIR to test with them")
    return folder.resolve()


@pytest.fixture
def demo_model() -> LinearLearner:
    """The quickstart's model."""
    return LinearLearner(kind="linear_learner", artifact=DEMO / "model.tar.gz", label_headers=None, deploy=None)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a ledger that is not there yet, in each of the databases."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/state/ledger.sqlite"
        return
    with server().database() as database:
        yield database
