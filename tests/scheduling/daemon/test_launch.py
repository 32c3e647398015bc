"""The process of an execution: this program again, with the settings of its schedule and nothing else."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from omegaconf import OmegaConf

from runner import subprocesses
from runner.config import compose
from runner.domain.executions import Status
from runner.domain.schedules import ExecutionRecord, Snapshot
from runner.errors import LedgerError
from runner.scheduling.daemon.launch import launch, log_context
from runner.scheduling.daemon.result import Result, told
from runner.scheduling.ledger.ledger import Ledger
from tests.cli_runner import Shapwatch
from tests.golden import Golden
from tests.scheduling.daemon.execution_samples import entry
from tests.scheduling.daemon.supervisor_bench import Bench
from tests.scheduling.ledger.ledger_samples import BUSY

SECRET = "correct-horse-battery"
REMOTE = (
    "model=http",
    "~model.artifact",
    "model.url=http://127.0.0.1:9/invocations",
    "model.token_env=SHAPWATCH_TOKEN",
)
IDS = "${oc.env:SHAPWATCH_SCHEDULE}-${oc.env:SHAPWATCH_EXECUTION}"


@dataclass(frozen=True)
class Launched:
    """An execution that has ended.

    Attributes:
        root: where everything was written.
        settings: what its process was given.
        result: what its process has told.
    """

    root: Path
    entry: ExecutionRecord
    settings: str
    result: Result | None


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    """An execution of a real schedule, in a folder full of strangers, its token in the environment."""
    root, folder = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("folder")
    for name in ("runner", "hydra", "json", "sitecustomize"):
        (folder / f"{name}.py").write_text("raise SystemExit('a stranger was imported')\n")
    given: list[str] = []

    def executing(snapshot: Snapshot, entry: ExecutionRecord) -> str:
        given.append(compose.execution_settings(snapshot, entry))
        return given[-1]

    with mock.patch.dict(os.environ, {"SHAPWATCH_TOKEN": SECRET}):
        Shapwatch(root)("stage=schedule", "stage.action=create", *REMOTE)
        with Ledger(f"sqlite:///{root}/ledger.sqlite", BUSY) as ledger:
            kept = ledger.snapshot(ledger.schedule("breast-cancer-monitor").snapshot)
            watched = kept.settings.replace("  endpoint: breast-cancer\n", f"  endpoint: {IDS}\n")
            pending = Bench(ledger).pending(snapshot=Snapshot(watched, str(folder)))
            end = launch(ledger, executing, pending).wait()
    assert end is not None
    return Launched(root, pending, given[0], told(end))


def test_it_executes_its_window_and_knows_whose_it_is(launched: Launched, golden: Golden) -> None:
    """Its result lies where the scheduled time says; here also where its environment says which execution it is."""
    assert launched.result
    assert launched.result.status == Status.FAILED
    golden(launched.result.failure_reason or "")
    folder = f"monitor/watch-{launched.entry.id}/breast-cancer-monitor/2026/01/05/13"
    assert launched.result.output == str(launched.root / folder)
    assert (launched.root / folder / "report.html").exists()


def test_its_settings_are_whole(launched: Launched) -> None:
    """Those of the schedule, with the stage that executes one window and ends with who started it."""
    settings = OmegaConf.create(launched.settings)
    assert settings.stage == {
        "kind": "monitor",
        "window": "2026-01-05T12:00:00+00:00/2026-01-05T13:00:00+00:00",
        "scheduled": "2026-01-05T13:00:00+00:00",
        "attached": True,
    }
    assert settings.schedule is None
    assert settings.model.url == "http://127.0.0.1:9/invocations"


def test_secrets_stay_in_the_environment(launched: Launched) -> None:
    """Settings name the variable; neither they nor anything that was written holds what is in it."""
    assert OmegaConf.create(launched.settings).model.token_env == "SHAPWATCH_TOKEN"
    assert SECRET not in launched.settings
    files = [path for path in launched.root.rglob("*") if path.is_file()]
    assert launched.root / "ledger.sqlite" in files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_the_environment_is_handed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With its secrets, and with the modules that are found here, the current folder under its own name."""
    monkeypatch.setenv("SHAPWATCH_TOKEN", SECRET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/somewhere"])
    found = subprocesses.environment()
    assert (found["SHAPWATCH_TOKEN"], found["PYTHONPATH"]) == (SECRET, f"{tmp_path}{os.pathsep}/somewhere")
    assert found.keys() - {"PYTHONPATH"} == os.environ.keys() - {"PYTHONPATH"}


def test_a_command_reads_the_settings_that_were_written(tmp_path: Path) -> None:
    """As they are, without modules of the folder it runs in."""
    command = subprocesses.command(str(tmp_path), "a: ä\n")
    assert (tmp_path / "settings.yaml").read_text("utf-8") == "a: ä\n"
    assert command == [sys.executable, "-P", "-m", "runner", subprocesses.SNAPSHOT, str(tmp_path / "settings.yaml")]


def test_a_folder_that_is_gone_is_an_error_of_the_disk(bench: Bench, tmp_path: Path) -> None:
    """The error names it."""
    gone = str(tmp_path / "gone")
    pending = bench.pending(snapshot=Snapshot("a: 1\n", gone))
    with pytest.raises(FileNotFoundError) as caught:
        launch(bench.ledger, lambda snapshot, _: snapshot.settings, pending)
    assert caught.value.filename == gone


def test_settings_that_are_gone_are_an_error_of_the_ledger(bench: Bench, golden: Golden) -> None:
    """Nothing is started without them."""
    with golden.raises(LedgerError):
        launch(bench.ledger, lambda *_: pytest.fail("nothing to execute"), entry())


@pytest.mark.parametrize(
    ("environment", "context"),
    [
        ({}, {}),
        ({"PATH": "/bin", "SHAPWATCH_TOKEN": SECRET}, {}),
        ({"SHAPWATCH_EXECUTION": "7"}, {"execution": "7"}),
        ({"SHAPWATCH_SCHEDULE": "watch", "SHAPWATCH_EXECUTION": "7"}, {"execution": "7", "schedule": "watch"}),
    ],
)
def test_log_lines_carry_what_the_environment_says(environment: dict[str, str], context: dict[str, str]) -> None:
    """Whose execution it is, where it is one, and nothing else."""
    assert log_context(environment) == context
