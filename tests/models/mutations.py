"""Damaged model documents, and attempts to load them in processes of their own, which may crash."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

NUMBERS = [-(2**31), -7, -1, 0, 1, 2, 3, 7, 10**6, 2**31 - 1, 2**31, 2**32 + 1, 2**63 - 1]
OTHERS = [1e300, float("nan"), "x", "", "-1", "1000000", None, True, [], {}, [[1]], 1.5]
SECONDS = 60
"""Time after which loading and predicting is a hang."""


def mutated(rng: random.Random, document: Any) -> Any:
    """Return a copy of a JSON document with one to three damaged members."""
    copy = deepcopy(document)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        parent, key = rng.choice(list(_members(copy)))
        value = parent[key]
        if isinstance(value, list) and value:
            damages = [value[: len(value) // 2], value + value, [], value[::-1], rng.sample(value, len(value))]
            damages += [[*value[:i], number, *value[i + 1 :]] for i in range(len(value[:4])) for number in NUMBERS]
            parent[key] = rng.choice(damages)
        elif isinstance(value, str):
            parent[key] = str(rng.choice([*NUMBERS, *OTHERS]))
        else:
            parent[key] = rng.choice([*NUMBERS, *OTHERS])
    return copy


def _members(document: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(document) if isinstance(document, dict) else range(min(6, len(document))):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from _members(document[key])


def deaths(attempt: Callable[[int], None], count: int) -> list[tuple[int, int | None]]:
    """Return the numbers of the attempts that killed their process, or did not end, each with its exit code."""
    found: list[tuple[int, int | None]] = []
    context = get_context("spawn")
    number = 0
    while number < count:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_attempts, args=(attempt, range(number, count), sender))
        process.start()
        sender.close()
        with suppress(EOFError):
            while receiver.poll(SECONDS):
                number = receiver.recv() + 1
        process.kill()
        process.join()
        if number < count:
            found.append((number, process.exitcode))
            number += 1
    return found


def _attempts(attempt: Callable[[int], None], numbers: range, ended: Connection) -> None:
    for number in numbers:
        attempt(number)
        ended.send(number)
