"""The figures of an execution, bounded in number: what Prometheus and OpenTelemetry show alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from runner.domain.attributions import GlobalAttributions
from runner.domain.executions import Status
from runner.domain.publication import Publication


@dataclass(frozen=True)
class Figure:
    """A finite number and what it is about besides the monitor: label, feature or status.

    Attributes:
        name: one of `publication.MEANINGS`.
    """

    name: str
    value: float
    about: dict[str, str]


def figures(publication: Publication, max_features: int, max_labels: int) -> Iterator[Figure]:
    """Yield what there is to show; undefined figures are left out.

    Args:
        publication: the execution.
        max_features: features shown, those with the largest attribution to any label shown.
        max_labels: labels shown, the worst first: by level, then by nDCG.
    """
    for figure in _all(publication, max_features, max_labels):
        if math.isfinite(figure.value):
            yield figure


def _all(publication: Publication, max_features: int, max_labels: int) -> Iterator[Figure]:
    for status in Status:
        if status.terminal:
            yield Figure("execution_status", float(status == publication.status), {"status": status})
    yield Figure("execution_scheduled_timestamp_seconds", publication.scheduled.timestamp(), {})
    if publication.finding:
        yield Figure("drift_level", publication.level.order, {})
    labels = _worst(publication)[:max_labels]
    for found in publication.finding.labels if publication.finding else ():
        if found.label in labels:
            about = {"label": found.label}
            yield Figure("label_drift_level", found.level.order, about)
            for name, effect in (
                ("attribution_shift", found.attribution_shift),
                ("mass_log2", found.total_log2_change),
            ):
                if effect.value is not None:
                    yield Figure(name, effect.value, about)
    for label in labels:
        if label in publication.ndcg:
            yield Figure("ndcg", publication.ndcg[label], {"label": label})
    if publication.attributions:
        yield from _attributions(publication.attributions, labels, max_features)


def _worst(publication: Publication) -> list[str]:
    """Return the labels, the worst first."""
    levels = {found.label: found.level.order for found in publication.finding.labels} if publication.finding else {}
    labels = publication.attributions.labels if publication.attributions else ()
    return sorted(labels, key=lambda label: (-levels.get(label, 0), publication.ndcg.get(label, math.inf)))


def _attributions(live: GlobalAttributions, labels: list[str], max_features: int) -> Iterator[Figure]:
    columns = [live.labels.index(label) for label in labels]
    sizes_D = abs(live.values_DL[:, columns]).max(axis=1, initial=0.0)
    for d in sorted(range(len(live.names)), key=lambda d: -sizes_D[d])[:max_features]:
        for label, column in zip(labels, columns, strict=True):
            yield Figure("attribution", float(live.values_DL[d, column]), {"label": label, "feature": live.names[d]})
