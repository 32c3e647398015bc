"""deploy/ and docs/operations.md: settings, files and extras exist, and the service is valid."""

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

from runner.domain.executions import MAX_WINDOW
from tests.cli_runner import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
CONF = CHECKOUT / "conf"
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
TEXTS = [*sorted(DEPLOY.iterdir()), CHECKOUT / "docs/operations.md"]
STOP_SECONDS = 5 + 20 + 3 * 30
"""Seconds after the grace period in which a daemon ends executions and records that in a busy ledger."""


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


def grace_seconds() -> float:
    """Return the default seconds that executions may take after SIGTERM."""
    return float(yaml.safe_load((CONF / "stage/daemon.yaml").read_text())["grace_seconds"])


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_named_settings_exist(text: Path) -> None:
    """Each group=option is a file in conf/, and each group.key is a key of an option."""
    content = text.read_text()
    for group, option in re.findall(rf"(?<![\w.])({'|'.join(GROUPS)})=([a-z_]\w*)", content):
        assert group == "experiment" or (CONF / group / f"{option}.yaml").is_file(), f"{group}={option}"
    for group, key in re.findall(rf"(?<![\w./])({'|'.join(GROUPS)})\.([a-z_]+)", content):
        options = [path.read_text() for path in (CONF / group).glob("*.yaml")]
        assert any(re.search(rf"^{key}:", option, re.M) for option in options), f"{group}.{key}"


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_named_files_and_extras_exist(text: Path) -> None:
    """Paths into the repository exist; extras are in pyproject.toml."""
    content = text.read_text()
    created = {"deploy/.env", "deploy/config/experiment", "deploy/config/experiment/"}
    for path in re.findall(r"(?<![\w./-])((?:deploy|docs|conf)/[\w./-]*\w)", content):
        assert path in created or (CHECKOUT / path).exists(), path
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"\.\[([a-z,]+)\]|EXTRAS=([a-z,]+)", content):
        assert set("".join(named).split(",")) <= set(extras)


def test_service_allows_time_to_drain() -> None:
    """SIGTERM goes to the daemon only, which has time to drain; systemd restarts it after a failure."""
    service = unit()["Service"]
    assert (service["KillSignal"], service["KillMode"], service["Restart"]) == ("SIGTERM", "mixed", "on-failure")
    assert float(service["TimeoutStopSec"]) > grace_seconds() + STOP_SECONDS
    command = shlex.split(service["ExecStart"])
    assert command[1:4] == ["-P", "-m", "runner"]
    assert {"stage=daemon", "paths.root=/var/lib/shapwatch", "$SHAPWATCH_ARGS"} <= set(command)
    assert f"/var/lib/{service['StateDirectory']}" == service["WorkingDirectory"]
    assert command[command.index("--config-dir") + 1] == f"/etc/{service['ConfigurationDirectory']}"


def test_systemd_accepts_the_service(tmp_path: Path) -> None:
    """systemd-analyze has no complaint, and reports low exposure."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    text = (DEPLOY / "shapwatch.service").read_text().replace("/opt/shapwatch/.venv/bin/python", sys.executable)
    path = tmp_path / "shapwatch.service"
    path.write_text(text.replace("=shapwatch\n", "=root\n"))  # an existing account
    checked = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert not [line for line in checked.stderr.splitlines() if "shapwatch" in line], checked.stderr
    path.write_text(text)
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_image_runs_the_daemon_without_root() -> None:
    """Copied files exist, the user is not root, and the health check uses the port of the daemon."""
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


def test_compose_publishes_only_locally_without_passwords() -> None:
    """Ports are on loopback, passwords come from the environment, and there is time to drain."""
    shapwatch, database = services()["shapwatch"], services()["postgres"]
    assert all(port.startswith("127.0.0.1:") for service in services().values() for port in service.get("ports", []))
    assert database["environment"]["POSTGRES_PASSWORD"] == shapwatch["environment"]["PGPASSWORD"]
    assert shapwatch["environment"]["PGPASSWORD"].startswith("${PGPASSWORD:?")
    variables = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert variables == set(re.findall(r"^(\w+)=$", (DEPLOY / "env.example").read_text(), re.M))
    assert float(shapwatch["stop_grace_period"].removesuffix("s")) > grace_seconds() + STOP_SECONDS
    assert shapwatch["depends_on"]["postgres"]["condition"] == "service_healthy"
    (url,) = [setting for setting in shapwatch["entrypoint"] if setting.startswith("ledger.url=")]
    user, name = re.fullmatch(r"ledger\.url=postgresql://(\w+)@postgres:5432/(\w+)", url).groups()  # type: ignore[union-attr]
    assert (user, name) == (database["environment"]["POSTGRES_USER"], database["environment"]["POSTGRES_DB"])
    assert database["healthcheck"]["test"][1:] == ["pg_isready", "-U", user, "-d", name]


def test_compose_extends_the_command_of_the_image() -> None:
    """Compose adds a ledger and monitors to the arguments of the image."""
    found, shapwatch = image(), services()["shapwatch"]
    for word, key in (("ENTRYPOINT", "entrypoint"), ("CMD", "command")):
        arguments = yaml.safe_load(found[word][0])
        assert shapwatch[key][: len(arguments)] == arguments


def test_retention_defaults_match_the_page() -> None:
    """The page shows the default of conf/, and the ledger stores executions long enough for retention."""
    page = (CHECKOUT / "docs/operations.md").read_text()
    keep = yaml.safe_load((CONF / "ledger/sqlite.yaml").read_text())["keep"]
    assert re.search(rf"`ledger.keep` .*`{keep}`", page)
    assert MAX_WINDOW.days >= int(keep[1:-1])
