"""Charts of a report: which ones there are, their sentences and tables, and their images in three widths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from runner.domain.drift import (
    Change,
    DetectableChange,
    DriftResult,
    FeatureDrift,
    Level,
    Parity,
    RecordSample,
    ScoreGroup,
    ScorePairs,
)
from runner.domain.executions import HistoryPoint, utc
from runner.domain.numbers import plural
from runner.errors import listed
from runner.explain.background import BaselineScore, most_unusual
from runner.report import record_charts, reference_charts, sections, share_charts, tables
from runner.report.sections import Feature, Label, largest
from runner.report.share_charts import Evidence
from runner.report.svg import NARROW, PAPER, WIDE
from runner.report.tables import ReportTable, make_table

FONT = re.compile(r'font-family="[^"]*"')
PDF_FONT = "Libertinus Serif"
"""Font of the charts in the PDF; narrower than the font for which text is placed."""
MOST_WINDOWS = 12
"""Maximum number of windows in the table of the timeline."""
MOST_HEAT = 12
"""Maximum number of features in the heat map."""
MOST_POINTS = 200
"""Maximum number of features in the chart of size and significance of changes."""
MOST_DISTRIBUTIONS = 5
"""Maximum number of features with histograms."""
MOST_SEGMENTS = 12
"""Maximum number of segments in the chart."""
MOST_REFERENCE_CHARTS = 6
"""Maximum number of labels of a reference with a chart."""

Plot = Callable[[int], str]
"""Function that returns a chart as SVG for a width in pixels."""


@dataclass(frozen=True)
class Caption:
    """Description of a chart of a report.

    Attributes:
        id: unique name on the page.
        chart: kind of the chart.
        sentence: description.
        table: numbers of the chart; None if other tables contain them.
        is_open: whether the page shows the table unfolded.
        section: section of the page: `changes`, `inputs`, `attributions`, `record`, `timeline`, `segments`, `parity`,
            `baseline`, `detectable`, `earlier`.
    """

    id: str
    chart: str
    heading: str
    sentence: str
    table: ReportTable | None = None
    is_open: bool = False
    section: str = "attributions"


@dataclass(frozen=True, kw_only=True)
class Figure(Caption):
    """Chart of a report, with the function that returns it as SVG for a width in pixels."""

    plot: Plot


@dataclass(frozen=True, kw_only=True)
class Drawing(Caption):
    """Rendered chart.

    Attributes:
        svg: image for the column of the page, 904 pixels.
        narrow: image for a telephone, 358 pixels.
        paper: image for A4 paper, 658 pixels.
    """

    svg: str
    narrow: str
    paper: str


@dataclass(frozen=True)
class WindowRow:
    """Results of a window in the table of the timeline; unknown numbers are None."""

    end: str
    status: str
    level: str
    ndcg: float | None
    attribution_shift: float | None
    attribution_shift_noise: float | None
    total_log2_change: float | None
    total_log2_change_noise: float | None


@dataclass(frozen=True)
class RecordRow:
    """Record whose attributions changed most, with its largest attribution."""

    event_id: str
    at: str | None
    score: float
    name: str
    phi: float


@dataclass(frozen=True)
class HeatRow:
    """Changes of the share of a feature beyond chance: their number, the largest one and that of the last window."""

    name: str
    windows: int
    largest: float
    last: float | None


@dataclass(frozen=True)
class Charted:
    """Data of the charts of a comparison.

    Attributes:
        label: label of the charts.
        result: result of the tests; None without tests.
        sample: records of the label with the highest level; None without tests, and in earlier documents.
        material: attribution shift from which a change is material; None if unknown.
        most: maximum number of features in a chart of shares.
        log_odds: whether attributions are log-odds.
        threshold: lowest score of the positive class, in the unit of the scores; None if it does not apply.
    """

    label: Label
    result: DriftResult | None
    sample: RecordSample | None
    material: float | None
    most: int
    log_odds: bool
    threshold: float | None = None

    @property
    def is_calm(self) -> bool:
        """Whether no test found a change, so that only shares are shown."""
        return self.result is not None and {self.result.level, self.result.level_alone} == {Level.NONE}

    @property
    def significance(self) -> float:
        """Significance level of the tests."""
        return self.result.significance if self.result else 0.0

    def figures(self) -> Iterator[Figure]:
        """Yield the charts, in the order of the page."""
        if self.result and self.label.result and not self.is_calm:
            yield from _histograms(self.label, self.result)
            yield from _scores(self.label.name, self.result, self.threshold)
        yield self._shares()
        if self.result and not self.is_calm:
            if self.sample:
                yield from self._records(self.result, self.sample)
            if self.label.result:
                yield self._evidence(self.result)

    def _shares(self) -> Figure:
        shown = sorted(largest(self.label.features, self.most), key=lambda feature: -feature.share_now)
        calm = self.is_calm and all(feature.share_noise is not None for feature in shown)
        sentence = f"Attribution shares of the features for {self.label.name}, in the reference and live"
        sentence = _hidden(sentence, len(self.label.features) - len(shown))
        if calm:
            sentence += " Bars: range of the share that is expected by chance."
        plot = partial(share_charts.shares_without_drift if calm else share_charts.share_changes, shown)
        return Figure("shares", "shares", "Attribution share of each feature", sentence, plot=plot)

    def _records(self, result: DriftResult, sample: RecordSample) -> Iterator[Figure]:
        """Yield the charts of single records."""
        tested = {each.name: each for each in _tested(result, sample.label)}
        changed = {name for name, each in tested.items() if each.p <= result.significance}
        shown = [each for each in sample.features if each.name in tested]
        if not shown:
            return
        drawn = len(shown[0].reference_phi), len(shown[0].live_phi)
        sentence = (
            f"Local attributions φ for {sample.label}, in {'log-odds' if self.log_odds else 'units of the score'}: "
            f"{drawn[0]:,} of {plural(result.rows_reference, 'reference record')} and {drawn[1]:,} of "
            f"{plural(result.rows_live, 'live record')}, drawn at random. Dots at the ends of "
            "the axis may lie beyond it."
        )
        table = make_table(
            "Medians of the local attributions φ.", tables.MEDIANS, [tested[each.name] for each in shown]
        )
        plot: Plot = partial(record_charts.beeswarm, shown, changed)
        yield Figure("beeswarm", "beeswarm", "Attribution of each record", sentence, table, plot=plot)
        causes = [each.name for each in result.changed_inputs]
        order = [*causes, *(each.name for each in sample.features if each.name in changed and each.name not in causes)]
        first = {name: i for i, name in enumerate(order)}
        if moved := record_charts.shown_features(sample.features, first, record_charts.MOST_DEPENDENCES):
            names = listed([each.name for each in moved])
            sentence = f"Local attribution φ for {sample.label} against the value of {names}, of the same records."
            plot = partial(record_charts.dependence, moved)
            yield Figure("dependence", "dependence", "Attribution against value", sentence, plot=plot)
        if sample.changed:
            yield self._changed(sample)

    def _changed(self, sample: RecordSample) -> Figure:
        record = sample.changed[0]
        event = f"Event {record.event_id}, {record.at}" if record.event_id else f"Record {record.row + 1:,}"
        score = record_charts.score_text(record.score, self.log_odds)
        expected = record_charts.score_text(record.expected, self.log_odds)
        sentence = (
            f"{event}: steps from the expected score {expected} to its score {score} for {sample.label}. Its changed "
            "attributions are farthest from the medians of the reference."
        )
        if self.log_odds:
            sentence += " The axis is linear in log-odds, and its labels are probabilities."
        rows = [
            RecordRow(each.event_id or f"record {each.row + 1:,}", each.at or None, each.score, first.name, first.phi)
            for each in sample.changed
            for first in each.contributions[:1]
        ]
        table = make_table("Records whose attributions changed most.", tables.RECORDS, rows)
        plot = partial(record_charts.waterfall, record, log_odds=self.log_odds, threshold=self.threshold)
        return Figure("record", "record", "Most changed record", sentence, table, section="record", plot=plot)

    def _evidence(self, result: DriftResult) -> Figure:
        inputs = {each.name: each for each in result.inputs}
        rows = []
        for feature in sorted(self.label.features, key=lambda feature: (_p(feature), -feature.size)):
            found = inputs.get(feature.name)
            p, level = (found.p, found.level) if found else (_p(feature), Level.NONE)
            level = Level.INFO if level is Level.NONE and p <= self.significance else level
            rows.append(Evidence(feature.name, p, feature.size, level))
        significant = [each for each in rows if each.p <= self.significance]
        sentence = (
            f"The values of {len(significant)} of {plural(len(rows), 'feature')} changed significantly "
            f"(p below {self.significance:.1g})."
        )
        if self.material is not None:
            both = [each for each in significant if each.size >= self.material]
            points = f"{100 * self.material:g} percentage points"
            large = plural(len(both), "feature")
            sentence += f" Large and significant (attribution share changed by {points} or more): {large}."
        shown = sorted(rows, key=lambda each: (each.p, -each.size))[:MOST_POINTS]
        plot = partial(share_charts.evidence_chart, shown, self.significance, self.material)
        return Figure("quadrant", "quadrant", "Size and significance of changes", sentence, plot=plot)


def _tested(result: DriftResult, label: str) -> tuple[FeatureDrift, ...]:
    """Return the tested features of a label."""
    return next((each.features for each in result.labels if each.label == label), ())


def _p(feature: Feature) -> float:
    return 1.0 if feature.p is None else feature.p


def _histograms(label: Label, result: DriftResult) -> Iterator[Figure]:
    """Yield the histograms of the inputs that changed, and of the features whose attributions changed.

    Without any, they are those of the largest changes.
    """
    changed = {each.name: i for i, each in enumerate(result.changed_inputs)}
    found = [feature for feature in label.top_changes if feature.attributions]
    found = [each for each in found if each.name in changed or _p(each) <= result.significance] or found
    shown = sorted(found, key=lambda feature: changed.get(feature.name, len(changed)))[:MOST_DISTRIBUTIONS]
    if shown:
        sentence = (
            f"Local attributions φ for {label.name}, and feature values. Shown: inputs that changed, then features "
            "whose attributions changed."
        )
        table = make_table("Medians of the local attributions φ.", tables.MEDIANS, shown)
        plot = partial(share_charts.distributions, shown)
        yield Figure("histograms", "histograms", "Distributions", sentence, table, section="changes", plot=plot)


def _scores(label: str, result: DriftResult, threshold: float | None) -> Iterator[Figure]:
    """Yield the distribution of the scores of a label."""
    for each in result.outputs:
        if each.label == label and each.scores:
            sentence = f"Distribution of the scores of {label}, in the reference and live."
            sentence += "" if threshold is None else " Dashed: data.probability_threshold."
            plot = partial(share_charts.score_histogram, each.scores, threshold=threshold)
            yield Figure("scores", "scores", "Scores", sentence, section="inputs", plot=plot)


def parity_figure(scores: ScorePairs, parity: Parity) -> Figure:
    """Return the chart of captured against recomputed scores."""
    sentence = (
        f"{parity.differing:,} of {plural(parity.records, 'captured score')} of {scores.label} differ from recomputed "
        "ones. Equal scores lie on the diagonal; of each kind, up to 200 random records are drawn."
    )
    everything = ScoreGroup("All records", parity.differing, parity.records)
    caption = "Scores that differ" + (
        ", by the value of the feature that separates them best." if scores.groups else "."
    )
    table = make_table(caption, tables.SCORE_GROUPS, [everything, *scores.groups])
    plot = partial(record_charts.score_pairs, scores, parity)
    return Figure(
        "parity", "parity", "Captured and recomputed scores", sentence, table, is_open=True, section="parity", plot=plot
    )


def timeline_figures(points: Sequence[HistoryPoint], change: Change | None = None) -> Iterator[Figure]:
    """Yield the timeline of windows, given oldest first, and its heat map; nothing for fewer than two windows.

    Args:
        points: the windows.
        change: change that the headline names; its start is marked.
    """
    if len(points) < 2:
        return
    sentence = (
        f"The last {plural(len(points), 'window')}. Grey: range expected by chance. Dashed line: mean score of the "
        "reference. Colored: an alert. Lines are interrupted by failed executions and missing windows."
    )
    if len({point.reference for point in points if point.reference}) > 1:
        sentence += " Dotted line: start of another reference."
    rows = [_window_row(point) for point in points[::-1][:MOST_WINDOWS]]
    table = make_table("The last windows, newest first.", tables.WINDOWS, rows)
    plot = partial(share_charts.timeline, points, change=change)
    yield Figure("timeline", "timeline", "Timeline", sentence, table, section="timeline", plot=plot)
    if names := share_charts.changed_names(points, MOST_HEAT):
        sentence = (
            "Change of the attribution share by feature and window. Orange: rose, blue: fell, darker from 1, 3, 10 and "
            "30 percentage points. Grey: within chance. Right: percentage points in the last window."
        )
        table = make_table("Changes of attribution shares beyond chance.", tables.HEAT, _heat_rows(points, names))
        plot = partial(share_charts.heat_map, points, names)
        yield Figure("heat", "heat", "Changes by feature and window", sentence, table, section="timeline", plot=plot)


def _heat_rows(points: Sequence[HistoryPoint], names: Sequence[str]) -> list[HeatRow]:
    rows = []
    for name in names:
        changes = [point.share_changes[name] for point in points if name in point.share_changes]
        rows.append(HeatRow(name, len(changes), max(changes, key=abs), points[-1].share_changes.get(name)))
    return rows


def _window_row(point: HistoryPoint) -> WindowRow:
    return WindowRow(
        end=format_time(utc(point.end)),
        status=point.status,
        level=point.level.words,
        ndcg=point.ndcg,
        attribution_shift=point.attribution_shift,
        attribution_shift_noise=point.attribution_shift_noise,
        total_log2_change=point.total_log2_change,
        total_log2_change_noise=point.total_log2_change_noise,
    )


def segment_figures(result: DriftResult) -> Iterator[Figure]:
    """Yield the chart of the segments that were tested; nothing without any."""
    rows = sections.segment_rows(result)
    tested = [row for row in rows if row.attribution_shift is not None][:MOST_SEGMENTS]
    if tested:
        sentence = (
            "Attribution shift in each segment, for its label with the highest level. Grey: range expected by chance. "
            "Right: live records."
        )
        sentence = _hidden(sentence.removesuffix("."), len(rows) - len(tested), "other segment")
        plot = partial(share_charts.segments, tested)
        yield Figure("segment-chart", "segments", "Segments compared", sentence, section="segments", plot=plot)


def reference_figures(labels: Sequence[Label], most: int) -> Iterator[Figure]:
    """Yield a chart for each of the first labels of a reference, with the `most` largest features."""
    for i, label in enumerate(labels[:MOST_REFERENCE_CHARTS]):
        shown = largest(label.features, most)
        sentence = f"Global attributions for {label.name}; right: attribution shares"
        sentence = _hidden(sentence, len(label.features) - len(shown))
        plot = partial(reference_charts.attribution_bars, shown)
        yield Figure(f"attributions-{i}", "attributions", f"Attributions: {label.name}", sentence, plot=plot)


def baseline_figures(scores: Sequence[BaselineScore], changes: Sequence[DetectableChange]) -> Iterator[Figure]:
    """Yield the charts of the scores of the SHAP baseline, and of the changes that the reference can detect."""
    if scores:
        shown = sorted(scores, key=lambda each: -abs(each.quantile - 0.5))[:MOST_REFERENCE_CHARTS]
        _, is_unusual = most_unusual(scores)
        sentence = "Share of the records with a lower score than the SHAP baseline. Grey: usual shares. Right: score."
        sentence += " Triangle: unusual, so that attributions are differences from an untypical score." * is_unusual
        table = make_table("Scores of the SHAP baseline.", tables.BASELINE_SCORES, shown)
        plot = partial(reference_charts.baseline_percentiles, shown, len(scores))
        yield Figure(
            "percentile", "percentile", "Score of the SHAP baseline", sentence, table, section="baseline", plot=plot
        )
    if any(each.change < 1 for each in changes):
        sentence = "Smallest share of an hour's records in which clearly different values of one feature are detected."
        sentence += " Grey: no change is detectable." * any(each.change >= 1 for each in changes)
        table = make_table("Smallest detectable changes; 100% means none.", tables.DETECTABLE, changes)
        plot = partial(reference_charts.detectable_changes, changes)
        yield Figure(
            "detectable", "detectable", "Minimum detectable change", sentence, table, section="detectable", plot=plot
        )


def _hidden(sentence: str, hidden: int, name: str = "smaller feature") -> str:
    return f"{sentence}. Not shown: {plural(hidden, name)}." if hidden else f"{sentence}."


def format_time(at: datetime) -> str:
    """Return a UTC time as a readable string, without seconds and time zone.

    >>> format_time(utc("2026-01-05T10:00:00Z"))
    '2026-01-05 10:00'
    """
    return f"{at:%Y-%m-%d %H:%M}"


def draw(figure: Figure) -> Drawing:
    """Return a chart in all widths; the wide image has the name of the figure as its ID."""
    caption, plot = dict(vars(figure)), figure.plot
    del caption["plot"]
    wide = plot(WIDE).replace("<svg ", f'<svg id="{figure.id}" ', 1)
    return Drawing(**caption, svg=wide, narrow=plot(NARROW), paper=plot(PAPER))


def with_pdf_font(svg: str) -> str:
    """Return a chart in the font of the PDF."""
    return FONT.sub(f'font-family="{PDF_FONT}"', svg)
