"""Checks of the repository as a whole."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from benchmarks import house
from tests import demo_files
from tests.cli_runner import CHECKOUT, Shapwatch
from tests.conftest import DEMO
from tests.golden import FOLDER, load

GROWING = {"files in runner/", "modules with one importer"}
"""Counts of benchmarks/house.py that each new kind of model, sink or stage increases; a review compares them."""


def text_files() -> Iterator[tuple[str, str]]:
    """Yield name and content of every text file of the project."""
    skipped = {".git", ".venv", ".venv-sagemaker", "output", "__pycache__", "node_modules"}
    for path in sorted(CHECKOUT.rglob("*")):
        parts = path.relative_to(CHECKOUT).parts
        if path.is_file() and not any(
            part in skipped or part.endswith("_cache") or part == ".hypothesis" for part in parts
        ):
            try:
                yield "/".join(parts), path.read_text("utf-8")
            except UnicodeDecodeError:
                continue


def test_no_file_names_a_machine_or_a_package_registry() -> None:
    """No file contains a path of one machine, or the address of a package registry."""
    forbidden = re.compile(r"(?<![\w.}])/(?:home|work|root|Users)/\w|" + r"py" + r"pi\.org|" + r"python" + r"hosted")
    found = {name: match[0] for name, text in text_files() if (match := forbidden.search(text))}
    assert not found


def test_constraints_are_sorted_pins_of_all_dependencies() -> None:
    """constraints.txt has sorted lines name==version for each dependency; so has the file for the SDK."""
    lines, sdk = ((CHECKOUT / name).read_text().splitlines() for name in ("constraints.txt", "tests/sagemaker_sdk.txt"))
    assert (lines, sdk) == (sorted(lines), sorted(sdk))
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in [*lines, *sdk])
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    pinned = {line.partition("==")[0] for line in lines}
    assert {re.split(r"[<>=\[]", name)[0].lower() for name in wanted} <= {*pinned, project["name"]}


def test_versions_agree() -> None:
    """pyproject.toml and the package have the same version."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert f'__version__ = "{project["version"]}"' in (CHECKOUT / "runner/__init__.py").read_text()


def test_demo_script_reproduces_the_demo_files(tmp_path: Path) -> None:
    """The script writes the same rows byte for byte, and the same model up to rounding."""
    demo_files.build(tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {path.name for path in DEMO.iterdir()} - {"README.md"}
    for name in written - {"model.tar.gz"}:
        assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes()
    from runner.models.linear_learner import LinearLearner

    rows = pl.read_ndjson(DEMO / "traffic.jsonl")["features"].list.to_struct(fields=[f"f{d}" for d in range(10)])
    old, new = (
        LinearLearner(kind="linear_learner", artifact=folder / "model.tar.gz", label_headers=None, deploy=None).predict(
            rows.struct.unnest()
        )
        for folder in (DEMO, tmp_path)
    )
    assert abs(old - new).max() < 1e-3


def test_paths_root_contains_all_output(tmp_path: Path) -> None:
    """A run with another paths.root writes nothing into the current folder."""
    before = set(CHECKOUT.iterdir())
    Shapwatch(tmp_path)("stage=baseline")
    assert set(CHECKOUT.iterdir()) == before


def test_counts_of_the_code_are_within_their_limits() -> None:
    """Wording, duplication and size are within the limits of benchmarks/house.py."""
    exceeded = [figure for figure in house.figures() if figure.count > figure.limit and figure.name not in GROWING]
    assert not [(figure.name, figure.count, figure.limit, figure.places) for figure in exceeded]


def test_golden_files_contain_present_tests_only() -> None:
    """Each message belongs to a test function of its area."""
    for path in FOLDER.glob("*.txt"):
        folder = CHECKOUT / "tests" if path.stem == "runner" else CHECKOUT / "tests" / path.stem.replace("-", "/")
        sources = {test.name: test.read_text("utf-8") for test in folder.glob("test_*.py")}
        names = {tuple(re.split(r"::|\[| #", name)[:2]) for name in load(path.stem)}
        assert not [
            (path.name, module, test) for module, test in names if f"def {test}(" not in sources.get(module, "")
        ]
