"""What can go wrong, each as data that builds one sentence: what, where, what was expected, what to do.

    ShapwatchError
    ├── SettingsError            the settings do not fit; all problems at once
    ├── MissingInput             a file or folder the settings name is not there
    ├── StorageError             an object store refuses, or a file in it or on the disk is broken
    ├── DatasetError             a line of a dataset cannot be used
    ├── OccupiedTarget           a folder to write holds something else
    ├── NoData                   a window holds no captured event
    ├── NothingUsable            a window holds events, but every record was rejected
    ├── TooManyRejected          a window holds more records that cannot be used than the settings allow
    ├── ArtefactError            a model file is corrupt, unsafe or of an unknown kind
    ├── ModelInputError          a model cannot take a feature's value
    ├── ModelAnswerError         a model answers, but not with what was asked for
    ├── EndpointError            an endpoint cannot be reached, refuses or fails
    ├── BackgroundError          the SHAP baseline does not fit the features
    ├── ExplainerError           the explainer cannot work with these settings
    ├── EngineError              the workers that blocks of work are given to cannot be reached, or die
    ├── UnusableReference        the reference cannot be read or is not comparable
    ├── FeatureMismatch          the reference has other features than the live data
    ├── SegmentError             records cannot be divided into the parts that are asked for
    ├── LedgerError              the ledger cannot be reached, read or written
    │   └── MissingSnapshot      it lacks settings that it refers to
    ├── UnknownSchedule          the ledger has no schedule of that name
    ├── ScheduleExists           the ledger has one already
    ├── ReportError              a template or chart is wrong, or a report cannot be made from what is in a folder
    ├── PublishError             an execution could not be told to a sink
    └── RecordError              one captured line or record cannot be used (becomes a `Rejection`)

They are caught in two places: `cli`, which prints the sentence and exits with 2, and the execution boundary
in `stages/monitor.py`, which stores it as the failure reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SNIPPET_CHARACTERS = 120
NO_DATA = "Job inputs had no data"
"""The failure reason that the SageMaker service stores for an empty window."""


def snippet(value: object) -> str:
    """Return the text of `value`, cut to a length that fits a message, control characters escaped.

    >>> snippet("x" * 200)[-5:]
    'xxxx…'
    """
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: SNIPPET_CHARACTERS + 1])
    return text if len(text) <= SNIPPET_CHARACTERS else text[: SNIPPET_CHARACTERS - 1] + "…"


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.items())


def disk_sentence(error: OSError) -> str:
    """Return what the disk refused as a sentence."""
    return (
        f"{error.filename or 'the disk'}: {error.strerror}; check that it exists, may be read or written and has space"
    )


class ShapwatchError(Exception):
    """Anything shapwatch can explain in a sentence; it can travel between processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, self.__dict__)

    @property
    def reason(self) -> str:
        """The failure reason that an execution stores: the sentence, unless a fixed text is the contract."""
        return str(self)


def _again(kind: type[ShapwatchError], args: tuple[Any, ...], data: dict[str, Any]) -> ShapwatchError:
    """Return an error that was raised in another process, without building its sentence anew."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(data)
    return error


class SettingsError(ShapwatchError):
    """The settings do not fit: every problem, each with its full key, the value got and what is allowed."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{count} in the settings:\n" + "\n".join(f"  {problem}" for problem in problems))


class MissingInput(ShapwatchError):
    """A file or folder that the settings name is not there."""

    def __init__(self, what: str, path: object, key: str, remedy: str) -> None:
        super().__init__(f"{what} was not found at {path} ({key}): {remedy}")


class StorageError(ShapwatchError):
    """An object store refuses or cannot be reached, or a compressed file is broken."""

    def __init__(self, location: str, problem: str) -> None:
        super().__init__(f"{location}: {problem}")


class DatasetError(ShapwatchError):
    """A line of a dataset cannot be used; datasets are meant to be right, so the first one stops the stage."""

    def __init__(self, problem: object, others: int = 0) -> None:
        more = f"; {others} more of its lines cannot be used" if others else ""
        super().__init__(f"{problem}{more}")


class OccupiedTarget(ShapwatchError):
    """A folder that is about to be written holds something that would be lost."""

    def __init__(self, path: object, holds: str) -> None:
        super().__init__(f"{path} holds {holds}, which writing there would replace: give another folder, or remove it")


class NoData(ShapwatchError):
    """A window holds no captured event at all."""

    def __init__(self, window: object, prefixes: Sequence[str], files: int, outside: int, probes: int) -> None:
        first, *others = prefixes
        looked = f"{first} to {others[-1]}" if others else first
        late = f", {outside} events outside the window" if outside else ""
        late += f", {probes} calls that explaining the endpoint made" if probes else ""
        super().__init__(
            f"{self.reason}: no captured event in {window}; looked in {looked}, files found: {files}{late}. "
            "Check monitor.endpoint, monitor.variant, paths.capture and stage.window, and that the endpoint had traffic"
        )

    @property
    def reason(self) -> str:
        """The text that the SageMaker service stores for it."""
        return NO_DATA


class NothingUsable(ShapwatchError):
    """A window holds events, but every record was rejected."""

    def __init__(self, window: object, reasons: Mapping[str, int], first: str) -> None:
        counts, rejected = _counted(reasons), sum(reasons.values())
        super().__init__(f"no usable record in {window}: all {rejected} were rejected ({counts}); the first: {first}")


class TooManyRejected(ShapwatchError):
    """More of a window's records were rejected than `data.max_rejected_share` allows."""

    def __init__(
        self, window: object, share: float, allowed: float, reasons: Mapping[str, int], examples: Sequence[object]
    ) -> None:
        first = "; ".join(map(str, examples[:3]))
        super().__init__(
            f"{share:.1%} of the records in {window} were rejected, more than data.max_rejected_share={allowed:g} "
            f"allows ({_counted(reasons)}): {first}. stage=capture saves every one, with its text"
        )


class ArtefactError(ShapwatchError):
    """A model file is corrupt, unsafe or of a kind that is not supported."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path}: {problem} (model.artifact)")


class ModelInputError(ShapwatchError):
    """A model cannot take the value of a feature."""

    def __init__(self, model: str, feature: str, value: Any, expected: str) -> None:
        super().__init__(f"feature {feature!r} holds {value!r}, but a {model} model takes {expected}")


class ModelAnswerError(ShapwatchError):
    """A model answers, but not with scores of the number, kind or range that was asked for."""


class EndpointError(ShapwatchError):
    """An endpoint cannot be reached, refuses, or fails however often it is asked.

    Attributes:
        status: of its last answer, None where there was none.
    """

    def __init__(self, url: str, status: int | None, problem: str, remedy: str) -> None:
        self.status = status
        answered = "" if status is None else f" answered {status}"
        super().__init__(f"{url}{answered}: {problem}; {remedy}")


class BackgroundError(ShapwatchError):
    """The SHAP baseline (the background rows) does not fit the features it shall replace."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"shap.baseline: {problem}")


class ExplainerError(ShapwatchError):
    """The explainer cannot work with these settings."""


NO_TREES = "shap.explainer=tree needs model=xgboost or lightgbm in this process; use shap.explainer=kernel"


class EngineError(ShapwatchError):
    """The workers that blocks of work are given to cannot be reached, or die.

    Attributes:
        setting: that led to them; `problem`: what happened.
    """

    def __init__(self, setting: str, problem: str) -> None:
        self.setting, self.problem = setting, problem
        super().__init__(f"{setting}: {problem}; look after the workers, or take engine=serial")


class UnusableReference(ShapwatchError):
    """The reference cannot be read, or is not comparable with the live analysis."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"reference {path}: {problem}")


class FeatureMismatch(ShapwatchError):
    """The reference and the live data have different features."""

    def __init__(self, missing: Sequence[str], extra: Sequence[str]) -> None:
        self.missing, self.extra = tuple(missing), tuple(extra)
        sides = [("only the reference has", missing), ("only the live data has", extra)]
        told = "; ".join(f"{side} {', '.join(map(repr, names))}" for side, names in sides if names)
        super().__init__(
            f"the features differ: {told}. Compare data.headers and shap.groups with the reference's analysis.json, "
            "or run stage=baseline again"
        )


class SegmentError(ShapwatchError):
    """Records cannot be divided into the parts that are asked for."""

    def __init__(self, by: str, problem: str) -> None:
        example = 'the name of a feature, or a SQL expression over features such as "Hours per week" > 40'
        super().__init__(f"drift.segment_by={snippet(by)}: {problem}; expected {example}")


class LedgerError(ShapwatchError):
    """The ledger cannot be reached, read or written; what was under way there did not happen."""

    def __init__(self, ledger: str, problem: str) -> None:
        super().__init__(f"the ledger {ledger}: {problem} (ledger.url)")


class MissingSnapshot(LedgerError):
    """The ledger lacks the settings that a schedule or an execution refers to."""

    def __init__(self, ledger: str, digest: str) -> None:
        super().__init__(ledger, f"the settings {digest} that it refers to are not in it; update the schedule")


class UnknownSchedule(ShapwatchError):
    """The ledger has no schedule of that name."""

    def __init__(self, name: str, ledger: str, others: Sequence[str]) -> None:
        known = f"it has {', '.join(others[:10])}{', …' if len(others) > 10 else ''}" if others else "it has none"
        super().__init__(
            f"ResourceNotFound: there is no schedule {name} in the ledger {ledger}, {known}; "
            "create it with stage.action=create, or give its monitor.name or another ledger.url"
        )


class ScheduleExists(ShapwatchError):
    """The ledger has a schedule of that name already."""

    def __init__(self, name: str, ledger: str) -> None:
        super().__init__(
            f"ResourceInUse: the ledger {ledger} already has a schedule {name}; "
            "change it with stage.action=update, or give another monitor.name"
        )


class ReportError(ShapwatchError):
    """A template or chart is wrong, or a report cannot be made from what is in a folder."""

    def __init__(self, where: object, problem: str) -> None:
        super().__init__(f"{where}: {problem}")


class PublishError(ShapwatchError):
    """An execution could not be told to a sink; what it found stands all the same.

    Attributes:
        passing: whether another try may succeed.
        rest: the sink that is left to be told, None for all of the one that failed.
    """

    def __init__(self, sink: str, problem: str, passing: bool = True, rest: Any = None) -> None:
        self.passing, self.rest = passing, rest
        super().__init__(f"{sink}: {problem}")


class RecordError(ShapwatchError):
    """One captured line or record cannot be used; `kind` is the reason it is counted under."""

    def __init__(self, kind: str, problem: str) -> None:
        self.kind = kind
        super().__init__(problem)
