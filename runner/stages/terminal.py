"""The result of an execution, and marks of levels, for people at a terminal.

The text is the same in a terminal and in a log. Colors are added to complete text, whose control characters are
escaped, so that a name from the data never contains an escape sequence.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from runner.domain.drift import DriftResult, FeatureDrift
from runner.drift.verdict import cause_without_evidence, since, worst_label
from runner.report import context, health
from runner.report.families import families
from runner.report.health import Check, Mark, State
from runner.results import directory, manifest_file
from runner.results.directory import DRIFT, MANIFEST, REPORT
from runner.results.documents import load_drift
from runner.results.manifest import Manifest

COLUMNS = 80
"""Width of the text."""
INDENT = 15
"""Width of the column of names."""
NAMES = ("What changed", "It matters", "What to do")
"""Names of the sentences of a verdict."""
FAMILIES, FEATURES = (13, 36, 8, 0), (20, 33, 13, 0)
"""Widths of the columns of the tables of families and of features."""
HEALTH = {
    "Captured": "{}",
    "Explained": "{} explained",
    "Rejected": "{} rejected",
    "Serving parity": "serving parity: {}",
    "Model calls": "{} to the model",
}
"""Words of the health checks that are always shown; others are shown if they did not pass."""
STATES = {State.GOOD: Mark.OK, State.WARNING: Mark.WARNING, State.BAD: Mark.DOUBT}
"""Marks of the states of health checks."""
MOST_FEATURES = 5
"""Maximum number of changed features in the table."""
SYMBOLS = {
    Mark.VIOLATION: "◆",
    Mark.WARNING: "▲",
    Mark.DOUBT: "?",
    Mark.FAILED: "✗",
    Mark.FEW: "◌",
    Mark.INFO: "●",
    Mark.NONE: "○",
    Mark.OK: "✓",
}
"""Symbol of each mark, the most urgent first."""
COLORS = {"◆": "1;31", "▲": "33", "?": "35", "✗": "1", "◌": "2", "●": "34", "○": "2", "✓": "32"}
"""SGR parameters of the symbols; the theme of the terminal decides on the shades."""
BOLD, DIM = "1", "2"
"""SGR parameters of titles, and of names and heads."""
PLAIN = str.maketrans(
    {"◆": "[V]", "▲": "[W]", "✗": "[x]", "◌": "[-]", "●": "[I]", "○": "[ ]", "✓": "[ok]"}
    | {"–": "-", "→": "->", "≤": "<=", "≥": ">=", "…": "...", "−": "-", "±": "+-"}
)
"""Substitutes for characters in terminals without UTF-8."""
_SYMBOL = f"[{re.escape(''.join(COLORS))}]"
_WORDS = "|".join(re.escape(mark.words) for mark in sorted(SYMBOLS, key=lambda mark: -len(mark.words)))
PARTS = re.compile(
    rf"\A(?P<level>(?P<top>{_SYMBOL}) [A-Z ]+)(?P<title>(?:  .*)?(?:\n {{2,}}\S.*)*)(?P<where>\n.*)"
    rf"|(?P<gap>^|  )(?P<mark>(?P<symbol>{_SYMBOL})(?: (?:\d+ )?(?i:{_WORDS})\b)?)"
    rf"|(?P<heads>^[A-Z]+(?: [A-Z,()%]+)*(?:  +[A-Z][A-Z ,()%]*)+$)"
    rf"|(?P<name>^(?:{'|'.join(NAMES)}|Health|Note|Ranking|Status|Report)(?=  ))",
    re.MULTILINE,
)
"""Parts of the text that have a color: level, title, and monitor and window; marks; heads of tables; names."""


def marked(mark: Mark) -> str:
    """Return the words of a level after its symbol.

    >>> marked(Mark.DOUBT), marked(Mark.NONE)
    ('? in doubt', '○ no drift')
    """
    return f"{SYMBOLS[mark]} {mark.words.lower()}"


def verdict_text(result: str, message: str) -> str:
    """Return the verdict, what to do, the figures and the links of an execution.

    The result is empty without a verdict, and if the directory contains the result of another execution.

    Args:
        result: directory of the result.
        message: message of the execution; its lines after the first are notes, and the path of the report.
    """
    try:
        with directory.opened(Path(result), [MANIFEST, DRIFT]) as files:
            contents = {name: file.read() for name, file in files.items()}
        manifest = manifest_file.load_manifest(contents[MANIFEST])
        drift = load_drift(contents[DRIFT]).result
    except (OSError, KeyError, ValueError):
        return ""
    if manifest is None or manifest.time is None or manifest.comparison is None:
        return ""
    if not message.startswith(f"{manifest.status}, {manifest.time.window}: {manifest.headline}. "):
        return ""
    return "\n".join(_lines(manifest, drift, message.split("\n  ")[1:]))


def _lines(manifest: Manifest, drift: DriftResult | None, notes: Sequence[str]) -> Iterator[str]:
    mark, words, answers = context.summary(manifest, drift)
    window = manifest.time.window if manifest.time else ""
    title = " ".join(words.title.split()).removeprefix(mark.words).removeprefix(": ")
    title = f"  {title}" if title else ""
    yield from textwrap.wrap(f"{SYMBOLS[mark]} {mark.words.upper()}{title}", COLUMNS, subsequent_indent="  ")
    lasting = f"; since {since(drift)}" if drift and drift.changes else ""
    yield f"{manifest.monitor}, {window}{lasting}"
    yield ""
    for name, (_, answer) in zip(NAMES, answers, strict=False):
        yield from _named(name, answer)
    parity = manifest.comparison.serving_parity if manifest.comparison else None
    if rows := [(each.name, each.effect, each.expected or "–", marked(each.mark)) for each in families(drift, parity)]:
        yield ""
        yield from _table(("FAMILY", "LARGEST EFFECT", "CHANCE", "LEVEL"), rows, FAMILIES)
    if drift and (features := list(_features(drift, mark is not Mark.DOUBT))):
        yield ""
        yield from _table(("FEATURE", "CHANGE", "SHARE, %", "P"), features, FEATURES)
    yield ""
    yield from _health(health.checks(manifest, drift))
    for note in (each.removeprefix("note: ") for each in notes if not each.endswith(REPORT)):
        if note.lower() not in words.changed.lower():
            yield from [f"{'Note':{INDENT}}{note}"] if "/" in note else _named("Note", note)
    yield from _ranking(manifest)
    yield f"{'Status':{INDENT}}{manifest.status}, {window}: {manifest.headline}"
    yield from (f"{'Report':{INDENT}}{note}" for note in notes if note.endswith(REPORT))


def _named(name: str, text: str) -> list[str]:
    """Return wrapped lines after their name."""
    wrapped = textwrap.wrap(text, COLUMNS - INDENT, break_long_words=False, break_on_hyphens=False)
    return [f"{name if not i else '':{INDENT}}{line}" for i, line in enumerate(wrapped)]


def _features(drift: DriftResult, attributions_judged: bool) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of the changed inputs; without any, those of the features whose attributions changed."""
    label = worst_label(drift) if drift.labels else None
    attributions = {each.name: each for each in label.features} if label else {}
    inputs, kind = drift.changed_inputs, "values"
    rows = [(Mark.of(each.level), each.name, each.cause or "its values changed", each.p) for each in inputs]
    if not inputs and label and attributions_judged:
        own = sorted((each for each in label.features if each.p <= drift.significance), key=lambda each: each.p)
        unknown, kind = "its attributions changed", "attributions"
        rows = [(Mark.of(label.level), each.name, each.cause or unknown, each.p) for each in own]
    if not rows:
        return
    for mark, name, cause, p in rows[:MOST_FEATURES]:
        shares = _shares(attributions.get(name))
        yield f"{SYMBOLS[mark]} {' '.join(name.split())}", cause_without_evidence(cause), shares, _p(p)
    if len(rows) > MOST_FEATURES:
        yield f"  {len(rows) - MOST_FEATURES:,} more", "", "", ""
    if others := len(drift.inputs) - len(rows):
        yield f"  {others:,} others", f"{kind}: no significant change", "", ""


def _shares(feature: FeatureDrift | None) -> str:
    return "" if feature is None else f"{100 * feature.share_before:4.1f} → {100 * feature.share_now:4.1f}"


def _p(p: float) -> str:
    """Return a p-value with one digit.

    >>> _p(0.0), _p(2.1e-88), _p(0.004)
    ('< 1e-300', '2e-88', '0.004')
    """
    return "< 1e-300" if p < 1e-300 else f"{p:.1g}"


def _health(checks: Iterable[Check]) -> Iterator[str]:
    """Yield the health checks in lines, each after the mark of its state."""
    lines = [""]
    for each in checks:
        if each.name not in HEALTH and each.state is State.GOOD:
            continue
        words = HEALTH.get(each.name, f"{each.name}: {{}}").format(each.value)
        item = f"{SYMBOLS[STATES[each.state]]} {words}"
        if each.state is State.WARNING and each.note and each.name in HEALTH:
            item += f" ({each.note})"
        if lines[-1] and len(lines[-1]) + 2 + len(item) > COLUMNS - INDENT:
            lines.append("")
        lines[-1] += f"  {item}" if lines[-1] else item
    for line in lines:
        yield from _named("Health" if line is lines[0] else "", line)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    """Yield a table in lines; cells that are longer than their column are shortened, except those of the last one."""
    for row in (heads, *rows):
        cells = [
            f"{cell if not width or len(cell) <= width else f'{cell[: width - 1]}…':{width or 1}}"
            for cell, width in zip(row, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _ranking(manifest: Manifest) -> Iterator[str]:
    """Yield the result of the nDCG rule."""
    comparison = manifest.comparison
    if comparison and comparison.lowest_ndcg is not None:
        figures = f"nDCG {comparison.lowest_ndcg:.4f}, alert below {comparison.verdict.threshold:g}"
        yield f"{'Ranking':{INDENT}}{figures}"


def adapted(text: str, stream: TextIO) -> str:
    """Return the text for a stream: with colors on a terminal, and without special characters if it has no UTF-8.

    `NO_COLOR` turns colors off, `FORCE_COLOR` on; see https://no-color.org and https://force-color.org.
    """
    encoding = (stream.encoding or "utf-8").lower().replace("-", "")
    if os.environ.get("NO_COLOR"):
        colors = False
    else:
        terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        colors = bool(os.environ.get("FORCE_COLOR")) or terminal
    adapted = colored(text) if colors else text
    return adapted if encoding.startswith("utf") else adapted.translate(PLAIN)


def colored(text: str) -> str:
    r"""Return the text with escape sequences for the colors of its parts.

    >>> colored("▲ warning  3 ◆ no level")
    '\x1b[33m▲ warning\x1b[0m  3 ◆ no level'
    """
    return PARTS.sub(_colored, text)


def _colored(part: re.Match[str]) -> str:
    if part["top"]:
        level = _sgr(COLORS[part["top"]], part["level"])
        return f"{level}{_sgr(BOLD, part['title'])}{_sgr(DIM, part['where'])}"
    if part["symbol"]:
        return f"{part['gap']}{_sgr(COLORS[part['symbol']], part['mark'])}"
    return _sgr(DIM, part[0])


def _sgr(parameters: str, text: str) -> str:
    return f"\x1b[{parameters}m{text}\x1b[0m"
