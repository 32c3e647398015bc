"""The table of a sweep: one row per member, as a CSV file and as a page with a chart.

Each member writes its result into its own folder, since members may run in several processes. The table is built from
these results.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from runner import resource
from runner.domain.executions import ExitCode, Status
from runner.domain.numbers import plural
from runner.drift.ranking import ndcg
from runner.explain.explainers import EXPLAINERS
from runner.results.directory import ANALYSIS, put
from runner.results.documents import load_analysis, text_cell
from runner.results.manifest import Manifest
from runner.results.manifest_file import read_manifest

RESULT = "result.json"
CSV, PAGE = "sweep.csv", "sweep.html"
BUDGET = {"shap", "shap.explainer", "shap.num_samples", "shap.seed", "shap.compat", "shap.max_batch_rows", "engine"}
"""Settings that change the cost or the noise of attributions, not their meaning."""


@dataclass(frozen=True)
class Member:
    """One run of a sweep: its folder, and its overrides."""

    directory: Path
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class MemberResult:
    """Content of a member's result.json.

    Attributes:
        overrides: overrides of the member, each `key=value`.
        code: exit code.
        message: printed message.
        seconds: duration.
        results: folder of its documents, None if there are none.
    """

    overrides: tuple[str, ...]
    code: int
    message: str
    seconds: float
    results: str | None

    @property
    def succeeded(self) -> bool:
        """Whether the run succeeded, also with a verdict that reaches `stage.fail_on`."""
        return self.code in {ExitCode.COMPLETED, ExitCode.ALERT}


@dataclass(frozen=True)
class MemberRow:
    """A member in the table of its sweep.

    Attributes:
        member: number of the member, from 0.
        settings: values by key, as in the overrides.
        status: status of the execution; Completed or Failed for other stages.
        seconds: duration.
        code: exit code.
        message: first line of the printed message.
        rows: number of rows sent to the model, None if unknown.
        calls: number of calls to a remote model, None for a model in this process.
        ndcg: nDCG of the worst label, against the reference or else against the best member; None if undefined.
        exact: whether its attributions have no sampling error.
        values: global attributions by label and feature; empty without an analysis.
        error: root mean square difference between the global attributions of this and the best member; None if not
            comparable.
        best: whether this is the best member, with which the others are compared.
    """

    member: int
    settings: Mapping[str, str]
    status: Status
    seconds: float
    code: int
    message: str
    rows: int | None
    calls: int | None
    ndcg: float | None
    exact: bool
    values: Mapping[tuple[str, str], float]
    error: float | None = None
    best: bool = False

    @property
    def meaning(self) -> tuple[str, ...]:
        """The settings that change the meaning of attributions; members with equal ones are compared."""
        return tuple(f"{key}={value}" for key, value in self.settings.items() if key not in BUDGET)


def record(member: Member, code: int, message: str, seconds: float, results: str | None) -> None:
    """Write the result of a member into its folder; the arguments are the fields of `MemberResult`."""
    put(
        member.directory / RESULT,
        json.dumps(vars(MemberResult(member.overrides, code, message, seconds, results))).encode(),
    )


def conclude(folder: Path) -> tuple[str, int]:
    """Write the table of a sweep from the results of its members in a folder.

    Returns:
        A message with the paths of the table, and the worst exit code of a member.

    Raises:
        ReportError: if the template or the chart is invalid.
    """
    rows = compare(list(members(folder)))
    put(folder / CSV, as_csv(rows).encode())
    put(folder / PAGE, as_page(rows).encode())
    message = f"results of {plural(len(rows), 'member')}:\n  {folder / PAGE}\n  {folder / CSV}"
    return message, ExitCode.worst(row.code for row in rows)


def members(folder: Path) -> Iterator[MemberRow]:
    """Yield a row for each member, by ascending number."""
    for path in sorted(folder.glob(f"*/{RESULT}"), key=lambda path: int(path.parent.name)):
        result = MemberResult(**json.loads(path.read_bytes()))
        manifest, values = None, {}
        if result.succeeded and result.results:
            manifest, values = read_manifest(Path(result.results)), _values(Path(result.results) / ANALYSIS)
        yield _row(int(path.parent.name), result, manifest, values)


def _row(
    number: int, result: MemberResult, manifest: Manifest | None, values: Mapping[tuple[str, str], float]
) -> MemberRow:
    explanation, comparison = (manifest.explanation, manifest.comparison) if manifest else (None, None)
    status = Status.COMPLETED if result.succeeded else Status.FAILED
    return MemberRow(
        member=number,
        settings=dict(override.lstrip("+").partition("=")[::2] for override in result.overrides),
        status=manifest.status if manifest else status,
        seconds=result.seconds,
        code=result.code,
        message=result.message.partition("\n")[0],
        rows=explanation.evaluations if explanation else None,
        calls=explanation.calls.requests if explanation and explanation.calls else None,
        ndcg=comparison.lowest_ndcg if comparison else None,
        exact=bool(explanation and EXPLAINERS[str(explanation.estimator["explainer"])].is_exact),
        values=values,
    )


def _values(path: Path) -> dict[tuple[str, str], float]:
    """Return the global attributions of an analysis.json by label and feature; empty without the file."""
    if not path.is_file():
        return {}
    analysis = load_analysis(path.read_bytes(), str(path))
    return {
        (label, name): float(analysis.values_DL[d, i])
        for i, label in enumerate(analysis.labels)
        for d, name in enumerate(analysis.names)
    }


def compare(rows: Sequence[MemberRow]) -> list[MemberRow]:
    """Return the rows with their errors against the best comparable member.

    Members are comparable if they differ only in the settings of `BUDGET`. The best one is exact; if none is, it is the
    one that sent the most rows to the model.
    """
    compared = []
    for row in rows:
        comparable = [other for other in rows if other.values and other.meaning == row.meaning]
        best = max(comparable, key=lambda other: (other.exact, other.rows or 0), default=None)
        compared.append(_compare(row, best) if best and best.values.keys() == row.values.keys() else row)
    return compared


def _compare(row: MemberRow, best: MemberRow) -> MemberRow:
    differences = [row.values[key] - best.values[key] for key in best.values]
    error = (sum(difference * difference for difference in differences) / len(differences)) ** 0.5
    lowest = _lowest_ndcg(best.values, row.values) if row.ndcg is None else row.ndcg
    return replace(row, error=error, ndcg=lowest, best=row.member == best.member)


def _lowest_ndcg(best: Mapping[tuple[str, str], float], values: Mapping[tuple[str, str], float]) -> float:
    """Return the nDCG of the feature ranking against that of the best member; the lowest value of all labels."""
    ndcgs = []
    for label in dict.fromkeys(label for label, _ in best):
        keys = [key for key in best if key[0] == label]
        pair = (np.abs([side[key] for key in keys]) for side in (best, values))
        ndcgs.append(float(ndcg(*pair)))
    return min(ndcgs)


def as_csv(rows: Sequence[MemberRow]) -> str:
    """Return the table as CSV; an apostrophe precedes strings that a spreadsheet would evaluate as formulas."""
    keys = list(dict.fromkeys(key for row in rows for key in row.settings))
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["member", *map(_safe, keys), "status", "error", "ndcg", "seconds", "rows", "calls", "message"])
    for row in rows:
        settings = [row.settings.get(key, "") for key in keys]
        cells = (row.status, row.error, row.ndcg, row.seconds, row.rows, row.calls, row.message)
        writer.writerow([row.member, *map(_safe, settings), *map(_safe, cells)])
    return file.getvalue()


def as_page(rows: Sequence[MemberRow]) -> str:
    """Return the table as a page, with a chart if errors are known.

    Raises:
        ReportError: if the template or the chart is invalid.
    """
    from markupsafe import Markup

    from runner.report.colors import themed
    from runner.report.reference_charts import SweepPoint, error_and_cost
    from runner.report.svg import NARROW, WIDE
    from runner.report.templates import Templates

    templates = Templates((resource("reports_templates"),))
    keys = _varying(rows)
    common = {key: value for row in rows for key, value in row.settings.items() if key not in keys}
    points = [
        SweepPoint(
            name=_caption(row, [key.removeprefix("shap.") for key in keys if key in BUDGET]),
            kind=_caption(row, [key for key in keys if key not in BUDGET]) or "all members",
            rows=row.rows,
            error=row.error,
        )
        for row in rows
        if row.error and row.rows
    ]
    widths = (WIDE, NARROW) if points else ()
    drawn = [Markup(themed(error_and_cost(points, width))) for width in widths]  # noqa: S704  Canvas escapes names
    return templates.render("sweep.html.j2", {"rows": rows, "keys": keys, "same": common, "charts": drawn})


def _varying(rows: Sequence[MemberRow]) -> list[str]:
    """Return the keys whose values differ between members."""
    keys = list(dict.fromkeys(key for row in rows for key in row.settings))
    return [key for key in keys if len({row.settings.get(key) for row in rows}) > 1]


def _caption(row: MemberRow, keys: Sequence[str]) -> str:
    """Return the values of some settings, such as `num_samples=50`."""
    return ", ".join(f"{key}={row.settings.get(key, row.settings.get(f'shap.{key}'))}" for key in keys)


def _safe(cell: str | float | None) -> str | float:
    if isinstance(cell, str):
        return text_cell(cell)
    return "" if cell is None else cell
