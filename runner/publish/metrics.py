"""Metrics of an execution, limited in number, as Prometheus and OpenTelemetry receive them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import LabelResult
from runner.domain.executions import Publication, Status


@dataclass(frozen=True)
class Metric:
    """A finite number with its dimensions.

    Attributes:
        name: a key of `METRICS`.
        value: the number.
        dimensions: label, feature or status; endpoint and monitor come from the publication.
    """

    name: str
    value: float
    dimensions: dict[str, str]


def metrics(publication: Publication, max_features: int, max_labels: int) -> Iterator[Metric]:
    """Yield the metrics of an execution, without undefined ones.

    Args:
        publication: the execution.
        max_features: maximum number of features, those with the largest attribution to a published label first.
        max_labels: maximum number of labels, the worst first: by drift level, then by nDCG.
    """
    for metric in _all(publication, max_features, max_labels):
        if math.isfinite(metric.value):
            yield metric


def label_metrics(result: LabelResult) -> Iterator[tuple[str, float]]:
    """Yield the name and the value of each metric of one model output."""
    yield "label_drift_level", float(result.level.order)
    if result.attribution_shift.value is not None:
        yield "attribution_shift", result.attribution_shift.value
    if result.total_log2_change.value is not None:
        yield "total_log2_change", result.total_log2_change.value


def _all(publication: Publication, max_features: int, max_labels: int) -> Iterator[Metric]:
    for status in Status:
        if status.terminal:
            yield Metric("execution_status", float(status == publication.status), {"status": status})
    yield Metric("execution_scheduled_timestamp_seconds", publication.scheduled.timestamp(), {})
    if publication.drift:
        yield Metric("drift_level", publication.level.order, {})
    labels = _worst_first(publication)[:max_labels]
    for result in publication.drift.labels if publication.drift else ():
        if result.label in labels:
            for name, value in label_metrics(result):
                yield Metric(name, value, {"label": result.label})
    for label in labels:
        if label in publication.ndcg:
            yield Metric("ndcg", publication.ndcg[label], {"label": label})
    if publication.attributions:
        yield from _attributions(publication.attributions, labels, max_features)


def _worst_first(publication: Publication) -> list[str]:
    """Return the labels, highest drift level and lowest nDCG first."""
    levels = {result.label: result.level.order for result in publication.drift.labels} if publication.drift else {}
    labels = publication.attributions.labels if publication.attributions else ()
    return sorted(labels, key=lambda label: (-levels.get(label, 0), publication.ndcg.get(label, math.inf)))


def _attributions(live: GlobalAttributions, labels: list[str], max_features: int) -> Iterator[Metric]:
    columns = [live.labels.index(label) for label in labels]
    largest_D = abs(live.values_DL[:, columns]).max(axis=1, initial=0.0)
    for d in sorted(range(len(live.names)), key=lambda d: -largest_D[d])[:max_features]:
        for label, column in zip(labels, columns, strict=True):
            yield Metric("attribution", float(live.values_DL[d, column]), {"label": label, "feature": live.names[d]})
