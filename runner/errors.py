"""Errors: each class contains the data of one failure, and its `str` is the message for a person.

    ShapwatchError
    ├── SettingsError            settings are invalid; all problems at once
    │   └── OutdatedSettings     the stored settings of a schedule are invalid in this version
    ├── MissingInput             a file or folder named by the settings does not exist
    ├── StorageError             an object store or a compressed file cannot be read or written
    ├── DatasetError             a dataset contains an invalid line
    ├── OccupiedTarget           a folder to write contains other files
    ├── NoData                   a window contains no captured event
    ├── NoValidRecords           a window contains events, but every record was rejected
    ├── TooManyRejected          too many records of a window were rejected
    ├── ArtifactError            a model file is corrupt, unsafe or of an unsupported kind
    ├── ModelInputError          a model does not accept the value of a feature
    ├── ModelAnswerError         a model returned invalid scores
    ├── EndpointError            an endpoint is unreachable, rejects requests or fails
    │   └── RequestRejected      an endpoint rejects the records of a request
    ├── BackgroundError          the SHAP baseline does not match the features
    ├── ExplainerError           the explainer does not support these settings
    ├── EngineError              workers are unreachable or died
    ├── UnusableReference        the reference is unreadable or not comparable
    ├── FeatureMismatch          reference and live data have different features
    ├── SegmentError             records cannot be divided into segments or units
    ├── LedgerError              the ledger is unreachable, unreadable or read-only
    │   └── MissingSnapshot      the ledger lacks a settings snapshot
    ├── ClaimLost                another process has taken over an execution
    ├── UnknownSchedule          the ledger has no schedule of this name
    ├── ScheduleExists           the ledger already has a schedule of this name
    ├── ClaimLost                another process has taken over an execution
    ├── ReportError              a report template or chart is invalid, or its documents are missing
    ├── PublishError             an execution could not be published to a sink
    └── RecordError              a captured line or record is invalid; it becomes a `Rejection`

docs/reference/errors.md is generated from these classes. The docstring is the meaning, and `REMEDY` the remedy.
Errors are caught in two places: `cli` prints the message and exits with 2; `Monitor.run` in `monitors/__init__.py`
stores it as the failure reason of the execution.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from runner.domain.numbers import plural
from runner.urls import redact_urls

SNIPPET_CHARACTERS = 120
ITEMS_SHOWN = 10
"""Maximum number of items of a list in a message."""
ITEM_CHARACTERS = 300
"""Maximum number of characters of an item."""
PROBLEM_CHARACTERS = 3_000
"""Maximum number of characters of a line about a problem."""
PROBLEMS_SHOWN = 50
"""Maximum number of problems of the settings in a message."""
NO_DATA = "Job inputs had no data"
"""Failure reason that the SageMaker service stores for an empty window."""


def snippet(value: object, most: int = SNIPPET_CHARACTERS) -> str:
    """Return `value` as a string that is short enough for a message, with escaped control characters.

    >>> snippet("x" * 200)[-5:]
    'xxxx…'
    """
    text = value[: 4 * most + 4].decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"


def printable(text: str) -> str:
    r"""Return a string for a terminal, with escaped control characters except line ends and tabs; JSON stays JSON.

    >>> print(printable("\x1b[2J\n\x9b1m"))
    \u001b[2J
    \u009b1m
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: rf"\u{ord(found[0]):04x}", text)


def listed(items: Iterable[object], most: int = ITEMS_SHOWN) -> str:
    """Return up to `most` items as a list, and the number of the others.

    >>> listed("abc"), listed(range(200_000))
    ('a, b, c', '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 199,990 more')
    """
    items = list(items)
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(snippet(item, ITEM_CHARACTERS) for item in items[:most]) + more


def first_to_last(items: Sequence[str]) -> str:
    """Return the first and the last of at least one item.

    >>> first_to_last(["05", "06", "07"]), first_to_last(["05"])
    ('05 to 07', '05')
    """
    return " to ".join(dict.fromkeys([items[0], items[-1]]))


def _counts(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.items())


def summary(error: BaseException) -> str:
    """Return the type and the first line of an exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {snippet(lines[0])}" if lines else type(error).__name__


def import_problem(extra: str, error: BaseException) -> str:
    """Return the problem of a library that cannot be imported, with the extra that installs it."""
    return f"needs a library that cannot be imported ({summary(error)}); run pip install 'shapwatch[{extra}]'"


def os_error_message(error: OSError) -> str:
    """Return the message for an error of the operating system."""
    problem = f"{error.filename or 'the disk'}: {error.strerror or error}"
    return f"{problem}; check the path, its permissions and the free disk space"


def error_message(error: Exception) -> str:
    """Return the message for an error; errors of the operating system get a remedy."""
    return os_error_message(error) if isinstance(error, OSError) else str(error)


class ShapwatchError(Exception):
    """Base class of all errors with a message for a person.

    Attributes:
        REMEDY: instruction to the reader of the documentation.
    """

    REMEDY: ClassVar[str]

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)

    @property
    def reason(self) -> str:
        """Failure reason stored by an execution: the message, unless SageMaker prescribes another one."""
        return str(self)


def _rebuild(kind: type[ShapwatchError], args: tuple[Any, ...], fields: dict[str, object]) -> ShapwatchError:
    """Return a copy of an error that another process raised."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


@dataclass(eq=False)
class SettingsError(ShapwatchError):
    """Settings are invalid. The message lists every problem with its key, the value and the allowed values.

    Values are shown without the credentials and queries of URLs, and shortened.
    """

    REMEDY = "Correct each key or value named in the message."
    problems: Sequence[str]

    def __str__(self) -> str:
        count = "a problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = (line for problem in self.problems[:PROBLEMS_SHOWN] for line in f"  {problem}".split("\n"))
        shown = [snippet(redact_urls(line), PROBLEM_CHARACTERS) for line in lines]
        more = [f"  and {len(self.problems) - PROBLEMS_SHOWN:,} more"] if len(self.problems) > PROBLEMS_SHOWN else []
        return "\n".join([f"{count} in the settings:", *shown, *more])


class OutdatedSettings(SettingsError):
    """The stored settings of a schedule are invalid in this version of shapwatch."""

    REMEDY = "Store new settings with stage=schedule stage.action=update."

    def __str__(self) -> str:
        remedy = "run stage=schedule stage.action=update with the settings of this monitor"
        return f"this version does not support the settings stored with the schedule; {remedy}. {super().__str__()}"


@dataclass(eq=False)
class MissingInput(ShapwatchError):
    """A file or folder named by the settings does not exist.

    Attributes:
        subject: noun for the file or folder, such as "the model".
        path: path or URL.
        key: settings key that contains the path.
        remedy: instruction to the reader.
    """

    REMEDY = "Correct the path in the key named in the message. For a reference, run stage=baseline first."
    subject: str
    path: object
    key: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject} was not found at {self.path} ({self.key}): {self.remedy}"


@dataclass(eq=False)
class StorageError(ShapwatchError):
    """An object store is unreachable or denies access, or a compressed file is corrupt."""

    REMEDY = (
        "Follow the message: check credentials, region and endpoint in the environment, or replace the corrupt file."
    )
    location: str
    problem: str

    def __str__(self) -> str:
        return f"{self.location}: {self.problem}"


@dataclass(eq=False)
class DatasetError(ShapwatchError):
    """A dataset contains an invalid line. The stage stops, because a dataset must be complete.

    Attributes:
        problem: first invalid line, with the reason.
        further: number of further invalid lines.
    """

    REMEDY = "Correct the line, or data.headers (without the label), or data.features."
    problem: object
    further: int = 0

    def __str__(self) -> str:
        verb = "is" if self.further == 1 else "are"
        return f"{self.problem}" + (f"; {plural(self.further, 'more line')} {verb} invalid" if self.further else "")


@dataclass(eq=False)
class OccupiedTarget(ShapwatchError):
    """A folder to write contains other files, which would be lost."""

    REMEDY = "Choose another paths.baseline, paths.root or window, or remove the files named in the message."
    path: object
    problem: str

    def __str__(self) -> str:
        return f"{self.path} {self.problem}, which would be lost; move it away, or choose another folder"


@dataclass(eq=False)
class NoData(ShapwatchError):
    """A window contains no captured event.

    Attributes:
        window: analyzed period.
        prefixes: searched folders, in order.
        files: number of files found.
        outside: number of events outside the window.
        probes: number of captured calls that shapwatch made itself.
    """

    REMEDY = (
        "Check monitor.endpoint, monitor.variant, paths.capture and stage.window, and that the endpoint had traffic. "
        "If windows of a monitor may be empty, set schedule.on_empty=skip."
    )
    window: object
    prefixes: Sequence[str]
    files: int
    outside: int
    probes: int

    def __str__(self) -> str:
        return f"{self.reason}: {self.summary} {self.REMEDY}"

    @property
    def summary(self) -> str:
        """Two sentences on the searched folders and on what they contain."""
        found = plural(self.files, "file")
        found += f", {plural(self.outside, 'event')} outside the window" if self.outside else ""
        found += f", {plural(self.probes, 'call')} made by shapwatch itself" if self.probes else ""
        return f"no captured event in {self.window}. Found in {first_to_last(self.prefixes)}: {found}."

    @property
    def reason(self) -> str:
        """Failure reason that the SageMaker service stores."""
        return NO_DATA


@dataclass(eq=False)
class NoValidRecords(ShapwatchError):
    """A window contains events, but every record was rejected.

    Attributes:
        window: analyzed period.
        reasons: number of rejected records by reason.
        example: first rejection.
    """

    REMEDY = "Read the first rejection in the message. Run stage=capture for an example of each reason."
    window: object
    reasons: Mapping[str, int]
    example: str

    def __str__(self) -> str:
        rejected = plural(sum(self.reasons.values()), "rejected record")
        return (
            f"no valid record in {self.window}: {rejected} ({_counts(self.reasons)}). First rejection: {self.example}"
        )


@dataclass(eq=False)
class TooManyRejected(ShapwatchError):
    """The share of rejected records in a window exceeds `data.max_rejected_share`.

    Attributes:
        window: analyzed period.
        share: rejected share of the records.
        allowed: upper limit of the share.
        reasons: number of rejected records by reason.
        examples: some of the rejections.
    """

    REMEDY = (
        "Read rejected.jsonl in the execution directory, or run stage=capture. Correct the source or the settings, "
        "or increase data.max_rejected_share."
    )
    window: object
    share: float
    allowed: float
    reasons: Mapping[str, int]
    examples: Sequence[object]

    def __str__(self) -> str:
        return (
            f"{self.share:.1%} of the records in {self.window} were rejected, more than "
            f"data.max_rejected_share={self.allowed:g} ({_counts(self.reasons)}). "
            f"Examples: {'; '.join(map(str, self.examples[:3]))}. Run stage=capture to store all rejected records"
        )


@dataclass(eq=False)
class ArtifactError(ShapwatchError):
    """A model file is corrupt, unsafe or of an unsupported kind."""

    REMEDY = "Provide an intact model file of the kind selected by model=…"
    path: object
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem} (model.artifact)"


@dataclass(eq=False)
class ModelInputError(ShapwatchError):
    """A model does not accept the value of a feature."""

    REMEDY = "Encode the feature as in the training data of the model."
    model: str
    feature: str
    value: Any
    expected: str

    def __str__(self) -> str:
        article = "an" if self.model[0] in "aeioux" else "a"  # an onnx model, an xgboost model
        expected = f"{article} {self.model} model expects {self.expected}"
        value = "null" if self.value is None else repr(self.value)
        return f"feature {self.feature!r} contains {value}, but {expected}"


@dataclass(eq=False)
class ModelAnswerError(ShapwatchError):
    """A model returned scores of an unexpected number, type or range."""

    REMEDY = (
        "Name each output in model.label_headers, or correct the model. "
        "For model=python, read the exception in the message."
    )
    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(eq=False)
class EndpointError(ShapwatchError):
    """An endpoint is unreachable, rejects a request, or still fails after all retries.

    Attributes:
        url: address of the endpoint.
        status: status code of the last response, None without a response.
        problem: cause of the failure.
        remedy: instruction to the reader.
    """

    REMEDY = "Check the health of the endpoint, whose response the message quotes, or increase model.attempts."
    url: str
    status: int | None
    problem: str
    remedy: str

    def __str__(self) -> str:
        answered = "" if self.status is None else f" answered {self.status}"
        return f"{self.url}{answered}: {self.problem}; {self.remedy}"


@dataclass(eq=False)
class RequestRejected(EndpointError):
    """An endpoint rejects a request because of its records.

    Attributes:
        record: index of a rejected record among all records to predict, None if it is unknown.
    """

    REMEDY = "Compare the record with the format that the endpoint expects, and check model.content_template."
    record: int | None = None


@dataclass(eq=False)
class BackgroundError(ShapwatchError):
    """The SHAP baseline (the background rows) does not match the features."""

    REMEDY = "Give rows with one value per feature, each of the type of that feature."
    problem: str

    def __str__(self) -> str:
        return f"shap.baseline: {self.problem}"


@dataclass(eq=False)
class ExplainerError(ShapwatchError):
    """The explainer does not support these settings."""

    REMEDY = "Increase shap.num_samples, or choose the explainer named in the message."
    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(eq=False)
class EngineError(ShapwatchError):
    """Workers are unreachable or died.

    Attributes:
        setting: setting that selects the workers.
        problem: cause of the failure.
    """

    REMEDY = "Check the workers, or use engine=serial."
    setting: str
    problem: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.problem}; check the workers, or use engine=serial"


@dataclass(eq=False)
class UnusableReference(ShapwatchError):
    """The reference is unreadable, or is not comparable with the live analysis."""

    REMEDY = "Run stage=baseline again with the current settings, or restore the previous settings."
    path: object
    problem: str

    def __str__(self) -> str:
        return f"reference {self.path}: {self.problem}"


@dataclass(eq=False)
class FeatureMismatch(ShapwatchError):
    """The reference and the live data have different features.

    Attributes:
        missing: features that only the reference has.
        extra: features that only the live data has.
    """

    REMEDY = "Compare data.headers and shap.groups with the reference's analysis.json, or run stage=baseline again."
    missing: Sequence[str]
    extra: Sequence[str]

    def __str__(self) -> str:
        sides = [("only the reference has", self.missing), ("only the live data has", self.extra)]
        differences = "; ".join(f"{side} {listed(map(repr, names))}" for side, names in sides if names)
        return f"the features differ: {differences}. {self.REMEDY}"


@dataclass(eq=False)
class SegmentError(ShapwatchError):
    """Records cannot be divided into the requested segments or units.

    Attributes:
        by: the expression.
        problem: cause of the failure.
        setting: name of the setting with the expression.
    """

    REMEDY = "Give a feature name, or a SQL expression over features. Quote names that contain spaces."
    by: str
    problem: str
    setting: str = "drift.segment_by"

    def __str__(self) -> str:
        example = 'a feature name, or a SQL expression over features such as "Hours per week" > 40'
        return f"{self.setting}={snippet(self.by)}: {self.problem}; expected {example}"


@dataclass(eq=False)
class LedgerError(ShapwatchError):
    """The ledger is unreachable, unreadable or read-only. The operation had no effect."""

    REMEDY = "Follow the message. Schedules and executions continue when the ledger is available again."
    ledger: str
    problem: str

    def __str__(self) -> str:
        return f"the ledger {self.ledger}: {self.problem} (ledger.url)"


class MissingSnapshot(LedgerError):
    """The ledger lacks the settings snapshot of a schedule or an execution."""

    REMEDY = "Write a new snapshot with stage=schedule stage.action=update."

    def __init__(self, ledger: str, digest: str) -> None:
        super().__init__(ledger, f"settings snapshot {digest} is missing; run stage=schedule stage.action=update")
        self.digest = digest


@dataclass(eq=False)
class ClaimLost(ShapwatchError):
    """Another process runs an execution, because its first owner did not answer for `ledger.lease_seconds`."""

    REMEDY = "Nothing is to be done: the other process writes and publishes the result."
    execution_id: int

    def __str__(self) -> str:
        return f"another process has taken over execution {self.execution_id}; this one wrote and published nothing"


@dataclass(eq=False)
class UnknownSchedule(ShapwatchError):
    """The ledger has no schedule of this name.

    Attributes:
        name: requested name.
        ledger: address of the ledger.
        known: names of its schedules.
    """

    REMEDY = "Create the schedule, or correct monitor.name or ledger.url."
    name: str
    ledger: str
    known: Sequence[str]

    def __str__(self) -> str:
        known = listed(self.known) or "none"
        return (
            f"ResourceNotFound: the ledger {self.ledger} has no schedule {self.name} (its schedules: "
            f"{known}); create it with stage.action=create, or correct monitor.name or ledger.url"
        )


@dataclass(eq=False)
class ScheduleExists(ShapwatchError):
    """The ledger already has a schedule of this name."""

    REMEDY = "Use stage.action=update, or another monitor.name."
    name: str
    ledger: str

    def __str__(self) -> str:
        return (
            f"ResourceInUse: the ledger {self.ledger} already has a schedule {self.name}; "
            "change it with stage.action=update, or choose another monitor.name"
        )


@dataclass(eq=False)
class ReportError(ShapwatchError):
    """A report template or chart is invalid, or a folder lacks the documents of a report."""

    REMEDY = "Correct the line of the template or chart. The documents of the execution are complete."
    location: object
    problem: str

    def __str__(self) -> str:
        return f"{self.location}: {self.problem}"


@dataclass(eq=False)
class PublishError(ShapwatchError):
    """An execution could not be published to a sink.

    Attributes:
        sink: name of the sink.
        problem: cause of the failure.
        retryable: whether another attempt may succeed.
        remaining: sink for the part that was not published; None to retry the whole sink.
    """

    REMEDY = "Check the sink. The execution and its verdict are unaffected."
    sink: str
    problem: str
    retryable: bool = True
    remaining: Any = None

    def __str__(self) -> str:
        return f"{self.sink}: {redact_urls(self.problem)}"


@dataclass(eq=False)
class RecordError(ShapwatchError):
    """A captured line or record is invalid.

    Attributes:
        kind: one of `REJECTIONS`.
        problem: cause of the rejection.
    """

    REMEDY = "Run stage=capture for the line and its location, and see the rejection reasons."
    kind: str
    problem: str

    def __str__(self) -> str:
        return self.problem


REJECTIONS = {
    "not_json": "The line is not JSON.",
    "not_a_capture": "The line is JSON, but not a captured event.",
    "no_input": "The request was not captured.",
    "no_output": "The response was not captured.",
    "encoding": "The encoding field is not CSV, JSON or BASE64, or the body does not match it.",
    "payload": "The body does not have the expected format.",
    "row_count": "Request and response contain different numbers of records.",
    "features_not_found": "data.features finds nothing.",
    "feature_count": "The number of values differs from the number of features.",
    "feature_type": "The type of a value differs from the usual one.",
    "score_not_found": "data.score finds nothing, or no number.",
    "score_count": "The number of scores differs from the number of outputs.",
    "not_finite": "A value is NaN or Infinity.",
    "too_long": "The line is longer than 32 MiB, or contains more than 2,097,152 values.",
    "model_input": "The model rejects the record.",
    "not_a_manifest": "The file is not a manifest of a batch transform.",
    "not_ground_truth": "The line is not a ground truth record.",
    "ground_truth": "The label in a ground truth record cannot be read.",
}
"""Rejection reasons of lines and records with their meaning, as counted in manifests and in `rejected.jsonl`."""
