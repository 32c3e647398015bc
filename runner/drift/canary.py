"""Is it the model or the inputs? Records that were kept are explained again: if they have moved, the model has changed.

Source: with models f and inputs X, before and now, G(f₁, X₁) − G(f₀, X₀) telescopes into what the inputs have done,
G(f₁, X₁) − G(f₁, X₀), and what the model has, G(f₁, X₀) − G(f₀, X₀); the latter is seen by itself on kept records X₀.
"""

from __future__ import annotations

import numpy as np

from runner.domain.attributions import Attributions
from runner.domain.drift import Canary
from runner.domain.text import plural
from runner.drift.pairing import pair
from runner.drift.permutation import observed
from runner.drift.shares import attribution_shift

ROUNDING = 1e-6
"""Of the largest score, or of 1 where that is larger: scores may travel as texts or in single precision."""


def canary(then: Attributions, now: Attributions, agg_method: str, comparable: bool) -> Canary:
    """Return what the model makes of kept records today.

    Args:
        then: their attributions when they were kept.
        now: today's, of the same records in the same order.
        agg_method: how local attributions become global ones.
        comparable: whether both come from the same estimator; else only the scores say something.
    """
    both = pair(then, now, agg_method)
    difference, largest = 0.0, 1.0
    for ours, theirs in both.labels:
        before_N, today_N = then.scores_NL[:, then.labels.index(theirs)], now.scores_NL[:, now.labels.index(ours)]
        difference = max(difference, float(abs(today_N - before_N).max()))
        largest = max(largest, float(abs(before_N).max()))
    moved = [
        float(attribution_shift(*observed(*sides, agg_method))) for sides in zip(both.before, both.now, strict=True)
    ]
    known = [value for value in moved if comparable and np.isfinite(value)]
    changed = difference > ROUNDING * largest or len(then.labels) != len(now.labels)
    return Canary(len(then.scores_NL), changed, difference, max(known, default=None))


def told(canary: Canary) -> str:
    """Return what that means, in a sentence without a full stop."""
    records = plural(canary.records, "kept record")
    if not canary.changed:
        return f"the model is the same, on {records} explained again"
    moved = "" if canary.moved is None else f", and {canary.moved:.1%} of the attention has moved there"
    return f"the model has changed: on {records} its scores differ by up to {canary.difference:.2g}{moved}"
