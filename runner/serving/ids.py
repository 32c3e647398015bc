"""Ids of requests and events: UUIDs of version 4, by the ten thousand a second.

`uuid.uuid4` asks the operating system each time and lets go of the interpreter while it does, which in a server with
several threads costs many times the id; here it is asked for one seed in each process.
"""

from __future__ import annotations

import os
import random

_generator = random.Random()  # noqa: S311  ids are to be different, not secret
os.register_at_fork(after_in_child=_generator.seed)

VARIABLE = ~(0xF << 76 | 0x3 << 62)
VERSION_4 = 4 << 76 | 2 << 62


def new_id() -> str:
    """Return an id that was never returned before."""
    digits = f"{_generator.getrandbits(128) & VARIABLE | VERSION_4:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
