"""The commands of the documentation run, unless their pages mark them as not run.

Each test runs the commands of some pages one after the other in a new folder, as a reader does. Commands that do not
end by themselves are started, used and stopped. Addresses, ports and system folders are replaced by those of the test.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests import documentation
from tests.cli_runner import CHECKOUT, Shapwatch, run_cli
from tests.golden import Golden
from tests.postgres import server
from tests.processes import daemon, served

COMMANDS = documentation.commands()
GUIDES = (
    "docs/concepts.md",
    "docs/how-to/traffic.md",
    "docs/how-to/publishing.md",
    "docs/how-to/reports.md",
    "docs/how-to/schedules.md",
)
SERVING = ("docs/how-to/serving.md", "docs/how-to/models.md")
TESTED = {
    *("README.md", "docs/quickstart.md", "docs/reference/settings.md", "docs/migration.md", "docs/operations.md"),
    *("docs/how-to/scaling.md", *GUIDES, *SERVING),
}
"""Pages whose commands the tests below run."""


def lines(*pages: str) -> Iterator[str]:
    """Yield the commands of pages that are not marked as not run."""
    assert set(pages) <= TESTED
    for page in pages:
        yield from (command.line for command in COMMANDS if command.page == page and command.is_run)


def arguments(line: str, folder: Path) -> list[str]:
    """Return the arguments of a shapwatch command, as bash passes them in a folder."""
    words = bash(f"python() {{ printf '%s\\0' \"$@\"; }}\n{line}", folder).split("\0")[:-1]
    assert words[:2] == ["-m", "runner"], line
    return words[2:]


def bash(script: str, folder: Path) -> str:
    """Return the output of a shell script without errors."""
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, cwd=folder, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def run(line: str, folder: Path, *more: str) -> str:
    """Return the output of a shapwatch command with further settings."""
    return run_cli([*arguments(line, folder), *more], folder)


def own_experiment(folder: Path) -> None:
    """Write the experiment of the README with the files of the quickstart, and an hour of its traffic."""
    (example,) = documentation.blocks(documentation.text("README.md"), "yaml")
    target, demo = folder / "my" / "experiment", CHECKOUT / "runner" / "demo"
    target.mkdir(parents=True)
    example = re.sub(r"headers: .*", "headers: null", example).replace("/srv/shapwatch", str(folder / "root"))
    example = example.replace("data/training.jsonl", str(demo / "baseline.jsonl"))
    (target / "churn.yaml").write_text(example.replace("models/model.tar.gz", str(demo / "model.tar.gz")))
    traffic = f"data.traffic={demo / 'traffic.jsonl'}"
    start = "stage.start=2026-01-05T09:00:00Z"
    run_cli(["--config-dir", "my", "experiment=churn", "stage=replay", traffic, start], folder)


def test_every_command_is_run_or_marked(golden: Golden) -> None:
    """The commands that no test runs are those in the golden file, each with its reason."""
    marked = [f"{command.page}: {command.line} ({command.reason})" for command in COMMANDS if not command.is_run]
    assert {command.page for command in COMMANDS if command.is_run} == TESTED
    golden("\n".join(marked))


def test_commands_of_the_quickstart_run(tmp_path: Path, golden: Golden) -> None:
    """The quickstart, the options that print, and the way of a new monitor from captures to schedules."""
    own_experiment(tmp_path)
    outputs = list[str]()
    pages = ("README.md", "docs/quickstart.md", "docs/reference/settings.md")
    for line in dict.fromkeys(line.partition(" #")[0].rstrip() for line in lines(*pages)):
        if "stage=daemon" in line:
            with daemon(tmp_path / "output"):
                continue
        outputs.append(run(line, tmp_path))
    assert [path.parent.name for path in sorted((tmp_path / "output").rglob("drift.json"))] == ["10", "11", "12", "10"]
    reference = orjson.loads((tmp_path / "root/baseline/churn-monitor/manifest.json").read_bytes())
    assert reference["counts"] == {"records": 299}
    assert any("churn-monitor" in output and "created" in output for output in outputs)
    golden(outputs[0])


@pytest.mark.soak
def test_commands_of_the_guides_run(tmp_path: Path) -> None:
    """The guides work on the results of the quickstart, here on two of its hours."""
    for hour in ("09", "11"):
        run(f"python -m runner stage=replay stage.count=90 stage.start=2026-01-05T{hour}:00:00Z", tmp_path)
    run("python -m runner stage=baseline", tmp_path)
    run("python -m runner stage=monitor stage.window=2026-01-05T11", tmp_path)
    monitor = tmp_path / "output/monitor/breast-cancer/breast-cancer-monitor/2026/01/05"
    for line in lines(*GUIDES):
        if "stage=daemon" in line:
            with daemon(tmp_path / "output"):
                continue
        run(line, tmp_path, *(["stage.end=2026-01-05T10:00Z"] if "stage=backfill" in line else []))
    assert "Churn" in (monitor / "12/report.html").read_text("utf-8")
    assert (tmp_path / "output/baseline/weeks/analysis.json").is_file()
    assert list(tmp_path.rglob("*.prom"))


def test_commands_of_an_endpoint_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The endpoint serves traffic, boto3's client, and the plan of another monitor."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    serve, traffic, plan = lines(*SERVING)
    assert arguments(serve, tmp_path) == ["stage=serve"]
    with served(tmp_path / "output", "quickstart") as endpoint:
        sent = run(traffic, tmp_path, f"stage.url={endpoint.url}", "stage.count=5")
        planned = run(plan.replace("http://127.0.0.1:8080", endpoint.origin), tmp_path)
        client, _ = documentation.blocks(documentation.text(SERVING[0]), "python")
        exec(client.replace("http://127.0.0.1:8080", endpoint.origin), {})  # noqa: S102  an example of the page
    assert sent.startswith("sent 5 records in 5 requests")
    assert "to the model" in planned
    assert '"score"' in capsys.readouterr().out
    assert re.fullmatch(r"answered (\d+) requests, captured \1, dropped 0\n", endpoint.output)


@pytest.mark.soak
def test_commands_of_sweeps_and_engines_run(tmp_path: Path) -> None:
    """Two sweeps, and executions with processes of this machine and with a Dask cluster."""
    run("python -m runner stage=replay stage.count=90 stage.start=2026-01-05T09:00:00Z", tmp_path)
    run("python -m runner stage=baseline", tmp_path)
    from distributed import LocalCluster

    dask: Any = LocalCluster
    with dask(n_workers=1, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0") as cluster:
        for line in lines("docs/how-to/scaling.md"):
            more = ["engine.workers=1"] if "engine=loky" in line else []
            run(line.replace("tcp://10.0.0.1:8786", cluster.scheduler_address), tmp_path, *more)
    assert len(list(tmp_path.rglob("sweep.csv"))) == 2


@pytest.mark.soak
def test_commands_of_a_service_run(tmp_path: Path) -> None:
    """The shell of an operator with an alias, the environment file and the folders of the service."""
    config, state = tmp_path / "etc", tmp_path / "lib"
    own_experiment(tmp_path)
    (tmp_path / "my").rename(config)
    state.mkdir()
    (config / "environment").write_text("PGPASSWORD=secret\n")
    shown = [line for line in lines("docs/operations.md") if "/srv/" not in line]
    script = "\n".join(["shopt -s expand_aliases", *shown])
    for old, new in {
        "runuser -m -u shapwatch -- /opt/shapwatch/.venv/bin/python": sys.executable,
        "/etc/shapwatch": str(config),
        "/var/lib/shapwatch": str(state),
    }.items():
        assert old in script
        script = script.replace(old, new)
    output = bash(script, tmp_path)
    assert "churn-monitor" in output.splitlines()[-1]
    assert (state / "baseline/churn-monitor/analysis.json").is_file()


def test_commands_of_a_backup_run(tmp_path: Path) -> None:
    """Both ledgers are copied by the tools of their databases."""
    sqlite, postgresql = [line for line in lines("docs/operations.md") if "/srv/" in line]
    run("python -m runner stage=schedule stage.action=create", tmp_path)
    folders = {"/var/lib/shapwatch": str(tmp_path / "output"), "/srv/backup": str(tmp_path)}
    with server().database() as url:
        address = re.fullmatch(r"postgresql://(\w+)@([\d.]+):(\d+)/(\w+)", url)
        assert address
        user, host, port, database = address.groups()
        options = {"127.0.0.1": f"{host} --port={port}", "=shapwatch shapwatch": f"={user} {database}"}
        for old, new in {**folders, **options}.items():
            sqlite, postgresql = sqlite.replace(old, new), postgresql.replace(old, new)
        run(f"python -m runner stage=schedule stage.action=create ledger.url={url}", tmp_path)
        bash(sqlite, tmp_path)
        bash(postgresql, tmp_path)
    restored = f"python -m runner stage=schedule stage.action=list ledger.url=sqlite:///{tmp_path}/ledger.sqlite"
    assert "breast-cancer-monitor" in run(restored, tmp_path)
    assert (tmp_path / "ledger.dump").read_bytes().startswith(b"PGDMP")


@pytest.mark.soak
def test_commands_of_the_notebook_run(
    tmp_path: Path, adult: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """The commands of the migration table run one after the other, and wait where the notebook waits."""
    monkeypatch.setenv("ADULT_DIR", str(adult))
    outputs = list[str]()
    with ExitStack() as stack:
        for line in lines("docs/migration.md"):
            if "stage=daemon" in line:
                stack.enter_context(daemon(tmp_path / "output"))
            else:
                outputs.append(wait_for(AWAITED.get(len(outputs), ""), partial(run, line, tmp_path)))
    *_, started, stopped, described, listed, repeated, deleted = outputs
    assert re.findall(r"^status +(\w+)$", started, re.MULTILINE) == ["Scheduled"]
    schedule = orjson.loads(described)
    execution = schedule["LastMonitoringExecutionSummary"]
    statuses = schedule["MonitoringScheduleStatus"], execution["MonitoringExecutionStatus"]
    assert statuses == ("Stopped", "CompletedWithViolations")
    directory = Path(execution["Output"]["Destination"])
    assert directory.is_relative_to(tmp_path / "output/monitor/adult/adult-monitor")
    assert str(directory) in listed
    (label,) = orjson.loads((directory / "manifest.json").read_bytes())["verdict"]["labels"]
    assert round(label["ndcg"], 4) == 0.9999
    for output in (stopped.partition(";")[0], repeated, deleted):
        golden(output)
    shapwatch = Shapwatch(tmp_path / "output", "adult")
    assert "ResourceNotFound" in shapwatch("stage=schedule", "stage.action=describe", code=2)
    assert shapwatch("stage=schedule", "stage.action=executions") == listed


AWAITED = {5: "InProgress|Completed", 7: '"MonitoringExecutionStatus": "CompletedWithViolations"'}
"""Patterns that the notebook waits for, by position of the command that describes the schedule."""


def wait_for(pattern: str, output: Callable[[], str], seconds: float = 30) -> str:
    """Return the first output that contains a pattern."""
    end = time.monotonic() + seconds
    while not re.search(pattern, found := output()):
        assert time.monotonic() < end, found
    return found
