"""Exact Shapley values: the limit of enumeration; the contract compares values with the definition."""

from __future__ import annotations

import pytest

from runner.errors import ExplainerError
from runner.explain.explainers.exact import Exact
from tests.golden import Golden


@pytest.mark.parametrize(("players", "coalitions"), [(0, 0), (1, 0), (2, 2), (20, 2**20 - 2)])
def test_all_coalitions_are_counted(players: int, coalitions: int) -> None:
    """All coalitions except the empty one and that of all players, whose values are known."""
    assert Exact().coalitions(players) == coalitions


def test_too_many_features_are_rejected(golden: Golden) -> None:
    """More than 20 features are an error that contains an alternative."""
    with golden.raises(ExplainerError) as caught:
        Exact().coalitions(21)
    assert "shap.explainer=kernel" in str(caught.value)
