"""The documentation agrees with the program: pages, settings, errors, commands and links."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from docs import generate
from runner import cli, errors
from tests import documentation
from tests.cli_runner import CHECKOUT
from tests.documentation import PAGES, blocks, text

GENERATED = set(generate.pages())


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
def test_generated_pages_are_current(path: Path) -> None:
    """`make docs` writes the same text."""
    assert path.read_text("utf-8") == generate.pages()[path], "run `make docs`"


def test_settings_page_lists_exactly_the_keys_of_conf() -> None:
    """Each key of each option has a row with a description."""
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \|(.*) \|$", text("docs/reference/settings.md"), re.MULTILINE)
    assert {key for key, _ in rows} == configured()
    assert not [key for key, cells in rows if len(cells.rpartition(" | ")[2]) < 6]


def test_every_error_has_a_remedy() -> None:
    """Each error has a remedy, and is listed in the tree of errors.py."""
    classes = generate.error_classes()
    assert all("REMEDY" in vars(kind) for kind in classes.values())
    assert set(classes) == set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))


def test_every_rejection_reason_is_documented() -> None:
    """Each reason in the sources has a row, and each row a source."""
    sources = "".join(path.read_text("utf-8") for path in (CHECKOUT / "runner").rglob("*.py"))
    kinds = set(re.findall(r"(?:RecordError|rejection|Rejection)\(\s*(?:[\w.]+, [\w.]+, )?\"(\w+)\"", sources))
    assert len(kinds) >= 16
    assert kinds <= set(errors.REJECTIONS)
    assert not [reason for reason in errors.REJECTIONS if f'"{reason}"' not in sources]


def test_marked_commands_exist() -> None:
    """Targets of make and modules of benchmarks exist; other tools appear on the page for administrators only."""
    targets = set(re.findall(r"^(\w+):", text("Makefile"), re.MULTILINE))
    for command in documentation.commands():
        words = shlex.split(command.line.replace("…", ""), comments=True)
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) is not None
        else:
            assert command.page == "docs/operations.md"


def test_named_targets_and_extras_exist() -> None:
    """Targets of make and extras of pip within sentences and tables exist."""
    targets = set(re.findall(r"^(\w+):", text("Makefile"), re.MULTILINE))
    extras = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    for path in PAGES:
        page = path.read_text("utf-8")
        assert set(re.findall(r"`make (\w+)", page)) <= targets
        assert {name for names in re.findall(r"shapwatch\[([a-z,]+)\]", page) for name in names.split(",")} <= set(
            extras
        )


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_python_blocks_compile_and_import(path: Path) -> None:
    """Each Python example compiles, and what it imports from the package is there."""
    for block in blocks(path.read_text("utf-8"), "python"):
        compile(block, str(path), "exec")
        for module, names in re.findall(r"^from (runner[\w.]*) import (.+)$", block, re.MULTILINE):
            assert all(hasattr(importlib.import_module(module), each.strip()) for each in names.split(","))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_links_have_targets(path: Path) -> None:
    """Relative links name files that exist, and their fragments headings."""
    for target, fragment in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", path.read_text("utf-8")):
        linked = path.parent / target if target else path
        assert linked.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.MULTILINE)
            assert fragment in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", sorted(set(PAGES) - GENERATED), ids=lambda path: path.name)
def test_pages_have_at_most_300_lines(path: Path) -> None:
    """The README fits on a screen or two, other pages in 300 lines."""
    assert len(path.read_text("utf-8").splitlines()) <= 300
    assert path.name != "README.md" or path.stat().st_size <= 8_192


def test_readme_links_to_every_page() -> None:
    """The README links to each page of docs/."""
    linked = {(CHECKOUT / target).resolve() for target in re.findall(r"\]\(([^)#:]+)", text("README.md"))}
    assert {path for path in PAGES if path.is_relative_to(CHECKOUT / "docs")} <= linked


def test_contributing_names_existing_files() -> None:
    """The files in the architecture and the recipes exist; the new file `x` has an existing folder."""
    named = re.findall(r"`((?:runner|conf|tests|docs|benchmarks)/[\w/.]*)`", text("CONTRIBUTING.md"))
    assert len(named) > 30
    for name in named:
        path = CHECKOUT / name
        assert path.parent.is_dir() if re.fullmatch(r"(test_)?x", path.stem) else path.exists(), name


def test_security_page_names_existing_tests() -> None:
    """Each promise has at least one test, and each named test exists."""
    page = text("docs/security.md")
    for path, name in (named := re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)):
        assert f"def {name}(" in (CHECKOUT / path).read_text("utf-8"), f"{path}::{name}"
    promises = page.partition("## Promises")[2].partition("## No promises")[0]
    rows = [row for row in re.findall(r"^\| (.*) \|$", promises, re.MULTILINE) if row != "promise | tests"]
    assert len(rows) > 20
    assert all("::test_" in row for row in rows)
    assert len(named) >= len(rows)
