"""The documentation agrees with the program: pages, settings, errors, commands and links."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import orjson
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from docs import generate
from runner import cli, errors
from tests.cli_runner import CHECKOUT, Shapwatch
from tests.golden import Golden
from tests.processes import daemon

PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    CHECKOUT / "runner/demo/README.md",
    *sorted((CHECKOUT / "docs").rglob("*.md")),
]
GENERATED = set(generate.pages())
STAGES = sorted(path.stem for path in (cli.CONF / "stage").glob("*.yaml"))
OPTIONS = {"-m", "--cfg", "--config-dir", "--help"}
"""Command line options that the documentation shows; --cfg and --config-dir take a value."""


def page(name: str) -> str:
    """Return the text of a page."""
    return (CHECKOUT / name).read_text("utf-8")


def blocks(text: str, *languages: str) -> list[str]:
    """Return the code blocks of a page in some languages."""
    return [body for name, body in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL) if name in languages]


def shell_lines() -> Iterator[tuple[str, str]]:
    """Yield page name and shell command: lines of code blocks, and inline commands that run Python modules."""
    for path in PAGES:
        text, name = path.read_text("utf-8"), path.relative_to(CHECKOUT).as_posix()
        for block in blocks(text, "sh", "bash"):
            yield from ((name, line) for line in block.splitlines() if line.strip())
        inline = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        yield from ((name, command) for command in re.findall(r"`(python -m [^`]+)`", inline))


COMMANDS = sorted(set(shell_lines()))


def keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the full keys of all values; a mapping that users fill is one value."""
    for key, value in node.items():
        if isinstance(value, dict) and value and key != "rescale":
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@cache
def configured() -> set[str]:
    """Return every key of every choice in every group, the first ones of all groups together, then the second ones."""
    cli.register_package()
    found: set[str] = set()
    groups = [folder for folder in cli.CONF.iterdir() if folder.is_dir() and folder.name not in {"experiment", "hydra"}]
    options = [[f"{group.name}={choice.stem}" for choice in sorted(group.glob("*.yaml"))] for group in groups]
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        for choices in zip_longest(*options):
            found |= set(keys(OmegaConf.to_container(compose("config", list(filter(None, choices))))))
    return found


@pytest.mark.parametrize("path", sorted(GENERATED), ids=lambda path: path.name)
def test_generated_pages_are_up_to_date(path: Path) -> None:
    """`make docs` writes the same text."""
    assert path.read_text("utf-8") == generate.pages()[path], "run `make docs`"


def test_the_settings_page_has_every_key_and_no_other() -> None:
    """Each key of each option has a row with a description."""
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \|(.*) \|$", page("docs/reference/settings.md"), re.MULTILINE)
    assert {key for key, _ in rows} == configured()
    assert not [key for key, cells in rows if len(cells.rpartition(" | ")[2]) < 6]


def test_every_stage_is_described() -> None:
    """Each option of conf/stage has a row in the quickstart."""
    assert sorted(re.findall(r"^\| `stage=(\w+)` \|", page("docs/quickstart.md"), re.MULTILINE)) == STAGES


def test_every_error_is_described() -> None:
    """Each error has a remedy, and is listed in the tree of errors.py."""
    classes = generate.error_classes()
    assert all("REMEDY" in vars(kind) for kind in classes.values())
    assert set(classes) == set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))


def test_every_rejection_is_described() -> None:
    """Each reason in the sources has a row, and each row a source."""
    sources = "".join(path.read_text("utf-8") for path in (CHECKOUT / "runner").rglob("*.py"))
    kinds = set(re.findall(r"(?:RecordError|rejection|Rejection)\(\s*(?:[\w.]+, [\w.]+, )?\"(\w+)\"", sources))
    assert len(kinds) >= 16
    assert kinds <= set(errors.REJECTIONS)
    assert not [reason for reason in errors.REJECTIONS if f'"{reason}"' not in sources]


def test_the_notebooks_commands_run(
    tmp_path: Path, adult: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """The commands of the side-by-side table run one after the other, waiting where the notebook waits."""
    monkeypatch.setenv("ADULT_DIR", str(adult))
    commands = re.findall(r"`python -m runner ([^`]+)`", page("docs/migration.md"))
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


def own_experiment(folder: Path) -> None:
    """Write the example experiment of the README to my/experiment/churn.yaml, with files that exist."""
    (example,) = blocks(page("README.md"), "yaml")
    target, demo = folder / "my" / "experiment", CHECKOUT / "runner" / "demo"
    target.mkdir(parents=True)
    text = re.sub(r"headers: .*", "headers: null", example).replace("/srv/shapwatch", str(folder / "root"))
    text = text.replace("data/training.jsonl", str(demo / "baseline.jsonl"))
    (target / "churn.yaml").write_text(text.replace("models/model.tar.gz", str(demo / "model.tar.gz")))


def test_your_own_experiment_runs(tmp_path: Path, golden: Golden) -> None:
    """The example of a folder of one's own is a configuration that works, once its files exist."""
    own_experiment(tmp_path)
    shapwatch = Shapwatch(tmp_path / "root", "churn")
    printed = shapwatch("stage=baseline", options=("--config-dir", str(tmp_path / "my")))
    assert shapwatch.find("analysis.json", "baseline/churn-monitor")
    assert shapwatch.read("manifest.json", "baseline/churn-monitor")["counts"] == {"records": 299}
    golden(printed)


def arguments_of(line: str) -> list[str] | None:
    """Return the arguments of a command that runs the program, None for other commands."""
    words = shlex.split(line, comments=True)
    for start in (["python", "-m", "runner"], ["sw"], ["shapwatch"]):
        if words[: len(start)] == start:
            return words[len(start) :]
    return None


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, line in COMMANDS if arguments_of(line) is not None])
def test_commands_have_valid_settings(name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra composes the settings of each command on each page; of a sweep those of its first member."""
    monkeypatch.setenv("ADULT_DIR", str(tmp_path))
    own_experiment(tmp_path)
    overrides = cli.overrides_first(arguments_of(line) or [])
    options = [word for word in overrides if word.startswith("-")]
    assert set(options) <= OPTIONS, line
    overrides = [word for word in overrides if "=" in word or word.startswith("~")]
    parser = OverridesParser.create()
    first = [
        next(iter(parsed.sweep_string_iterator())) if parsed.is_sweep_override() else None
        for parsed in map(parser.parse_override, overrides)
    ]
    single = [
        word if value is None else f"{word.partition('=')[0]}={value}"
        for word, value in zip(overrides, first, strict=True)
        if not word.startswith("hydra")
    ]
    cli.register_package()
    search = f"hydra.searchpath=[file://{tmp_path / 'my'}]"
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = compose("config", [*map(cli.accept_unknown_key, single), search])
    composed = set(keys(OmegaConf.to_container(config)))
    assert {key for key in composed if not key.startswith("model.coefficients.")} <= configured()


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, line in COMMANDS if arguments_of(line) is None])
def test_other_commands_exist(name: str, line: str) -> None:
    """Targets of make and modules of benchmarks exist; other tools appear only where a person administers a machine."""
    words = shlex.split(line.replace("…", ""), comments=True)
    if words[0] == "make":
        targets = set(re.findall(r"^(\w+):", page("Makefile"), re.MULTILINE))
        assert {word for word in words[1:] if "=" not in word} <= targets
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]) is not None
    else:
        assert name in {"docs/operations.md", "CONTRIBUTING.md"}, line


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_python_examples_import_what_exists(path: Path) -> None:
    """Each Python example compiles, and what it imports from the package is there."""
    for block in blocks(path.read_text("utf-8"), "python"):
        compile(block, str(path), "exec")
        for module, names in re.findall(r"^from (runner[\w.]*) import (.+)$", block, re.MULTILINE):
            assert all(hasattr(importlib.import_module(module), each.strip()) for each in names.split(","))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    """Relative links name files that exist, and their fragments headings."""
    for target, fragment in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", path.read_text("utf-8")):
        linked = path.parent / target if target else path
        assert linked.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.MULTILINE)
            assert fragment in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", sorted(set(PAGES) - GENERATED), ids=lambda path: path.name)
def test_pages_are_short(path: Path) -> None:
    """The README fits on a screen or two, other pages in 300 lines."""
    assert len(path.read_text("utf-8").splitlines()) <= 300
    assert path.name != "README.md" or path.stat().st_size <= 8_192


def test_every_page_is_linked() -> None:
    """The README links to each page of docs/."""
    linked = {(CHECKOUT / target).resolve() for target in re.findall(r"\]\(([^)#:]+)", page("README.md"))}
    assert {path for path in PAGES if path.is_relative_to(CHECKOUT / "docs")} <= linked
