"""Composing on Hydra's behalf: a single run once, a sweep by Hydra's own command line."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from runner.config import hydra as hydra_run
from runner.errors import SettingsError
from tests.golden import Golden

SINGLE = "x: 0\n"
SWEEP = "x: 0\nhydra:\n  mode: MULTIRUN\n  sweep: {dir: .}\n  sweeper: {params: {x: '1,2'}}\n"


def launched(conf: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[tuple[int, list[str]]]:
    """Return for each run the x of its settings, and what overrides them."""
    runs = []

    def task(config: DictConfig) -> int:
        runs.append((config.x, hydra_run.overrides()))
        return 0

    monkeypatch.chdir(conf)
    monkeypatch.setattr(sys, "argv", ["shapwatch", *arguments])
    hydra_run.launch(task, conf)
    return runs


def test_a_single_run_is_composed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra's command line, which composes twice, is not needed for it."""
    (tmp_path / "config.yaml").write_text(SINGLE)
    monkeypatch.setattr(hydra, "main", None)
    assert launched(tmp_path, monkeypatch, "x=3") == [(3, ["x=3"])]
    assert launched(tmp_path, monkeypatch) == [(0, [])]


@pytest.mark.parametrize("arguments", [("-m", "x=1,2"), ("hydra.mode=MULTIRUN", "x=1,2")], ids=["option", "setting"])
def test_a_sweep_is_asked_for(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an option or by an override."""
    (tmp_path / "config.yaml").write_text(SINGLE)
    assert launched(tmp_path, monkeypatch, *arguments) == [(1, ["x=1"]), (2, ["x=2"])]


def test_a_configuration_can_be_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word on the command line."""
    (tmp_path / "config.yaml").write_text(SWEEP)
    assert launched(tmp_path, monkeypatch) == [(1, ["x=1"]), (2, ["x=2"])]


def test_an_error_is_worded_for_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Quotes that the shell would remove are escaped."""
    (tmp_path / "config.yaml").write_text(SINGLE)
    with golden.raises(SettingsError) as caught:
        launched(tmp_path, monkeypatch, "x=1,2")
    assert r"key=\'value1,value2\'" in str(caught.value)
