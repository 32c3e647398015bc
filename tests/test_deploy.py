"""What deploy/ and docs/operations.md name exists: settings, files, extras; and the service is well-formed."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from runner.domain.executions import LONGEST
from tests.cli_runner import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
CONF = CHECKOUT / "conf"
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
TEXTS = [*sorted(DEPLOY.iterdir()), CHECKOUT / "docs/operations.md"]
ENDING = 5 + 20 + 3 * 30
"""Seconds that a daemon may need beyond its grace to end executions, and to write that down into a ledger in use."""


def unit() -> configparser.ConfigParser:
    """Return the systemd unit."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "shapwatch.service")
    return parser


def services() -> dict[str, Any]:
    """Return the services of the compose file."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return found


def image() -> dict[str, list[str]]:
    """Return the arguments of the Dockerfile's instructions."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            found.setdefault(word, []).append(rest)
    return found


def grace() -> float:
    """Return what executions may take after SIGTERM, by default."""
    return float(yaml.safe_load((CONF / "stage/daemon.yaml").read_text())["grace_seconds"])


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_settings_that_are_named_exist(text: Path) -> None:
    """Every group=option is a file in conf/, and every group.key a key of an option."""
    told = text.read_text()
    for group, option in re.findall(rf"(?<![\w.])({'|'.join(GROUPS)})=([a-z_]\w*)", told):
        assert group == "experiment" or (CONF / group / f"{option}.yaml").is_file(), f"{group}={option}"
    for group, key in re.findall(rf"(?<![\w./])({'|'.join(GROUPS)})\.([a-z_]+)", told):
        options = [path.read_text() for path in (CONF / group).glob("*.yaml")]
        assert any(re.search(rf"^{key}:", option, re.M) for option in options), f"{group}.{key}"


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_files_and_extras_that_are_named_exist(text: Path) -> None:
    """Paths into the project lead somewhere; extras can be installed."""
    told = text.read_text()
    made = {"deploy/.env", "deploy/config/experiment", "deploy/config/experiment/"}
    for path in re.findall(r"(?<![\w./-])((?:deploy|docs|conf)/[\w./-]*\w)", told):
        assert path in made or (CHECKOUT / path).exists(), path
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"\.\[([a-z,]+)\]|EXTRAS=([a-z,]+)", told):
        assert set("".join(named).split(",")) <= set(extras)


def test_the_service_waits_for_the_end() -> None:
    """SIGTERM reaches the daemon alone, which has the time that draining may take; it comes back when it fails."""
    service = unit()["Service"]
    assert (service["KillSignal"], service["KillMode"], service["Restart"]) == ("SIGTERM", "mixed", "on-failure")
    assert float(service["TimeoutStopSec"]) > grace() + ENDING
    command = shlex.split(service["ExecStart"])
    assert command[1:4] == ["-P", "-m", "runner"]
    assert {"stage=daemon", "paths.root=/var/lib/shapwatch", "$SHAPWATCH_ARGS"} <= set(command)
    assert f"/var/lib/{service['StateDirectory']}" == service["WorkingDirectory"]
    assert command[command.index("--config-dir") + 1] == f"/etc/{service['ConfigurationDirectory']}"


def test_systemd_understands_the_service(tmp_path: Path) -> None:
    """It has no word against it, and calls it hardly exposed."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd's own check: apt-get install systemd")
    text = (DEPLOY / "shapwatch.service").read_text().replace("/opt/shapwatch/.venv/bin/python", sys.executable)
    path = tmp_path / "shapwatch.service"
    path.write_text(text.replace("=shapwatch\n", "=root\n"))  # an account that is there
    checked = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert not [line for line in checked.stderr.splitlines() if "shapwatch" in line], checked.stderr
    path.write_text(text)
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout


def test_the_image_runs_the_daemon_as_nobody_in_particular() -> None:
    """What is copied exists, the user is not root, and health is asked where the page is put up."""
    found = image()
    sources = [name for line in found["COPY"] if "--from" not in line for name in line.split()[:-1]]
    assert {"runner", "conf", "reports_templates", "constraints.txt"} <= set(sources)
    assert all((CHECKOUT / name).exists() for name in sources)
    assert found["USER"] == ["10001:10001"]
    port = re.search(r"stage\.port=(\d+)", found["CMD"][0])
    assert port
    assert f"http://127.0.0.1:{port[1]}/healthz" in found["HEALTHCHECK"][0]
    assert '"/healthz"' in (CHECKOUT / "runner/scheduling/daemon/health.py").read_text()
    assert "-c constraints.txt" in found["RUN"][0]


def test_compose_publishes_nothing_and_keeps_no_password() -> None:
    """Ports are this machine's alone, passwords come from outside, and there is time to drain."""
    ours, database = services()["shapwatch"], services()["postgres"]
    assert all(port.startswith("127.0.0.1:") for service in services().values() for port in service.get("ports", []))
    assert database["environment"]["POSTGRES_PASSWORD"] == ours["environment"]["PGPASSWORD"]
    assert ours["environment"]["PGPASSWORD"].startswith("${PGPASSWORD:?")
    variables = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert variables == set(re.findall(r"^(\w+)=$", (DEPLOY / "env.example").read_text(), re.M))
    assert float(ours["stop_grace_period"].removesuffix("s")) > grace() + ENDING
    assert ours["depends_on"]["postgres"]["condition"] == "service_healthy"
    (url,) = [setting for setting in ours["entrypoint"] if setting.startswith("ledger.url=")]
    user, name = re.fullmatch(r"ledger\.url=postgresql://(\w+)@postgres:5432/(\w+)", url).groups()  # type: ignore[union-attr]
    assert (user, name) == (database["environment"]["POSTGRES_USER"], database["environment"]["POSTGRES_DB"])
    assert database["healthcheck"]["test"][1:] == ["pg_isready", "-U", user, "-d", name]


def test_the_image_and_compose_run_the_same() -> None:
    """Compose adds a ledger and monitors to what the image runs, and changes nothing."""
    found, ours = image(), services()["shapwatch"]
    for word, key in (("ENTRYPOINT", "entrypoint"), ("CMD", "command")):
        arguments = yaml.safe_load(found[word][0])
        assert ours[key][: len(arguments)] == arguments


def test_what_is_kept_is_told_as_it_is() -> None:
    """The defaults in the page are those in conf/, and the ledger remembers what retention has to find."""
    told = (CHECKOUT / "docs/operations.md").read_text()
    keep = yaml.safe_load((CONF / "ledger/sqlite.yaml").read_text())["keep"]
    assert re.search(rf"`ledger.keep` .*`{keep}`", told)
    assert LONGEST.days >= int(keep[1:-1])
