"""Coalitions: all of them, those of a size, and the pairs of a coalition and its complement that kernel SHAP asks for.

A pair is known by one of its two coalitions: the smaller one, or at half of the players the one with the first player.

Array letters: P players, K coalitions, J pairs.
"""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.errors import ExplainerError

SPARSE = 4
"""A size class with more than so many times the pairs to draw from it is not listed."""


def every(players: int) -> NDArray[np.bool_]:
    """Return all coalitions of P players as masks_KP, K = 2^P; bit p of the row's number says whether p is in it."""
    masks_KP: NDArray[np.bool_] = (np.arange(2**players)[:, None] >> np.arange(players)) % 2 == 1
    return masks_KP


def pairs_of_size(players: int, size: int) -> NDArray[np.bool_]:
    """Return the pairs of a size, at most half of the players, as half_JP."""
    chosen = np.array(list(combinations(range(players), size)))
    half_JP = np.zeros((len(chosen), players), dtype=np.bool_)
    half_JP[np.arange(len(chosen))[:, None], chosen] = True
    return half_JP[half_JP[:, 0]] if 2 * size == players else half_JP


def number_of_pairs(players: int, size: int) -> int:
    """Return how many pairs `pairs_of_size` returns.

    >>> number_of_pairs(4, 1), number_of_pairs(4, 2)
    (4, 3)
    """
    return comb(players, size) // (2 if 2 * size == players else 1)


def draw_pairs(players: int, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return `count` distinct pairs as half_JP: all of size 1, then equally many of every size.

    A size class with fewer pairs than its share is there as a whole, and leaves the rest of its share to the others.
    """
    parts = [pairs_of_size(players, 1)]
    left = count - len(parts[0])
    sizes = sorted(range(2, players // 2 + 1), key=lambda size: number_of_pairs(players, size))
    for place, size in enumerate(sizes):
        quota = min(left // (len(sizes) - place), number_of_pairs(players, size))
        parts.append(_some_of_size(players, size, quota, rng))
        left -= quota
    return np.concatenate(parts)


def _some_of_size(players: int, size: int, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    if number_of_pairs(players, size) <= SPARSE * count:
        listed_JP = pairs_of_size(players, size)
        return listed_JP[rng.permutation(len(listed_JP))[:count]]
    known: dict[bytes, None] = {}
    while len(known) < count:
        luck = rng.random((2 * count, players))
        masks = luck < np.sort(luck, axis=1)[:, size : size + 1]
        masks ^= (2 * size == players) & ~masks[:, :1]
        known |= dict.fromkeys(row.tobytes() for row in masks)
    return np.frombuffer(b"".join(list(known)[:count]), dtype=np.bool_).reshape(count, players)


class UniqueCoalitions(NamedTuple):
    """Coalitions of which each is of some other players than the rest.

    Attributes:
        masks_kP: one of each, without that of all and that of nobody.
        place_K: where each of the original K is among them; −2 for that of all, −1 for that of nobody.
    """

    masks_kP: NDArray[np.bool_]
    place_K: NDArray[np.intp]


def unique_coalitions(masks_KP: NDArray[np.bool_], varying: int) -> UniqueCoalitions:
    """Return the coalitions that differ in who of the first `varying` players is there."""
    keys = np.ascontiguousarray(masks_KP[:, :varying]).view(f"S{varying}")[:, 0].tolist()
    places = {b"\1" * varying: -2, b"": -1}
    place_K = np.array([places.setdefault(key, len(places) - 2) for key in keys], dtype=np.intp)
    known, first = np.unique(place_K, return_index=True)
    return UniqueCoalitions(masks_KP[first[known >= 0]], place_K)


def coalition_budget(num_samples: int | None, players: int, most: int) -> int:
    """Return the coalitions of one record: an even number of at most `most`, never more than the 2^P − 2 there are.

    Args:
        num_samples: the budget; None for min(2·P + 2^11, 2^P − 2).
        players: P.
        most: that can be worked with.

    Raises:
        ExplainerError: when the budget is too small or too large.
    """
    every = int(2**players - 2)
    least = min(2 * players, every)
    if least > most:
        told = f"{most // 2:,} features that differ from the baseline at most, a record has {players:,}"
        raise ExplainerError(f"shap.explainer=kernel takes {told}")
    wanted = min(2 * players + 2**11, most) if num_samples is None else num_samples
    if wanted < least:
        raise ExplainerError(f"shap.num_samples={wanted} cannot determine {players} attributions: use {least} or more")
    coalitions = min(wanted, every) // 2 * 2
    if coalitions > most:
        told = f"needs too much memory for {players} features: use {most // 2 * 2} at most"
        raise ExplainerError(f"shap.num_samples={wanted} {told}")
    return coalitions
