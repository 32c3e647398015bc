"""Holm's correction against scipy's stricter and looser relatives, and by its own definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runner.drift.ks import holm


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1))
def test_what_it_rejects_is_what_the_procedure_rejects(p: list[float], level: float) -> None:
    """Step down: the smallest p-value against level / m, the next one against level / (m - 1), until one fails."""
    p_D = np.array(p)
    adjusted_D = holm(p_D)
    rejected = set()
    for place, d in enumerate(p_D.argsort(kind="stable")):
        if p_D[d] * (len(p) - place) > level:
            break
        rejected.add(int(d))
    assert rejected == set(np.nonzero(adjusted_D <= level)[0].tolist()) or level == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_it_lies_between_no_correction_and_bonferronis(p: list[float]) -> None:
    """And it keeps the order."""
    p_D = np.array(p)
    adjusted_D = holm(p_D)
    assert (adjusted_D >= p_D).all()
    assert (adjusted_D <= (p_D * len(p)).clip(max=1) + 1e-15).all()
    assert (np.diff(adjusted_D[p_D.argsort(kind="stable")]) >= 0).all()
