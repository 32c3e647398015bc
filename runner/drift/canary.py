"""Separate a changed model from changed inputs: explain stored reference records again and compare.

With models f and inputs X, before (0) and now (1), the change of a global attribution is the sum of the effect of the
inputs, G(f₁, X₁) − G(f₁, X₀), and the effect of the model, G(f₁, X₀) − G(f₀, X₀). The second term is measured on
reference records X₀.

Array letter: N reference records.
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
"""Largest difference of scores that rounding may explain, relative to the largest score or to 1 if that is larger.

Scores may be sent as decimal strings or in single precision.
"""


def canary(stored: Attributions, current: Attributions, agg_method: str, comparable: bool) -> Canary:
    """Compare stored attributions of reference records with current ones of the same records.

    Args:
        stored: attributions from baselining.
        current: attributions from the current model, of the same records in the same order.
        agg_method: aggregation of local attributions into global ones.
        comparable: whether both use the same estimator settings; if not, only scores are compared.
    """
    both = pair(stored, current, agg_method)
    difference, largest = 0.0, 1.0
    for live_label, reference_label in both.labels:
        stored_N = stored.scores_NL[:, stored.labels.index(reference_label)]
        current_N = current.scores_NL[:, current.labels.index(live_label)]
        difference = max(difference, float(abs(current_N - stored_N).max()))
        largest = max(largest, float(abs(stored_N).max()))
    shifts = [
        float(attribution_shift(*observed(*sides, agg_method))) for sides in zip(both.before, both.now, strict=True)
    ]
    finite = [shift for shift in shifts if comparable and np.isfinite(shift)]
    changed = difference > ROUNDING * largest or len(stored.labels) != len(current.labels)
    return Canary(len(stored.scores_NL), changed, difference, max(finite, default=None))


def summary(canary: Canary) -> str:
    """Describe the result in a clause without a full stop."""
    records = plural(canary.records, "reference record")
    if not canary.changed:
        return f"the model is unchanged (checked on {records})"
    shift = "" if canary.moved is None else f" and attribution shifted by {canary.moved:.1%}"
    return f"the model changed: on {records}, scores differ by up to {canary.difference:.2g}{shift}"
