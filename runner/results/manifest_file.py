"""Writes and reads manifest.json, and finds earlier executions by their manifests."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from importlib import metadata
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson

import runner
from runner import subprocesses
from runner.domain.drift import Change, ChangeKind, DriftResult
from runner.domain.executions import AlertHistory, ExecutionState, HistoryPoint, Status, Window, utc
from runner.results.directory import DRIFT, MANIFEST, MAX_DOCUMENT_BYTES, SETTINGS, opened, unpublished
from runner.results.documents import damage_as_error, dump_json, load_drift, rename_keys, validated
from runner.results.manifest import TIME, Comparison, ExecutionTime, Explanation, Manifest

DEPENDENCIES = ("numpy", "polars", "hydra-core", "pydantic", "jmespath")
"""Packages whose versions are stored with each result."""
STAGES = ("baseline", "monitor")
"""Stages that write a manifest."""
HEAD_KEYS = ("stage", "status", "headline", "sentence", "monitor", "versions")
TIME_KEYS = ("endpoint", "window", "scheduled", "claim", "command")
KEYS = (
    *(*HEAD_KEYS, *TIME_KEYS),
    *("words", "changes", "level", "level_alone", "effects", "counts", "verdict", "material"),
    *("estimator", "evaluations", "efficiency_residual", "standard_errors", "background", "hashes"),
    *(
        "preflight",
        "calls",
        "serving_parity",
        "quality",
        "model_changed",
        "notes",
        "detectable",
        "searched",
        "history",
        "timings",
    ),
)
"""Keys of a manifest, in the order of the file."""
FAILURE_KEYS = (*HEAD_KEYS, *TIME_KEYS, "failure_reason", "died", "notes", "counts", "searched", "history", "timings")
"""Keys of the manifest of a failed execution, in the order of the file."""
SECTIONS = {"time", "explanation", "comparison"}
"""Fields of `Manifest` whose own fields are at the top level of the file."""
DATE_FOLDER = re.compile(r"\d{2,4}")
TIME_FOLDER = re.compile(r"\d\d(-\d\d(-\d\d)?)?")
AFTER_ALL = "~"
"""Name that sorts after every name of a date or time folder."""
MAX_HISTORY = 1_000
"""Maximum number of earlier executions to read for the alert history, so that its cost does not grow with time."""


@dataclass(frozen=True)
class Provenance:
    """The parts of a manifest that do not depend on the data.

    Attributes:
        settings: resolved settings as YAML.
        versions: versions of the libraries.
        clock: clock in seconds.
        confirmations: overrides that the command for a reproduction needs, in addition to the settings.
    """

    settings: str
    versions: Mapping[str, str]
    clock: Callable[[], float]
    confirmations: Sequence[str]

    def command(self, **stage: str) -> str:
        """Return the shell command that reproduces a result, given the settings of its stage."""
        return subprocesses.reproduction(self.confirmations, **stage)


@dataclass(frozen=True)
class Stopwatch:
    """Durations of the steps of an execution, in seconds."""

    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the duration of the block to the step."""
        start = self.clock()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + self.clock() - start, 4)


def versions() -> dict[str, str]:
    """Return the versions of shapwatch, Python and the dependencies."""
    packages = {name: metadata.version(name) for name in DEPENDENCIES}
    return {"shapwatch": runner.__version__, "python": platform.python_version(), **packages}


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the manifest.json."""
    return dump_json(as_document(manifest))


def as_document(manifest: Manifest) -> dict[str, object]:
    """Return the JSON object of a manifest; keys of absent sections are left out."""
    values: dict[str, object] = {name: value for name, value in vars(manifest).items() if value is not None}
    values["notes"] = list(manifest.notes)
    if manifest.counts is not None:
        values["counts"] = asdict(manifest.counts)
    for key in ("detectable", "searched", "history"):
        if key in values:
            values[key] = [asdict(each) for each in getattr(manifest, key)]
    if manifest.time is not None:
        values |= _time_values(manifest.time)
    if manifest.explanation is not None:
        values |= _explanation_values(manifest.explanation)
    if manifest.comparison is not None:
        values |= _comparison_values(manifest.comparison)
    keys = KEYS if manifest.failure_reason is None else FAILURE_KEYS
    return {key: values[key] for key in keys if key in values}


def _time_values(time: ExecutionTime) -> dict[str, object]:
    window = {"start": f"{time.window.start:{TIME}}", "end": f"{time.window.end:{TIME}}", "text": str(time.window)}
    return {"endpoint": time.endpoint, "window": window, "scheduled": f"{time.scheduled:{TIME}}"}


def _explanation_values(explanation: Explanation) -> dict[str, object]:
    errors = explanation.standard_errors
    return {
        **vars(explanation),
        "standard_errors": errors
        and {label: {"local": each.local, "global": each.by_feature} for label, each in errors.items()},
        "background": _without_none(asdict(explanation.background)),
        "preflight": asdict(explanation.preflight),
        "calls": explanation.calls and asdict(explanation.calls),
    }


def _without_none(values: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None}


def _comparison_values(comparison: Comparison) -> dict[str, object]:
    ranking, quality = comparison.verdict, comparison.quality
    labels = [
        {
            "label": drift.label,
            "reference_label": drift.reference_label,
            "ndcg": drift.ndcg,
            "floor": drift.floor,
            "chance": drift.chance,
            "violated": drift in ranking.violations,
            "judged": drift.judged,
            "notes": list(drift.notes),
        }
        for drift in ranking.drifts
    ]
    return {
        **vars(comparison),
        "words": comparison.words and asdict(comparison.words),
        "changes": [asdict(each) for each in comparison.changes],
        "effects": comparison.effects and asdict(comparison.effects),
        "verdict": {"threshold": ranking.threshold, "labels": labels},
        "serving_parity": comparison.serving_parity and asdict(comparison.serving_parity),
        "quality": {"problem": quality} if isinstance(quality, str) else quality and asdict(quality),
    }


def read_manifest(directory: Path) -> Manifest | None:
    """Return the manifest of a directory, or None if it contains no manifest of shapwatch.

    Raises:
        ValueError: if the manifest cannot be read, or is damaged.
    """
    path = directory / MANIFEST
    if path.exists() and not path.is_file():
        raise ValueError(f"{MANIFEST} is no regular file")
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise ValueError(f"{MANIFEST} is larger than {MAX_DOCUMENT_BYTES / 2**30:g} GiB")
        return load_manifest(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{MANIFEST} cannot be read ({error.strerror})") from error


def load_manifest(data: bytes) -> Manifest | None:
    """Return a manifest of this or an earlier version, or None for another JSON document.

    Raises:
        ValueError: if the manifest is damaged.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{MANIFEST} is not JSON ({error})") from error
    if not isinstance(document, dict) or document.get("stage") not in STAGES:
        return None
    with damage_as_error(MANIFEST):
        return validated(Manifest, _sections(document), SECTIONS)


def _sections(document: dict[str, Any]) -> dict[str, object]:
    """Return the values of a manifest's fields; the keys of all sections are at the top level of the document."""
    values: dict[str, object] = {"command": "", "counts": None, **document}
    if isinstance(counts := values["counts"], dict) and "events" in counts:
        values["counts"] = {"outside": 0, "probes": 0, "sample": None, **counts}
    if "window" in document:
        window = Window(utc(document["window"]["start"]), utc(document["window"]["end"]))
        values["time"] = {**document, "window": window, "scheduled": utc(document["scheduled"])}
    if "estimator" in document:
        errors = document.get("standard_errors")
        values["explanation"] = {
            **document,
            "calls": document.get("calls"),
            "standard_errors": errors
            and {label: {"local": each["local"], "by_feature": each["global"]} for label, each in errors.items()},
        }
    if "verdict" in document:
        values["comparison"] = _comparison_fields(document)
    return values


def _comparison_fields(document: dict[str, Any]) -> dict[str, object]:
    """Return the values of a comparison's fields, also from a manifest of an earlier version."""
    level, quality, effects = document.get("level"), document.get("quality"), document.get("effects")
    if effects is not None:
        rename_keys(effects)
    return {
        "level": level,
        "level_alone": document.get("level_alone", level),
        "effects": effects,
        "verdict": {"threshold": document["verdict"]["threshold"], "drifts": document["verdict"]["labels"]},
        "material": document.get("material"),
        "serving_parity": document.get("serving_parity"),
        "quality": quality["problem"] if quality and "problem" in quality else quality,
        "model_changed": document.get("model_changed"),
        "words": document.get("words"),
        "changes": document.get("changes", ()),
    }


def common_files(manifest: Manifest, reports: Mapping[str, bytes], provenance: Provenance) -> dict[str, bytes]:
    """Return the files that executions and baselining write in addition to their analysis."""
    return {**reports, SETTINGS: provenance.settings.encode(), MANIFEST: dump_manifest(manifest)}


def is_finished(target: Path) -> bool:
    """Return whether a directory contains an execution with a verdict, or an unreadable manifest."""
    try:
        manifest = read_manifest(target)
    except ValueError:
        return True
    return manifest is not None and manifest.status is not Status.FAILED and not manifest.is_empty


def stored_window(target: Path) -> Window | None:
    """Return the window of the execution in a directory, or None if it is unknown."""
    try:
        manifest = read_manifest(target)
    except ValueError:
        return None
    return manifest.time.window if manifest and manifest.time else None


def earlier_executions(target: Path) -> Iterator[Path]:
    """Yield the directories of a monitor's executions scheduled before the given one, newest first."""
    root = target.parents[3]
    yield from _before(root, target.relative_to(root).parts)


def _before(folder: Path, bound: tuple[str, ...]) -> Iterator[Path]:
    """Yield the execution directories before a bound (the parts of a path), newest first; names sort by time."""
    head, *rest = bound
    pattern = TIME_FOLDER if not rest else DATE_FOLDER
    with suppress(OSError):
        for name in sorted((each.name for each in folder.iterdir() if pattern.fullmatch(each.name)), reverse=True):
            if rest and name <= head:
                yield from _before(folder / name, tuple(rest) if name == head else (AFTER_ALL,) * len(rest))
            elif name < head:
                yield folder / name


def newest_executions(folder: Path, most: int) -> list[Path]:
    """Return up to `most` directories of a monitor's executions, the latest scheduled first."""
    return list(islice((each for each in _before(folder, (AFTER_ALL,) * 4) if (each / MANIFEST).exists()), most))


Published = tuple[ExecutionState, frozenset[str]]
"""State of an execution, and the names of the recipients that its message did not reach."""


def alert_history(target: Path, replaced: Published | None = None) -> AlertHistory:
    """Summarise the states of up to `MAX_HISTORY` executions scheduled before the given one.

    Args:
        target: directory of the execution.
        replaced: result of the same window that the execution has replaced; None without one.
    """
    earlier = islice(map(published, earlier_executions(target)), MAX_HISTORY)
    return AlertHistory.from_executions(each for each in chain([replaced], earlier) if each)


def published(directory: Path) -> Published | None:
    """Return the result of an execution as it was published; None if its manifest is missing or damaged."""
    manifest = _readable(directory)
    return (manifest.state, unpublished(directory)) if manifest else None


def earlier_points(target: Path, most: int) -> tuple[HistoryPoint, ...]:
    """Return the results of up to `most` executions scheduled before the given one, oldest first.

    Executions with a damaged manifest count towards `most` but yield no point.
    """
    manifests = [_readable(directory) for directory in islice(earlier_executions(target), most)]
    points = [manifest.history_point for manifest in manifests if manifest]
    return tuple(point for point in points[::-1] if point)


def with_since(target: Path, reference: str | None, changes: Sequence[Change]) -> tuple[Change, ...]:
    """Return the changes of an execution, each with its onset in the first window that had it without interruption.

    Earlier executions without a verdict, or with another reference, neither continue nor interrupt a change. The
    oldest of `MAX_HISTORY` executions states when its changes began.

    Args:
        target: directory of the execution.
        reference: SHA-256 of the reference's analysis.json.
        changes: significant changes of the execution.
    """
    since = {(each.kind, each.name): each.onset for each in changes}
    lasting, oldest = set(since), dict[tuple[ChangeKind, str], str]()
    for directory in islice(earlier_executions(target), MAX_HISTORY):
        if not lasting:
            break
        manifest = _readable(directory)
        if manifest is None or manifest.comparison is None or not manifest.state.has_verdict:
            continue
        if manifest.history_point is None or manifest.history_point.reference != reference:
            continue
        found = {(each.kind, each.name): each for each in manifest.comparison.changes}
        lasting &= set(found)
        since |= {key: found[key].onset for key in lasting}
        oldest = {key: found[key].since for key in lasting}
    else:
        since |= oldest
    return tuple(replace(each, since=since[each.kind, each.name]) for each in changes)


def earlier_results(target: Path, reference: str | None) -> Iterator[tuple[datetime, DriftResult]]:
    """Yield start and result of the windows with a verdict scheduled before the given execution, newest first.

    Executions with another reference, and those whose documents are damaged, are skipped.

    Args:
        target: directory of the execution.
        reference: SHA-256 of the reference's analysis.json.
    """
    for directory in islice(earlier_executions(target), MAX_HISTORY):
        manifest = _readable(directory)
        point = manifest.history_point if manifest and manifest.state.has_verdict else None
        if point is None or point.reference != reference:
            continue
        result = None
        with suppress(OSError, ValueError), opened(directory, [DRIFT]) as files:
            result = load_drift(files[DRIFT].read()).result if files else None
        if result is not None:
            yield utc(point.start), result


def _readable(directory: Path) -> Manifest | None:
    """Return the manifest of an execution, or None if it is missing or damaged."""
    try:
        return read_manifest(directory)
    except ValueError:
        return None
