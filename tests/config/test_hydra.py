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


def launched(
    conf: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, allow_hydra: bool = False
) -> list[tuple[int, list[str]]]:
    """Return for each run the x of its settings, and what overrides them."""
    runs = []

    def task(config: DictConfig) -> int:
        runs.append((config.x, hydra_run.overrides()))
        return 0

    monkeypatch.chdir(conf)
    monkeypatch.setattr(sys, "argv", ["shapwatch", *arguments])
    hydra_run.launch(task, conf, allow_hydra)
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


MARK = "{_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [MARK]}}"
"""Call that creates a file."""
DANGEROUS = {
    "section": ("x.yaml", f"# @package _global_\nhydra: {{callbacks: {{a: {MARK}}}}}"),
    "target": ("x.yaml", f"# @package _global_\na: [{MARK}]"),
    "package": ("x.yaml", f"# @package hydra.callbacks\na: {MARK}"),
    "environment": ("x.yaml", "# @package _global_\nhydra: {job: {env_set: {PATH: .}}}"),
    "log": ("x.yaml", "# @package hydra.job_logging\nhandlers: {a: {'()': pathlib.Path.cwd}}"),
    "search path": ("x.yaml", "# @package _global_\nhydra: {searchpath: ['file://.']}"),
    "default": ("x.yaml", "# @package _global_\ndefaults: [{override /hydra/launcher: mine}]"),
    "placed default": ("x.yaml", "# @package _global_\ndefaults: [{/e@hydra.callbacks.a: y}]"),
    "computed default": ("x.yaml", "# @package _global_\ndefaults: [{'/e@${e}': y}]"),
    "name": ("hydra.yaml", "# @package _name_\ncallbacks: {}"),
}
"""Names and contents of files with which Hydra would run code, or other code."""


@pytest.mark.parametrize("kind", DANGEROUS)
def test_files_outside_conf_cannot_choose_code(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """They are refused before anything that they name is called."""
    name, content = DANGEROUS[kind]
    (conf := tmp_path / "conf").mkdir()
    (conf / "config.yaml").write_text(SINGLE)
    (folder := tmp_path / "other/e").mkdir(parents=True)
    (folder / name).write_text(content.replace("MARK", str(tmp_path / "mark")))
    (folder / "y.yaml").write_text("a: 1")
    with golden.raises(SettingsError) as caught:
        launched(conf, monkeypatch, f"+e={name.removesuffix('.yaml')}", "--config-dir", "../other")
    with pytest.raises(SettingsError) as again:
        launched(conf, monkeypatch, f"+e={name.removesuffix('.yaml')}", f"hydra.searchpath=[file://{tmp_path}/other]")
    assert again.value.problems == caught.value.problems
    assert not (tmp_path / "mark").exists()


def test_main_configuration_of_another_folder_cannot_choose_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither `--config-path` nor a path out of `conf/` bypasses the check."""
    (conf := tmp_path / "conf").mkdir()
    (conf / "config.yaml").write_text(SINGLE)
    (tmp_path / "x.yaml").write_text(f"hydra: {{callbacks: {{a: {MARK.replace('MARK', str(tmp_path / 'mark'))}}}}}")
    for arguments in (
        ["--config-path", str(tmp_path), "--config-name", "x"],
        ["+../=x", "-m"],
        ["--config-name", "../x"],
    ):
        with pytest.raises(SettingsError):
            launched(conf, monkeypatch, *arguments)
    assert not (tmp_path / "mark").exists()


def test_trusted_folder_can_set_hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--allow-hydra` accepts a file that makes a run a sweep."""
    (conf := tmp_path / "conf").mkdir()
    (conf / "config.yaml").write_text(SINGLE)
    (tmp_path / "other/e").mkdir(parents=True)
    (tmp_path / "other/e/x.yaml").write_text(f"# @package _global_\n{SWEEP}")
    arguments = ("+e=x", "--config-dir", str(tmp_path / "other"))
    with pytest.raises(SettingsError, match="--allow-hydra"):
        launched(conf, monkeypatch, *arguments)
    assert [x for x, _ in launched(conf, monkeypatch, *arguments, allow_hydra=True)] == [1, 2]


def test_pickled_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Hydra's option for it, also abbreviated, would load a pickle."""
    (tmp_path / "config.yaml").write_text(SINGLE)
    for option in ("--experimental-rerun", "--exp"):
        with golden.raises(SettingsError):
            launched(tmp_path, monkeypatch, option, "x.pickle")
