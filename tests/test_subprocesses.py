"""Commands and environments of processes that run this program."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from runner import subprocesses


def test_the_environment_is_inherited_with_the_module_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Relative entries of the module path become absolute; secrets are inherited."""
    monkeypatch.setenv("SHAPWATCH_TOKEN", "secret")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/somewhere"])
    environment = subprocesses.environment()
    assert environment["SHAPWATCH_TOKEN"] == "secret"
    assert environment["PYTHONPATH"] == f"{tmp_path}{os.pathsep}/somewhere"
    assert environment.keys() - {"PYTHONPATH"} == os.environ.keys() - {"PYTHONPATH"}


def test_a_command_reads_its_settings_from_a_file(tmp_path: Path) -> None:
    """The settings are written unchanged; modules of the working folder are not imported."""
    command = subprocesses.command(str(tmp_path), "a: ä\n")
    assert (tmp_path / "settings.yaml").read_text("utf-8") == "a: ä\n"
    assert command == [sys.executable, "-P", "-m", "runner", subprocesses.SNAPSHOT, str(tmp_path / "settings.yaml")]
