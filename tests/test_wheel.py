"""The wheel is complete: installed elsewhere, it runs the quickstart from any folder."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.cli_runner import CHECKOUT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout, built by the installed build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    build = f"import hatchling.build, sys; print(hatchling.build.build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=CHECKOUT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_contains_conf_templates_and_data(wheel: Path) -> None:
    """All files that are read at run time are inside; tests are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (
        ("conf", "runner/conf"),
        ("reports_templates", "runner/reports_templates"),
        ("runner", "runner"),
    ):
        files = (path for path in (CHECKOUT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        assert {f"{inside}/{path.relative_to(CHECKOUT / folder).as_posix()}" for path in files} <= names
    assert not any(name.startswith("tests") for name in names)


@pytest.mark.soak
def test_installed_wheel_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    """In a new environment with the wheel and its dependencies, the console script detects the drift."""
    environment = tmp_path / "environment"
    venv.create(environment)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "--disable-pip-version-check"]
    install = [*pip, "install", "-q", "--no-compile", "-c", str(CHECKOUT / "constraints.txt"), str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path)
    done = subprocess.run(
        [environment / "bin/shapwatch", "paths.root=here"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "CompletedWithViolations" in done.stdout
    assert (tmp_path / "here/monitor/breast-cancer/breast-cancer-monitor/2026/01/05/12/report.html").is_file()
    assert str(CHECKOUT) not in (tmp_path / "here/baseline/breast-cancer-monitor/settings.yaml").read_text()
