"""What the documentation says is what the program has."""

from __future__ import annotations

import inspect
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import orjson
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from runner import cli, errors
from tests.cli_runner import CHECKOUT, Shapwatch
from tests.golden import Golden
from tests.processes import daemon

README = (CHECKOUT / "README.md").read_text("utf-8")
STAGES = sorted(path.stem for path in (cli.CONF / "stage").glob("*.yaml"))


def keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the full keys of all values; a mapping that users fill is one value."""
    for key, value in node.items():
        if isinstance(value, dict) and value and key != "rescale":
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def configured() -> set[str]:
    """Return every key of every choice in every group, the first ones of all groups together, then the second ones."""
    cli.know_package()
    found: set[str] = set()
    groups = [folder for folder in cli.CONF.iterdir() if folder.is_dir() and folder.name not in {"experiment", "hydra"}]
    options = [[f"{group.name}={choice.stem}" for choice in sorted(group.glob("*.yaml"))] for group in groups]
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        for choices in zip_longest(*options):
            found |= set(keys(OmegaConf.to_container(compose("config", list(filter(None, choices))))))
    return found


def section(title: str) -> str:
    """Return a section of the README."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_settings_table_has_every_key_and_no_other() -> None:
    """A key of conf/ that the README lacks, or one it invents, fails."""
    documented = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", section("Settings"), re.MULTILINE))
    assert documented == configured()


def test_every_stage_is_described() -> None:
    """Each option of conf/stage has a row."""
    assert sorted(re.findall(r"^\| `stage=(\w+)` \|", section("Stages"), re.MULTILINE)) == STAGES


def test_every_error_is_described() -> None:
    """Each error has a row with what to do, and stands in the tree of errors.py."""
    classes = inspect.getmembers(
        errors, lambda value: inspect.isclass(value) and issubclass(value, errors.ShapwatchError)
    )
    names = {name for name, _ in classes} - {"ShapwatchError"}
    assert set(re.findall(r"^\| `(\w+)` \|", section("Errors"), re.MULTILINE)) == names
    assert names == set(re.findall(r"[├└]── (\w+)", inspect.getdoc(errors) or ""))


def test_every_rejection_is_described() -> None:
    """Each reason a record can be rejected for stands in the README."""
    sources = "".join(path.read_text("utf-8") for path in (CHECKOUT / "runner").rglob("*.py"))
    kinds = set(re.findall(r"(?:RecordError|rejection|Rejection)\(\s*(?:[\w.]+, [\w.]+, )?\"(\w+)\"", sources))
    assert len(kinds) >= 16
    assert kinds <= set(re.findall(r"`(\w+)`", section("Errors")))


def test_the_notebooks_commands_run(
    tmp_path: Path, adult: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """The commands of the side-by-side table run one after the other, waiting where the notebook waits."""
    monkeypatch.setenv("ADULT_DIR", str(adult))
    commands = re.findall(r"`python -m runner ([^`]+)`", section("The notebook, side by side"))
    shapwatch, answers = Shapwatch(tmp_path, "adult"), list[str]()
    with ExitStack() as stack:
        for command in commands:
            arguments = [argument for argument in shlex.split(command) if argument != "experiment=adult"]
            if "stage=daemon" in arguments:
                stack.enter_context(daemon(tmp_path))
            else:
                answers.append(until(partial(shapwatch, *arguments), SAID.get(len(answers), "")))
    *_, started, stopped, described, listed, again, deleted = answers
    assert re.findall(r"^status +(\w+)$", started, re.MULTILINE) == ["Scheduled"]
    schedule = orjson.loads(described)
    execution = schedule["LastMonitoringExecutionSummary"]
    assert (schedule["MonitoringScheduleStatus"], execution["MonitoringExecutionStatus"]) == ("Stopped", "Completed")
    directory = Path(execution["Output"]["Destination"])
    assert directory.is_relative_to(tmp_path / "monitor/adult/adult-monitor")
    assert str(directory) in listed
    (label,) = orjson.loads((directory / "manifest.json").read_bytes())["verdict"]["labels"]
    assert round(label["ndcg"], 4) == 0.9999
    for answer in (stopped.partition(";")[0], again, deleted):
        golden(answer)
    assert "ResourceNotFound" in shapwatch("stage=schedule", "stage.action=describe", code=2)
    assert shapwatch("stage=schedule", "stage.action=executions") == listed


SAID = {5: "InProgress|Completed", 7: '"MonitoringExecutionStatus": "Completed"'}
"""What the notebook waits for, in the answers to its describe_schedule()."""


def until(ask: Callable[[], str], expected: str, seconds: float = 30) -> str:
    """Return an answer as soon as it is the expected one."""
    end = time.monotonic() + seconds
    while not re.search(expected, answer := ask()):
        assert time.monotonic() < end, answer
    return answer


def test_your_own_experiment_runs(tmp_path: Path, golden: Golden) -> None:
    """The example of a folder of one's own is a configuration that works, once its files exist."""
    (example,) = re.findall(r"```yaml\n(.*?)```", section("Your own model"), re.DOTALL)
    folder = tmp_path / "my" / "experiment"
    folder.mkdir(parents=True)
    text = re.sub(r"headers: .*", "headers: null", example).replace("/srv/shapwatch", str(tmp_path / "root"))
    demo = CHECKOUT / "runner" / "demo"
    text = text.replace("data/training.jsonl", str(demo / "baseline.jsonl"))
    (folder / "churn.yaml").write_text(text.replace("models/model.tar.gz", str(demo / "model.tar.gz")))
    shapwatch = Shapwatch(tmp_path / "root", "churn")
    printed = shapwatch("stage=baseline", options=("--config-dir", str(tmp_path / "my")))
    assert shapwatch.find("analysis.json", "baseline/churn-monitor")
    assert shapwatch.read("manifest.json", "baseline/churn-monitor")["counts"] == {"records": 299}
    golden(printed)


@pytest.mark.parametrize(
    "path", ["README.md", "docs/operations.md", ".github/CONTRIBUTING.md", "runner/demo/README.md"]
)
def test_links_lead_somewhere(path: str) -> None:
    """Relative links name files that exist."""
    text = (CHECKOUT / path).read_text("utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((CHECKOUT / path).parent / target).exists(), target
