"""Ledgers, schedules and results of earlier versions, which `tests/versions` contains, are used by this version.

The folder of a version contains what `stage=quickstart`, `stage=schedule` and `stage=daemon` of that commit wrote with
`paths.root=output` in /srv/shapwatch: an ended execution, a pending one, and an hourly schedule; reports are omitted.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from runner import cli
from runner.config import compose
from runner.domain.executions import HOUR, Status, utc
from runner.domain.schedules import ExecutionRecord, Snapshot
from runner.errors import OutdatedSettings, SettingsError
from runner.results.manifest_file import newest_executions, read_manifest
from runner.scheduling.ledger import Ledger
from runner.scheduling.timetable import Recurring, load
from tests.cli_runner import CHECKOUT, Shapwatch
from tests.golden import Golden
from tests.history_samples import settle
from tests.processes import daemon
from tests.scheduling.daemon.execution_samples import make_execution

VERSIONS = CHECKOUT / "tests" / "versions"
COMMITS = sorted(folder.name for folder in VERSIONS.iterdir() if folder.is_dir())
MONITOR = "breast-cancer-monitor"
CAPTURE = "capture/breast-cancer/AllTraffic/2026/01/05/09/00-00-000-e78182b1-e2e2-4ed1-b0db-34b8a1681896.jsonl"
NOW = utc("2026-12-01T09:30:00Z")


@pytest.fixture(params=COMMITS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Results and ledger of an earlier version."""
    version, output = VERSIONS / request.param, tmp_path / "output"
    shutil.copytree(version / "baseline", output / "baseline" / MONITOR)
    shutil.copytree(version / "monitor", output / f"monitor/breast-cancer/{MONITOR}/2026/01/05/12")
    (output / CAPTURE).parent.mkdir(parents=True)
    shutil.copy(VERSIONS / "capture.jsonl", output / CAPTURE)
    for settings in output.rglob("settings.yaml"):
        settings.write_text(moved(settings.read_text("utf-8"), tmp_path), "utf-8")
    with contextlib.closing(sqlite3.connect(output / "ledger.sqlite")) as connection:
        connection.executescript(moved((version / "ledger.sql").read_text("utf-8"), tmp_path))
    return output


def moved(text: str, folder: Path) -> str:
    """Return a string with the paths of this checkout and of a temporary folder."""
    return text.replace("/opt/shapwatch/", f"{CHECKOUT}/").replace("/srv/shapwatch", str(folder))


def as_config(text: str) -> Any:
    """Return the configuration in a YAML document."""
    return OmegaConf.create(text)


def opened(root: Path) -> Ledger:
    """Return the ledger below a folder."""
    return Ledger(f"sqlite:///{root}/ledger.sqlite", 30)


def pending(root: Path) -> tuple[str, ExecutionRecord]:
    """Return the configuration of the pending execution, and its record."""
    with opened(root) as ledger:
        (execution,) = ledger.executions.startable(NOW, 1, 10)
        return compose.execution_settings(ledger.snapshot(execution.snapshot), execution), execution


def test_executions_and_schedules_are_read(root: Path) -> None:
    """The ledger is migrated when it is opened; results of ended executions remain."""
    with opened(root) as ledger:
        ended, *_ = ledger.executions.newest("earlier-monitor")
        assert (ended.status, ended.attempts, ended.losses) == (Status.COMPLETED, 1, 0)
        hourly = load(ledger.schedules.get("hourly-monitor").timetable)
        assert isinstance(hourly, Recurring)
        assert hourly.next(datetime(2026, 12, 1, 9, 30, tzinfo=NOW.tzinfo)) == NOW + HOUR / 2
    assert pending(root)[1].status is Status.PENDING


def test_the_pending_execution_runs_with_its_stored_settings(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that its version did not have receive their default values; stored ones are unchanged."""
    text, execution = pending(root)
    config: Any = OmegaConf.create(text)
    completed, _ = compose.stored(config)
    assert OmegaConf.to_container(config.shap) == {key: completed.shap[key] for key in config.shap}
    assert completed.engine.kind == "serial"
    config.stage.attached = False
    monkeypatch.chdir(root.parent)
    outcome = cli.outcome_of(config, is_stored=True)
    assert outcome.succeeded, outcome.message
    manifest = read_manifest(Path(outcome.directory))
    assert manifest is not None
    assert manifest.time is not None
    assert (manifest.status, manifest.time.window) == (Status.COMPLETED, execution.window)


def test_results_are_reported_and_compared(root: Path) -> None:
    """A report is rendered again, the reference is used, and the timeline contains the earlier execution."""
    shapwatch = Shapwatch(root)
    folder = root / f"monitor/breast-cancer/{MONITOR}"
    assert "Drift" in (shapwatch("stage=report", f"stage.directory={folder}/2026/01/05/12")).replace("drift", "Drift")
    assert "Completed, " in shapwatch("stage=monitor", "stage.window=2026-01-05T09")
    assert [path.name for path in newest_executions(folder, 10)] == ["12", "10"]


def test_the_settings_of_a_result_are_completed(root: Path) -> None:
    """The settings file of a result of an earlier version lacks the settings that were added later."""
    path = root / f"monitor/breast-cancer/{MONITOR}/2026/01/05/12/settings.yaml"
    config: Any = OmegaConf.load(path)
    assert "engine" not in config
    assert compose.validate(compose.completed(config)).engine.kind == "serial"


@pytest.mark.parametrize("change", ["nosuch: {a: 1}", "model: {kind: nosuch}", "data: 1"])
def test_outdated_settings_are_published_with_the_stored_sinks(root: Path, change: str) -> None:
    """The process that publishes the failure needs no other settings, and has default values for them."""
    with opened(root) as ledger:
        (execution,) = ledger.executions.startable(NOW, 1, 10)
        snapshot = ledger.snapshot(execution.snapshot)
    changed = OmegaConf.merge(
        as_config(snapshot.settings), as_config(change), {"publish": {"notify": {"urls_env": ["OTHER"]}}}
    )
    outdated = replace(snapshot, settings=OmegaConf.to_yaml(changed))
    with pytest.raises(OutdatedSettings):
        compose.stored(as_config(compose.execution_settings(outdated, execution)))
    failed = replace(execution, status=Status.FAILED)
    config = as_config(compose.execution_settings(outdated, failed))
    _, settings = compose.stored(config)
    assert settings.publish.notify
    assert settings.publish.notify.urls_env == ("OTHER",)
    assert (settings.monitor.name, config.paths.root) == (execution.schedule, as_config(snapshot.settings).paths.root)


@pytest.mark.parametrize("settings", ["{", "[1]", "a: ${"])
def test_damaged_settings_fail_their_execution(settings: str, golden: Golden) -> None:
    """The daemon continues."""
    with golden.raises(OutdatedSettings):
        compose.execution_settings(Snapshot(settings, "/"), make_execution())
    with pytest.raises(OutdatedSettings):
        compose.results_retention(Snapshot(settings, "/"))


@pytest.mark.parametrize("change", ["engine=3", "model.kind=[]", "model.kind=../../x", "publish=x", "publish.x={}"])
def test_sections_of_the_wrong_type_are_refused(change: str) -> None:
    """Only options of this version are read."""
    config: Any = OmegaConf.load(VERSIONS / COMMITS[0] / "monitor" / "settings.yaml")
    key, _, value = change.partition("=")
    OmegaConf.update(config, key, OmegaConf.create(value) if value in {"[]", "{}"} else value, force_add=True)
    with pytest.raises(OutdatedSettings) as caught:
        compose.stored(config)
    assert key in str(caught.value.problems)


@pytest.mark.parametrize(
    "change", ["shap.num_sampels=3", "version=99", "version=new", "model.kind=magic", "drift.threshold=many"]
)
def test_settings_of_another_version_are_refused(change: str, golden: Golden) -> None:
    """The error names the command that stores new settings."""
    config: Any = OmegaConf.load(VERSIONS / COMMITS[0] / "monitor" / "settings.yaml")
    key, _, value = change.partition("=")
    OmegaConf.update(config, key, int(value) if value.isdigit() else value, force_add=True)
    with golden.raises(OutdatedSettings) as caught:
        compose.stored(config)
    assert isinstance(caught.value, SettingsError)
    assert key in str(caught.value.problems)


@pytest.mark.soak
def test_a_daemon_executes_the_pending_execution(root: Path) -> None:
    """The daemon of this version continues with the ledger of an earlier one, and needs no command."""
    with daemon(root), opened(root) as ledger:
        settle(ledger)
        ended, *_ = ledger.executions.newest(MONITOR)
        assert ended.status is Status.COMPLETED, ended.failure_reason
