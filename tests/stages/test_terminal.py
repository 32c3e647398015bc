"""The verdict of an execution at a terminal, in a log, and without UTF-8."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from runner.domain.drift import DriftResult, Headline, Level, Parity
from runner.report.health import Mark
from runner.results.directory import DRIFT
from runner.results.documents import load_drift
from runner.results.manifest import Manifest
from runner.results.manifest_file import read_manifest
from runner.stages.terminal import PLAIN, SYMBOLS, _lines, adapted, colored, marked, verdict_text
from tests.builders import WINDOW, changed, event, monitor, write
from tests.cli_runner import CHECKOUT, Shapwatch
from tests.drift.samples import POLICY
from tests.golden import Golden

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
TEXT = """◆ VIOLATION  mean area: about 100 times the reference
  values
m, 2026-01-05 09:00–10:00 UTC

What changed   ? in the data

FAMILY         LARGEST EFFECT  LEVEL
Inputs         mean area       ◆ violation
Model          same scores     ✓ ok

40 monitors  ◆ 2 violation  ○ 29 no drift
Report         /a/b/report.html"""


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


def loaded(result: str) -> tuple[Manifest, DriftResult]:
    """Return the manifest of a result, and the result of its tests."""
    manifest, drift = read_manifest(Path(result)), load_drift((Path(result) / DRIFT).read_bytes()).result
    assert manifest
    assert drift
    return manifest, drift


def message_of(result: str) -> str:
    """Return the message of the execution with this result."""
    manifest, _ = loaded(result)
    assert manifest.time
    notes = "".join(f"\n  note: {note}" for note in manifest.notes)
    return f"{manifest.status}, {manifest.time.window}: {manifest.headline}. {notes}\n  {result}/report.html"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_colors_change_no_character() -> None:
    """Without escape sequences, the colored text is the plain one; each sequence is reset."""
    found = colored(TEXT)
    assert ESCAPES.sub("", found) == TEXT
    assert found.count("\x1b[0m") * 2 == found.count("\x1b[")


def test_each_level_has_its_color() -> None:
    """Only the named colors, bold and dim are used: the theme of the terminal decides on the shades."""
    found = {mark: ESCAPES.match(colored(marked(mark)))[0] for mark in SYMBOLS}  # type: ignore[index]
    assert found[Mark.VIOLATION] == "\x1b[1;31m"
    assert len({*found.values()}) == 7  # too few records and no drift are dim
    assert colored("  ◆ 2 violation").endswith("\x1b[1;31m◆ 2 violation\x1b[0m")
    assert colored("a question? in doubt") == "a question? in doubt"


@pytest.mark.parametrize(
    ("variables", "is_terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colors_are_for_terminals(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_terminal: bool, expected: bool
) -> None:
    """NO_COLOR and FORCE_COLOR have precedence, in this order."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if is_terminal else io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    assert (adapted(TEXT, stream) != TEXT) is expected
    assert ESCAPES.sub("", adapted(TEXT, stream)) == TEXT


def test_streams_without_utf_8_receive_ascii() -> None:
    """Each symbol has its own substitute."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert adapted(TEXT, stream).isascii()
    assert len({symbol.translate(PLAIN) for symbol in SYMBOLS.values()}) == len(SYMBOLS)


@pytest.mark.parametrize(("row", "level"), [([90, 2, 1], Level.VIOLATION), ([6, 2, 1], Level.NONE)])
def test_the_verdict_comes_first_and_the_link_last(tmp_path: Path, row: list[int], level: Level) -> None:
    """Lines have at most 80 characters, except those with a path."""
    policy = replace(POLICY, false_alarms_per_year=1e5 if level is Level.VIOLATION else 1e-3, min_rows=2)
    stage = changed(monitor(tmp_path, []), policy=policy)
    write(tmp_path, "09/00-00-000-x.jsonl", event(*[row] * 8))
    execution = stage.run(WINDOW)
    text = verdict_text(execution.directory, execution.message)
    *lines, last = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert last.split() == ["Report", str(tmp_path / "monitor/e/m/2026/01/05/10/report.html")]
    heads = ["What", "It", "What", "FAMILY", *(["FEATURE"] if level is Level.VIOLATION else []), "Ranking", "Status"]
    assert [line.split()[0] for line in lines if re.match("What|It|FAMILY|FEATURE|Ranking|Status", line)] == heads
    assert lines[0].startswith("◆ VIOLATION  a: " if level is Level.VIOLATION else "○ NO DRIFT")
    assert lines[1].startswith(f"m, {WINDOW}")
    assert lines[-1].split()[1] == f"{execution.status},"
    assert verdict_text(str(tmp_path), execution.message) == ""
    failed = changed(stage, reference=tmp_path / "nowhere").run(WINDOW)
    assert verdict_text(failed.directory, failed.message) == ""


@pytest.mark.parametrize("mark", [Mark.VIOLATION, Mark.NONE, Mark.FEW])
def test_figures_have_their_range_of_chance(results: dict[Mark, str], mark: Mark, golden: Golden) -> None:
    """Families have the range of chance, changed features their share and p-value; the health checks follow."""
    text = verdict_text(results[mark], message_of(results[mark]))
    golden(text)
    rows = [re.split("  +", line) for line in text.splitlines()]
    families = rows[rows.index(["FAMILY", "LARGEST EFFECT", "CHANCE", "LEVEL"]) + 1 :]
    assert {len(row) for row in families[: families.index([""])]} == {4}
    assert (["FEATURE", "CHANGE", "SHARE, %", "P"] in rows) is (mark is Mark.VIOLATION)
    (health,) = (row for row in rows if row[0] == "Health")
    assert health[1:] == ["✓ 1 event, 1 file read", "✓ 8 records explained"]


def test_attributions_of_another_model_are_no_changes(results: dict[Mark, str]) -> None:
    """If another model serves, only changed inputs are listed, and the health line says so."""
    manifest, drift = loaded(results[Mark.VIOLATION])
    (label,) = drift.labels
    unchanged = replace(drift, inputs=tuple(replace(each, level=Level.NONE) for each in drift.inputs))
    assert label.p <= drift.significance
    assert manifest.comparison
    doubtful = replace(manifest.comparison, serving_parity=Parity(0.4, 8, 1e-6, 8))
    for comparison, is_listed in ((manifest.comparison, True), (doubtful, False)):
        headline = manifest.headline if is_listed else Headline.MODEL_MISMATCH
        changed = replace(manifest, comparison=comparison, headline=headline)
        text = "\n".join(_lines(changed, unchanged, []))
        assert ("FEATURE" in text) is is_listed
        assert ("? serving parity: scores differ" in text) is not is_listed


@pytest.mark.soak
def test_a_terminal_shows_colors_and_a_pipe_none(tmp_path: Path) -> None:
    """The characters are the same."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch()
    arguments = [f"paths.root={tmp_path}", "experiment=quickstart", "stage=monitor", "stage.window=2026-01-05T11"]
    command = [sys.executable, "-m", "runner", *arguments]
    piped = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=True).stdout
    parent, child = pty.openpty()
    process = subprocess.Popen(command, stdout=child, stderr=subprocess.DEVNULL, cwd=CHECKOUT)
    os.close(child)
    shown = b""
    with suppress(OSError):  # the end of the terminal
        while part := os.read(parent, 65536):
            shown += part
    assert process.wait() == 0
    text = shown.decode().replace("\r\n", "\n")
    assert text.startswith("\x1b[1;31m◆ VIOLATION")
    assert ESCAPES.sub("", text) == piped
