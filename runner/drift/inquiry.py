"""Everything that is asked of a window: is there drift, where, of what kind, and does it stand beside other windows?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from runner.domain.attributions import Explained
from runner.domain.drift import Canary, DriftResult, Level
from runner.drift.canary import told as canary_told
from runner.drift.causes import with_causes
from runner.drift.detect import Detector
from runner.drift.histograms import with_histograms
from runner.drift.segments import segments


def inquire(
    detector: Detector,
    before: Explained,
    now: Explained,
    agg_method: str,
    window: timedelta,
    canary: Canary | None = None,
    past: Sequence[Level] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> DriftResult:
    """Return what a window says beside the reference.

    Args:
        detector: the rule.
        before: the records that baselining kept.
        now: those of the window.
        agg_method: how local attributions become global ones.
        window: its length.
        canary: what the model makes of kept records today, None where none were explained again.
        past: what the windows before said by themselves, oldest first.
        groups: the features that are explained as one, by the name they have then.

    Raises:
        FeatureMismatch: when a feature exists on one side only.
        SegmentError: when records cannot be divided as is asked for.
    """
    by = detector.segment_by
    parts = segments(by, before.features, now.features, detector.min_rows) if by else ()
    finding = detector.find(before.attributions, now.attributions, agg_method, window, parts)
    finding = with_causes(replace(finding, canary=canary), before.features, now.features, parts, groups)
    finding = with_histograms(finding, before, now)
    level = detector.alarm.standing(past, finding.alone)
    notes = [*finding.notes, *_standing(detector, finding.alone, level)]
    if by and not parts:
        notes.append(f"drift.segment_by={by}: no part has drift.min_rows={detector.min_rows} records on both sides")
    if canary and canary.changed:
        notes.append(canary_told(canary))
    return replace(finding, level=level, notes=tuple(notes))


def _standing(detector: Detector, alone: Level, level: Level) -> list[str]:
    """Return a sentence where the windows before make a difference."""
    rule = f"{detector.alarm.k} of {detector.alarm.n} windows have to say it (drift.datapoints_to_alert)"
    if alone.order > level.order:
        return [f"this window by itself is a case of {alone}, which does not stand yet: {rule}"]
    if alone.order < level.order:
        return [f"the {level} stands from the windows before, this one by itself is a case of {alone}: {rule}"]
    return []
