"""Who plays: every feature by itself, or some together as one player (`shap.groups`).

Array letters: N records, D features, G players, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.errors import ExplainerError


@dataclass(frozen=True)
class Players:
    """The names of the G players, and which player each of the D features belongs to, as player_D."""

    names: tuple[str, ...]
    player_D: NDArray[np.intp]

    @property
    def single(self) -> bool:
        """Whether each feature plays by itself."""
        return len(self.names) == len(self.player_D)

    def any(self, booleans_ND: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return for each player whether it is so of any of its features, as booleans_NG."""
        if self.single:
            return booleans_ND
        return np.stack([booleans_ND[:, self.player_D == g].any(axis=1) for g in range(len(self.names))], axis=1)

    def total(self, values_NDL: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sums over each player's features, as values_NGL."""
        if self.single:
            return values_NDL
        sums = [values_NDL[:, self.player_D == g].sum(axis=1) for g in range(len(self.names))]
        return np.stack(sums, axis=1)


def seated(features: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Players:
    """Return the players: groups where their first feature stands, all other features by themselves.

    Raises:
        ExplainerError: when a group names what is no feature, or what another group has, or has a feature's name.
    """
    group_of: dict[str, str] = {}
    for group, members in groups.items():
        for name in members:
            if name not in features:
                raise ExplainerError(f"shap.groups: {group!r} names {name!r}; the features are {', '.join(features)}")
            if name in group_of:
                raise ExplainerError(f"shap.groups: {name!r} is in {group_of[name]!r} and in {group!r}; leave one")
            group_of[name] = group
        if group in features and group not in members:
            raise ExplainerError(f"shap.groups: {group!r} is the name of a feature outside of it; take another one")
    names = [group_of.get(name, name) for name in features]
    players = list(dict.fromkeys(names))
    return Players(tuple(players), np.array([players.index(name) for name in names], dtype=np.intp))
