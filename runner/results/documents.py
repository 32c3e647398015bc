"""The documents of results.

analysis.json, constraint_violations.json and the CSV files of local attributions have SageMaker's formats; drift.json
contains the drift statistics.

Array letters: N records, D features, L labels.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import IO, Any, TypeVar

import numpy as np
import orjson
import polars as pl
from pydantic import TypeAdapter, ValidationError

from runner.domain.attributions import Attributions, GlobalAttributions
from runner.domain.drift import DriftResult, LabelRanking, RankingResult, RecordSample, ScorePairs
from runner.domain.executions import HistoryPoint
from runner.domain.records import Captured
from runner.errors import UnusableReference
from runner.results.directory import BASELINE_ROWS, EXPLAINED, LOCAL_ATTRIBUTIONS

DRIFT_VERSION = 4
FORMER_KEYS = {
    "alone": "level_alone",
    "smallest": "minimum_detectable_change",
    "share_moved": "attribution_shift",
    "share_moved_noise": "attribution_shift_noise",
    "mass": "total_log2_change",
    "mass_noise": "total_log2_change_noise",
}
"""Current keys of drift.json by their keys in version 1, except the key of the canary (see `_of_this_version`)."""
SCALARS = re.compile(rb"\[\n(?:\s+[^\s\[\]{}][^\n]*\n)+\s+\]")
"""Array of numbers and strings in indented JSON."""
T = TypeVar("T")
LARGEST = 1e100
"""Limit of the magnitude of attributions, so that their sums stay finite."""
VALUES = 2**18
"""Number of values that are formatted as CSV at a time."""
FORMULA = r"^[\s\x00-\x1f\ufeff]*[=+\-@＝＋－＠]"
"""Start of a cell that a spreadsheet evaluates as a formula; some skip white space, and accept the wide forms."""
ORIGIN = ("file", "line", "row", "event_id", "inference_id", "at")
"""Columns that identify the origin of a record: its event, and its row in the payload, counted from 0."""


def dump_analysis(attributions: GlobalAttributions) -> bytes:
    """Return the analysis.json of global attributions; features keep their order."""
    return dump_json({"version": "1.0", "explanations": {"kernel_shap": _explanations(attributions)}})


def _explanations(attributions: GlobalAttributions) -> dict[str, object]:
    return {
        label: {
            "global_shap_values": dict(zip(attributions.names, attributions.values_DL[:, i].tolist(), strict=True)),
            "expected_value": float(attributions.expected_L[i]),
        }
        for i, label in enumerate(attributions.labels)
    }


def load_analysis(data: bytes, source: str) -> GlobalAttributions:
    """Return the global attributions of an analysis.json, written by shapwatch or by SageMaker Clarify.

    Args:
        data: the bytes of the file.
        source: the path that errors name.

    Raises:
        UnusableReference: if the document has another structure.
    """
    try:
        return _attributions(orjson.loads(data)["explanations"]["kernel_shap"])
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        problem = f"expected an analysis.json with explanations.kernel_shap ({type(error).__name__}: {error})"
        raise UnusableReference(source, problem) from error


def _attributions(explanations: Any) -> GlobalAttributions:
    labels = tuple(explanations)
    names = tuple(explanations[labels[0]]["global_shap_values"])
    columns = [[_finite(explanations[label]["global_shap_values"][name]) for name in names] for label in labels]
    expected = [_finite(explanations[label]["expected_value"]) for label in labels]
    if not names or any(len(explanations[label]["global_shap_values"]) != len(names) for label in labels):
        raise ValueError("the labels have different features, or no features")
    return GlobalAttributions(names, labels, np.array(columns).T, np.array(expected))


def dump_violations(
    rankings: Sequence[LabelRanking], threshold: float, calibrated: Mapping[str, str] | None = None
) -> bytes:
    """Return the constraint_violations.json of a verdict, with the wording of SageMaker.

    Args:
        rankings: labels that violate the ranking rule; notes on special cases follow the description.
        threshold: threshold of the ranking rule.
        calibrated: label and description of a violation that the calibrated tests found; None without one.
    """
    violations: list[dict[str, str]] = [
        {
            "label": drift.label,
            "metric_name": "shap",
            "constraint_check_type": "feature_attribution_drift_check",
            "description": "; ".join(
                [f"Feature attribution drift {drift.ndcg} exceeds threshold {threshold}", *drift.notes]
            ),
        }
        for drift in rankings
    ]
    if calibrated:
        kind = {"metric_name": "drift", "constraint_check_type": "calibrated_drift_check"}
        violations.append({**kind, **calibrated})
    return dump_json({"version": "1.0", "violations": violations})


@dataclass(frozen=True)
class DriftDocument:
    """Content of a drift.json: all drift statistics and the reference values.

    Attributes:
        ranking: result of the nDCG rule; its notes are in the manifest.
        result: result of the statistical tests; None if the reference has no stored records.
        reference: global attributions of the reference.
        history: results of earlier executions, oldest first.
        sample: records for the charts; None without tests, and in documents before version 4.
        scores: captured and recomputed scores; None unless some of them differ, and in earlier documents.
    """

    ranking: RankingResult
    result: DriftResult | None
    reference: GlobalAttributions
    history: tuple[HistoryPoint, ...] = ()
    sample: RecordSample | None = None
    scores: ScorePairs | None = None


def dump_drift(document: DriftDocument) -> bytes:
    """Return the drift.json; undefined statistics are null, and an array of numbers or strings is one line."""
    data = dump_json(
        {
            "version": DRIFT_VERSION,
            "threshold": document.ranking.threshold,
            "ndcg": [asdict(drift) for drift in document.ranking.drifts],
            "finding": None if document.result is None else asdict(document.result),
            "reference": _explanations(document.reference),
            "history": [asdict(point) for point in document.history],
            "sample": None if document.sample is None else asdict(document.sample),
            **({"scores": asdict(document.scores)} if document.scores else {}),
        }
    )
    return SCALARS.sub(lambda array: b" ".join(map(bytes.strip, array[0].splitlines())), data)


def load_drift(data: bytes) -> DriftDocument:
    """Return a drift.json of this or an earlier version.

    Raises:
        ValueError: if the document is damaged.
    """
    with damage_as_error("drift.json"):
        document = _of_this_version(json.loads(data))
        ranking, result = {"threshold": document["threshold"], "drifts": document["ndcg"]}, document["finding"]
        if result is not None:
            result = {"level_alone": result["level"], **result}
        return DriftDocument(
            ranking=validated(RankingResult, ranking),
            result=None if result is None else validated(DriftResult, result),
            reference=_attributions(document["reference"]),
            history=tuple(validated(HistoryPoint, point) for point in document.get("history", ())),
            sample=None if document.get("sample") is None else validated(RecordSample, document["sample"]),
            scores=None if document.get("scores") is None else validated(ScorePairs, document["scores"]),
        )


def _of_this_version(document: Any) -> Any:
    """Return the object of a drift.json with the keys of this version."""
    if document.get("version") == 1:
        result = document.get("finding") or {}
        labels = [*result.get("labels", ()), *(each for part in result.get("segments", ()) for each in part["labels"])]
        for holder in [result, *labels, *document.get("history", ())]:
            rename_keys(holder)
        if canary := result.get("canary"):
            canary["attribution_shift"] = canary.pop("moved", None)
    return document


def rename_keys(holder: dict[str, Any]) -> None:
    """Rename the keys of version 1 in an object to the keys of this version."""
    for former, key in FORMER_KEYS.items():
        if former in holder:
            holder[key] = holder.pop(former)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise ValueError(f"{value!r} is not a finite number below {LARGEST:g}")
    return float(value)


@contextmanager
def damage_as_error(name: str) -> Iterator[None]:
    """Convert errors in the block to a ValueError that names the damaged file, and the key if it is known."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name} is damaged: {error}") from error
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{name} is damaged ({type(error).__name__}: {error})") from error


def validated(kind: Callable[..., T], values: object, sections: Collection[str] = ()) -> T:
    """Return an instance of a dataclass with the validated values of its fields.

    Args:
        kind: dataclass.
        values: values by name, nested ones as objects.
        sections: fields that are left out of the key in an error, because their values are at the top level of the
            file.

    Raises:
        ValueError: if a value is missing or invalid.
    """
    try:
        result: T = _validator(kind).validate_python(values)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"] if part not in sections)
        raise ValueError(f"{key or 'the document'} is missing or invalid") from error
    return result


@cache
def _validator(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def dump_json(document: Mapping[str, object]) -> bytes:
    """Return a document as strict JSON, indented by four spaces, in UTF-8."""
    return (json.dumps(document, indent=4, ensure_ascii=False, allow_nan=False) + "\n").encode()


def sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def saved(
    attributions: Attributions, background: pl.DataFrame, captured: Captured | None = None
) -> Iterator[dict[str, IO[bytes]]]:
    """Write local attributions to temporary files; yield the open files by their names in the result directory.

    The files are removed after the block.

    Args:
        attributions: one row per record, columns `{feature}_{label}`, all features of the first label first.
        background: the rows that replaced masked features.
        captured: the records, in the same order; None if they come from a dataset.
    """
    same_names = set(attributions.names) == set(background.columns)
    rows = background.select(attributions.names) if same_names else background
    tables = {LOCAL_ATTRIBUTIONS: _local(attributions), BASELINE_ROWS: _lines(rows.columns, [rows])}
    if captured:
        origin = captured.table.select(ORIGIN).collect()
        tables[EXPLAINED] = _lines(ORIGIN, origin.iter_slices(VALUES // len(ORIGIN)))
    with ExitStack() as stack:
        yield {name: stack.enter_context(_stored(lines)) for name, lines in tables.items()}


def _local(attributions: Attributions) -> Iterator[bytes]:
    N, D, L = attributions.phi_NDL.shape
    names = [f"{name}_{label}" for label in attributions.labels for name in attributions.names]
    step = max(1, VALUES // (D * L))
    parts = (
        attributions.phi_NDL[start : start + step].swapaxes(1, 2).reshape(-1, L * D) for start in range(0, N, step)
    )
    return _lines(names, map(pl.DataFrame, parts))


def text_cell(cell: str) -> str:
    """Return a cell of a CSV file; an apostrophe precedes a string that a spreadsheet would evaluate as a formula.

    >>> text_cell("=1+1"), text_cell("1+1")
    ("'=1+1", '1+1')
    """
    return f"'{cell}" if re.match(FORMULA, cell) else cell


def _lines(header: Iterable[str], parts: Iterable[pl.DataFrame]) -> Iterator[bytes]:
    """Yield the lines of a CSV file; duplicate names are allowed, and reading the file restores the same floats."""
    first = io.StringIO()
    csv.writer(first, lineterminator="\n").writerow(map(text_cell, header))
    yield first.getvalue().encode()
    cells = pl.col(pl.String).str.replace(f"({FORMULA})", "'${1}")
    for part in parts:
        text = part.with_columns(cells).write_csv(
            include_header=False, quote_style="non_numeric", datetime_format="%Y-%m-%dT%H:%M:%S%.fZ"
        )
        yield text.encode()


@contextmanager
def _stored(lines: Iterable[bytes]) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile(prefix="shapwatch-") as file:
        file.writelines(lines)
        file.seek(0)
        yield file
