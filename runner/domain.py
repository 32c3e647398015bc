"""The nouns: plain frozen values that every room of the house may hold.

Array letters: N records, D features, L labels (model outputs), B background rows, P players.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from datetime import MAXYEAR, UTC, datetime, timedelta
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

HOUR = timedelta(hours=1)
PROBE = "shapwatch-probe"
"""What the inference ids of our own calls start with, so that captures of them are not taken for traffic."""
LONGEST = timedelta(days=366)
"""The longest window; longer histories are judged window by window."""


def utc(text: str) -> datetime:
    """Return the instant that an ISO 8601 text names, in UTC; a text without an offset is read as UTC.

    Raises:
        ValueError: with a sentence, when the text is no date with a time.

    >>> utc("2023-01-19T07:00+02:00").isoformat()
    '2023-01-19T05:00:00+00:00'
    """
    try:
        at = datetime.fromisoformat(text) if re.match(r"\d{4}-\d\d-\d\d[T ]\d", text) else None
        if at is not None:
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{text!r} is no UTC time such as 2023-01-19T05:00:00Z")


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "file"), plural(1204, "record")
    ('1 file', '1,204 records')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def label_names(headers: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    """Return the names of a model's outputs.

    >>> label_names(None, 2)
    ('label0', 'label1')
    """
    return headers or tuple(f"label{i}" for i in range(count))


@dataclass(frozen=True, order=True)
class Window:
    """A half-open interval of event times in UTC, `[start, end)`, normally one hour."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"the window starts at {self.start:%FT%TZ}, not before its end {self.end:%FT%TZ}")

    @classmethod
    def parse(cls, text: str) -> Window:
        """Return the hour that starts at a time, or the interval between two times separated by a slash.

        Raises:
            ValueError: with a sentence, when the text is neither.

        >>> str(Window.parse("2023-01-19T05"))
        '2023-01-19 05:00–06:00 UTC'
        """
        first, slash, second = text.partition("/")
        start = utc(first)
        if start.year == MAXYEAR:
            raise ValueError(f"{text!r} is no window: there is no hour after it")
        end = utc(second) if slash else start + HOUR
        if end - start > LONGEST or end.year == MAXYEAR:
            raise ValueError(f"{text!r} is no window: it is longer than {LONGEST.days} days, or beyond the calendar")
        return cls(start, end)

    def __contains__(self, at: datetime) -> bool:
        return self.start <= at < self.end

    def __str__(self) -> str:
        time = "%H:%M:%S" if self.start.second or self.end.second else "%H:%M"
        day = "" if self.end.date() == self.start.date() or self.end - self.start == HOUR else "%F "
        return f"{self.start:%F {time}}–{self.end:{day}{time}} UTC"

    @property
    def hours(self) -> tuple[datetime, ...]:
        """The starts of the UTC hours that the window touches: the folders of a capture tree."""
        first = self.start.replace(minute=0, second=0, microsecond=0)
        count = -((first - self.end) // HOUR)
        return tuple(first + i * HOUR for i in range(count))

    @property
    def scheduled(self) -> datetime:
        """The first full hour at or after the end: when an hourly schedule would look at this window."""
        return self.hours[-1] + HOUR


@dataclass(frozen=True)
class Line:
    """One line of a file: the file's name relative to what was listed, the line's number from 1, its bytes."""

    file: str
    number: int
    data: bytes


@dataclass(frozen=True)
class Payload:
    """One side of a captured invocation: the body as a string, decoded according to `encoding`."""

    content_type: str
    data: str
    encoding: str


@dataclass(frozen=True)
class Event:
    """One captured invocation: one line of a capture file, whatever the number of records in it."""

    event_id: str
    at: datetime
    input: Payload | None
    output: Payload | None
    inference_id: str | None = None
    version: str = "0"
    custom_attributes: tuple[str, ...] = ()

    @property
    def is_probe(self) -> bool:
        """Whether it is a call of our own, made to explain the endpoint."""
        return self.inference_id is not None and self.inference_id.startswith(PROBE)


@dataclass(frozen=True)
class Rejection:
    """A line or record that was not used: where it stands, the reason it is counted under, the sentence, the text."""

    file: str
    line: int
    kind: str
    problem: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}"


@dataclass(frozen=True)
class Captured:
    """What a window or a dataset holds: counts of everything seen, the usable records, what was rejected and why.

    Attributes:
        files: the files that were read, named below what was listed.
        events: the lines (of a dataset: records) that belong to the window, used or rejected.
        outside: the lines that belong to other windows.
        probes: the calls that explaining the endpoint made, by their inference ids; they are no traffic.
        records: how many records are usable.
        sample: how many of them are in the table; None for all.
        names: of the features.
        table: the usable records, not read before they are asked for. Its columns are `file`, `line`, `row` (in the
            payload), `event_id`, `inference_id`, `at`; `feature0`, `feature1`, … in their own types; `score0`, … with
            the captured model outputs, null where a record has none.
        rejected: how many were rejected for which reason, most frequent first.
        examples: the first rejection of each reason.
        rejections: all of them as JSON Lines, read from its start.
    """

    files: tuple[str, ...]
    events: int
    outside: int
    probes: int
    records: int
    names: tuple[str, ...]
    table: pl.LazyFrame
    rejected: Mapping[str, int]
    examples: tuple[Rejection, ...]
    rejections: IO[bytes]
    sample: int | None = None

    def features(self) -> pl.DataFrame:
        """Return the features, one column each under its own name."""
        return self._columns("feature").rename({f"feature{d}": name for d, name in enumerate(self.names)})

    def scores(self) -> NDArray[np.float64] | None:
        """Return the captured scores_NL, NaN where a record has none; None where no record has any."""
        scores = self._columns("score")
        return scores.fill_null(float("nan")).to_numpy() if scores.width else None

    def events_of(self) -> pl.DataFrame:
        """Return for each usable record the line that it comes from: those of one event have the same."""
        return self.table.select("file", "line").collect()

    def _columns(self, what: str) -> pl.DataFrame:
        names = self.table.collect_schema().names()
        return self.table.select([name for name in names if name.startswith(what)]).collect()

    @property
    def share(self) -> float:
        """The share of the records that were rejected; a line that could not be opened counts as one."""
        rejected = sum(self.rejected.values())
        return rejected / (self.records + rejected) if rejected else 0.0


@dataclass(frozen=True)
class Calls:
    """What goes over the wire to a model that is not in this process.

    Attributes:
        requests: invocations, each counted once however often it was tried.
        rows: the records in them.
        bytes: of their bodies.
        retries: tries beyond the first.
        fallbacks: batches the endpoint refused, that were sent again record by record.
    """

    requests: int = 0
    rows: int = 0
    bytes: int = 0
    retries: int = 0
    fallbacks: int = 0

    def __add__(self, other: Calls) -> Calls:
        return Calls(*(mine + more for mine, more in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Calls) -> Calls:
        return Calls(*(mine - less for mine, less in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Additive:
    """Outputs that add up: they are a link of a base and one term for each feature.

    Attributes:
        link: `logistic`: the outputs are probabilities, the sums log-odds; `identity`: the outputs are the sums.
        base_L: where each sum starts.
        terms_NDL: what each feature of each record adds.
    """

    link: Literal["identity", "logistic"]
    base_L: NDArray[np.float64]
    terms_NDL: NDArray[np.float64]

    @property
    def sums_NL(self) -> NDArray[np.float64]:
        """The sums, added feature by feature."""
        sums_NL = 0 * self.terms_NDL[:, 0] + self.base_L
        for d in range(self.terms_NDL.shape[1]):
            sums_NL += self.terms_NDL[:, d]
        return sums_NL


@dataclass(frozen=True)
class Margin:
    """Games that add up: the value of a coalition is a link of an intercept and the slopes of its members.

    Attributes:
        intercept_NL: where each sum starts.
        slope_NPL: what each player adds.
        link: `logistic`: values are the probabilities of these log-odds; `identity`: they are the sums.
    """

    intercept_NL: NDArray[np.float64]
    slope_NPL: NDArray[np.float64]
    link: Literal["identity", "logistic"]


@dataclass(frozen=True)
class Estimate:
    """What an explainer says about the records of a game.

    Attributes:
        phi_NPL: the attributions.
        variance_NPL: the squares of their standard errors, nan if unknown; None where they are exact.
    """

    phi_NPL: NDArray[np.float64]
    variance_NPL: NDArray[np.float64] | None


@dataclass(frozen=True)
class Errors:
    """How far attributions may be from the exact ones, as standard errors: 0 where they are exact, nan if unknown.

    Attributes:
        local_L: the root mean square of the standard errors of all local attributions of a label.
        global_DL: of the global attributions.
    """

    local_L: NDArray[np.float64]
    global_DL: NDArray[np.float64]


@dataclass(frozen=True)
class Attributions:
    """Local SHAP values; `phi_NDL.sum(1) + expected_L == scores_NL` holds for every record.

    Attributes:
        names: the D features.
        labels: the L model outputs.
        phi_NDL: attributions in the unit of the scores (probability, or log-odds with `use_logit`).
        expected_L: the model output on the background, averaged over its rows.
        scores_NL: the model outputs being explained.
        evaluations: rows that were sent to the model.
        error_NDL: the standard error of each attribution, 0 where it is exact; None for those read from a file.
        errors: of all of them together and of their summary; None for those read from a file.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    phi_NDL: NDArray[np.float64]
    expected_L: NDArray[np.float64]
    scores_NL: NDArray[np.float64]
    evaluations: int
    error_NDL: NDArray[np.float64] | None = None
    errors: Errors | None = None

    @property
    def residual(self) -> float:
        """The largest violation of efficiency, |Σφ + expected − score|: rounding only."""
        gaps_NL = abs(self.phi_NDL.sum(1) + self.expected_L - self.scores_NL)
        return float(gaps_NL.max(initial=0.0))


@dataclass(frozen=True)
class Explained:
    """Records and their local attributions, in the same order."""

    features: pl.DataFrame
    attributions: Attributions

    def rows(self, places: NDArray[np.intp]) -> Explained:
        """Return the records at some places."""
        some = replace(
            self.attributions,
            phi_NDL=self.attributions.phi_NDL[places],
            scores_NL=self.attributions.scores_NL[places],
            evaluations=0,
            error_NDL=None,
        )
        return Explained(self.features[places], some)


@dataclass(frozen=True)
class GlobalAttributions:
    """One value per feature and label: what an analysis.json carries."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    values_DL: NDArray[np.float64]
    expected_L: NDArray[np.float64]

    def values(self, label: str, names: tuple[str, ...]) -> NDArray[np.float64]:
        """Return the values_D of a label, the features in the order of `names`."""
        place = {name: d for d, name in enumerate(self.names)}
        return self.values_DL[[place[name] for name in names], self.labels.index(label)]


@dataclass(frozen=True)
class LabelDrift:
    """The nDCG of one label against the reference; `ndcg` is None where the reference supports no verdict.

    Attributes:
        label: the live label; `reference_label` is the one it was matched with.
        floor: the lowest nDCG any ranking could reach; chance: what a random ranking reaches on average.
        notes: sentences about edges that were met (one feature, negative values, degenerate reference …).
    """

    label: str
    reference_label: str
    ndcg: float | None
    floor: float | None
    chance: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Whether the ranking of reasons has drifted, by the rule of the SageMaker Clarify monitor."""

    threshold: float
    drifts: tuple[LabelDrift, ...]
    notes: tuple[str, ...] = ()

    @property
    def violations(self) -> tuple[LabelDrift, ...]:
        """The labels whose nDCG is below the threshold."""
        return tuple(drift for drift in self.drifts if drift.ndcg is not None and drift.ndcg < self.threshold)


class Status(StrEnum):
    """The statuses of an execution, as SageMaker spells them."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    COMPLETED_WITH_VIOLATIONS = "CompletedWithViolations"
    FAILED = "Failed"
    STOPPED = "Stopped"

    @property
    def terminal(self) -> bool:
        """Whether it is the last one: nothing more will happen."""
        return self not in {Status.PENDING, Status.IN_PROGRESS, Status.STOPPING}


@dataclass(frozen=True)
class Outcome:
    """What a stage has to say when it is done: a text for people, and whether it succeeded."""

    message: str
    succeeded: bool = True


@dataclass(frozen=True)
class Execution(Outcome):
    """One run of a monitor over a window, with its terminal status and its directory.

    Attributes:
        directory: of its results; empty where nothing could be written.
        failure_reason: None unless it failed.
    """

    status: Status = Status.COMPLETED
    directory: str = ""
    failure_reason: str | None = None
