"""What can go wrong, each as data that builds one sentence: what, where, what was expected, what to do.

    ShapwatchError
    ├── SettingsError            the settings do not fit; all problems at once
    ├── MissingInput             a file or folder the settings name is not there
    ├── StorageError             an object store refuses, or a file in it or on the disk is broken
    ├── DatasetError             a line of a dataset cannot be used
    ├── OccupiedTarget           a folder to write contains something else
    ├── NoData                   a window contains no captured event
    ├── NoValidRecords           a window contains events, but every record was rejected
    ├── TooManyRejected          more records of a window were rejected than the settings allow
    ├── ArtifactError            a model file is corrupt, unsafe or of an unknown kind
    ├── ModelInputError          a model cannot take a feature's value
    ├── ModelAnswerError         a model answers with invalid scores
    ├── EndpointError            an endpoint cannot be reached, refuses or fails
    ├── BackgroundError          the SHAP baseline does not fit the features
    ├── ExplainerError           the explainer cannot work with these settings
    ├── EngineError              workers cannot be reached, or die
    ├── UnusableReference        the reference cannot be read or is not comparable
    ├── FeatureMismatch          the reference has other features than the live data
    ├── SegmentError             records cannot be divided into segments
    ├── LedgerError              the ledger cannot be reached, read or written
    │   └── MissingSnapshot      it lacks a settings snapshot
    ├── UnknownSchedule          the ledger has no schedule of that name
    ├── ScheduleExists           the ledger has one already
    ├── ReportError              a template or chart is invalid, or a folder lacks the documents of a report
    ├── PublishError             an execution could not be published to a sink
    └── RecordError              one captured line or record cannot be used (becomes a `Rejection`)

They are caught in two places: `cli`, which prints the sentence and exits with 2, and the execution boundary
in `stages/monitor.py`, which stores it as the failure reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """Return the message of an operating-system error."""
    return (
        f"{error.filename or 'the disk'}: {error.strerror}; check that it exists, may be read or written and has space"
    )


class ShapwatchError(Exception):
    """Anything shapwatch can explain in a sentence: the fields of a subclass are the facts, `str` is the sentence."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)

    @property
    def reason(self) -> str:
        """The failure reason that an execution stores: the sentence, unless a fixed text is the contract."""
        return str(self)


def _rebuild(kind: type[ShapwatchError], args: tuple[Any, ...], fields: dict[str, Any]) -> ShapwatchError:
    """Return an error that another process raised."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


@dataclass(eq=False)
class SettingsError(ShapwatchError):
    """The settings do not fit: every problem, each with its full key, the value got and what is allowed."""

    problems: Sequence[str]

    def __str__(self) -> str:
        count = "a problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return f"{count} in the settings:\n" + "\n".join(f"  {problem}" for problem in self.problems)


@dataclass(eq=False)
class MissingInput(ShapwatchError):
    """A file or folder that the settings name is not there."""

    what: str
    path: object
    key: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} was not found at {self.path} ({self.key}): {self.remedy}"


@dataclass(eq=False)
class StorageError(ShapwatchError):
    """An object store refuses or cannot be reached, or a compressed file is broken."""

    location: str
    problem: str

    def __str__(self) -> str:
        return f"{self.location}: {self.problem}"


@dataclass(eq=False)
class DatasetError(ShapwatchError):
    """A line of a dataset cannot be used; datasets are meant to be right, so the first one stops the stage.

    Attributes:
        problem: the first line that cannot be used, and why.
        others: number of further lines that cannot be used.
    """

    problem: object
    others: int = 0

    def __str__(self) -> str:
        more = f"; {self.others} more of its lines cannot be used" if self.others else ""
        return f"{self.problem}{more}"


@dataclass(eq=False)
class OccupiedTarget(ShapwatchError):
    """A folder that is about to be written holds something that would be lost."""

    path: object
    holds: str

    def __str__(self) -> str:
        return f"{self.path} holds {self.holds}, which writing there would replace: give another folder, or remove it"


@dataclass(eq=False)
class NoData(ShapwatchError):
    """A window holds no captured event at all.

    Attributes:
        prefixes: searched folders, in order.
        files: number of files found; `outside`: events outside the window; `probes`: calls made by shapwatch itself.
    """

    window: object
    prefixes: Sequence[str]
    files: int
    outside: int
    probes: int

    def __str__(self) -> str:
        first, *others = self.prefixes
        looked = f"{first} to {others[-1]}" if others else first
        late = f", {self.outside} events outside the window" if self.outside else ""
        late += f", {self.probes} calls that explaining the endpoint made" if self.probes else ""
        return (
            f"{self.reason}: no captured event in {self.window}; looked in {looked}, files found: {self.files}{late}. "
            "Check monitor.endpoint, monitor.variant, paths.capture and stage.window, and that the endpoint had traffic"
        )

    @property
    def reason(self) -> str:
        """The text that the SageMaker service stores for it."""
        return NO_DATA


@dataclass(eq=False)
class NoValidRecords(ShapwatchError):
    """A window holds events, but every record was rejected.

    Attributes:
        reasons: number of rejected records by reason; `first`: the first rejection.
    """

    window: object
    reasons: Mapping[str, int]
    first: str

    def __str__(self) -> str:
        counts, rejected = _counted(self.reasons), sum(self.reasons.values())
        return f"no usable record in {self.window}: all {rejected} were rejected ({counts}); the first: {self.first}"


@dataclass(eq=False)
class TooManyRejected(ShapwatchError):
    """More of a window's records were rejected than `data.max_rejected_share` allows.

    Attributes:
        share: of the records that were rejected; `allowed`: the limit.
        reasons: number of rejected records by reason; `examples`: some rejections.
    """

    window: object
    share: float
    allowed: float
    reasons: Mapping[str, int]
    examples: Sequence[object]

    def __str__(self) -> str:
        first = "; ".join(map(str, self.examples[:3]))
        return (
            f"{self.share:.1%} of the records in {self.window} were rejected, more than "
            f"data.max_rejected_share={self.allowed:g} allows ({_counted(self.reasons)}): {first}. "
            "stage=capture saves every one, with its text"
        )


@dataclass(eq=False)
class ArtifactError(ShapwatchError):
    """A model file is corrupt, unsafe or of a kind that is not supported."""

    path: object
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem} (model.artifact)"


@dataclass(eq=False)
class ModelInputError(ShapwatchError):
    """A model cannot take the value of a feature."""

    model: str
    feature: str
    value: Any
    expected: str

    def __str__(self) -> str:
        article = "an" if self.model[0] in "aeioux" else "a"  # an onnx model, an xgboost model
        expected = f"{article} {self.model} model expects {self.expected}"
        return f"feature {self.feature!r} contains {self.value!r}, but {expected}"


@dataclass(eq=False)
class ModelAnswerError(ShapwatchError):
    """A model answers with scores of another number, type or range than expected."""

    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(eq=False)
class EndpointError(ShapwatchError):
    """An endpoint cannot be reached, refuses, or fails however often it is asked.

    Attributes:
        status: of its last answer, None where there was none.
    """

    url: str
    status: int | None
    problem: str
    remedy: str

    def __str__(self) -> str:
        answered = "" if self.status is None else f" answered {self.status}"
        return f"{self.url}{answered}: {self.problem}; {self.remedy}"


@dataclass(eq=False)
class BackgroundError(ShapwatchError):
    """The SHAP baseline (the background rows) does not fit the features it shall replace."""

    problem: str

    def __str__(self) -> str:
        return f"shap.baseline: {self.problem}"


@dataclass(eq=False)
class ExplainerError(ShapwatchError):
    """The explainer cannot work with these settings."""

    problem: str

    def __str__(self) -> str:
        return self.problem


NO_TREES = "shap.explainer=tree needs model=xgboost or lightgbm in this process; use shap.explainer=kernel"


@dataclass(eq=False)
class EngineError(ShapwatchError):
    """Workers cannot be reached, or die.

    Attributes:
        setting: setting that selects the workers.
        problem: cause of the failure.
    """

    setting: str
    problem: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.problem}; look after the workers, or take engine=serial"


@dataclass(eq=False)
class UnusableReference(ShapwatchError):
    """The reference cannot be read, or is not comparable with the live analysis."""

    path: object
    problem: str

    def __str__(self) -> str:
        return f"reference {self.path}: {self.problem}"


@dataclass(eq=False)
class FeatureMismatch(ShapwatchError):
    """The reference and the live data have different features.

    Attributes:
        missing: features of the reference alone; `extra`: features of the live data alone.
    """

    missing: Sequence[str]
    extra: Sequence[str]

    def __str__(self) -> str:
        sides = [("only the reference has", self.missing), ("only the live data has", self.extra)]
        told = "; ".join(f"{side} {', '.join(map(repr, names))}" for side, names in sides if names)
        return (
            f"the features differ: {told}. Compare data.headers and shap.groups with the reference's analysis.json, "
            "or run stage=baseline again"
        )


@dataclass(eq=False)
class SegmentError(ShapwatchError):
    """Records cannot be divided into the requested segments."""

    by: str
    problem: str

    def __str__(self) -> str:
        example = 'the name of a feature, or a SQL expression over features such as "Hours per week" > 40'
        return f"drift.segment_by={snippet(self.by)}: {self.problem}; expected {example}"


@dataclass(eq=False)
class LedgerError(ShapwatchError):
    """The ledger cannot be reached, read or written; the operation had no effect."""

    ledger: str
    problem: str

    def __str__(self) -> str:
        return f"the ledger {self.ledger}: {self.problem} (ledger.url)"


class MissingSnapshot(LedgerError):
    """The ledger lacks the settings that a schedule or an execution refers to."""

    def __init__(self, ledger: str, digest: str) -> None:
        super().__init__(ledger, f"the settings {digest} that it refers to are not in it; update the schedule")
        self.digest = digest


@dataclass(eq=False)
class UnknownSchedule(ShapwatchError):
    """The ledger has no schedule of that name.

    Attributes:
        others: the names of the schedules it has.
    """

    name: str
    ledger: str
    others: Sequence[str]

    def __str__(self) -> str:
        some = f"{', '.join(self.others[:10])}{', …' if len(self.others) > 10 else ''}"
        known = f"it has {some}" if self.others else "it has none"
        return (
            f"ResourceNotFound: there is no schedule {self.name} in the ledger {self.ledger}, {known}; "
            "create it with stage.action=create, or give its monitor.name or another ledger.url"
        )


@dataclass(eq=False)
class ScheduleExists(ShapwatchError):
    """The ledger has a schedule of that name already."""

    name: str
    ledger: str

    def __str__(self) -> str:
        return (
            f"ResourceInUse: the ledger {self.ledger} already has a schedule {self.name}; "
            "change it with stage.action=update, or give another monitor.name"
        )


@dataclass(eq=False)
class ReportError(ShapwatchError):
    """A template or chart is invalid, or a folder lacks the documents of a report."""

    where: object
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


@dataclass(eq=False)
class PublishError(ShapwatchError):
    """An execution could not be published to a sink; its verdict is unaffected.

    Attributes:
        passing: whether a retry may succeed.
        rest: sink for the remaining part; None to retry the whole sink.
    """

    sink: str
    problem: str
    passing: bool = True
    rest: Any = None

    def __str__(self) -> str:
        return f"{self.sink}: {self.problem}"


@dataclass(eq=False)
class RecordError(ShapwatchError):
    """One captured line or record cannot be used; `kind` is the reason it is counted under."""

    kind: str
    problem: str

    def __str__(self) -> str:
        return self.problem
