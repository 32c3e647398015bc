"""A ledger in PostgreSQL, for several machines; psycopg speaks to it."""

from __future__ import annotations

import math

from sqlalchemy import URL, Engine, create_engine

CONNECTIONS = 8
KEEPALIVES = 3

PROBLEMS = {
    "57014": "it did not answer within ledger.busy_seconds={busy:g}; see what it is busy with",
    "55P03": "another session has locked it for more than ledger.busy_seconds={busy:g}; end that session",
    "53100": "the disk of the server is full; make space",
    "25006": "it may only be read; name the primary server, not a replica",
    "42501": "{told}; grant the user what it lacks",
}


def engine(url: URL, busy_seconds: float) -> Engine:
    """Return what connects to a database, and gives up when the server does not answer for so long.

    Raises:
        ModuleNotFoundError: when psycopg is not installed.
    """
    seconds, milliseconds = max(2, math.ceil(busy_seconds)), math.ceil(busy_seconds * 1000)
    session = {
        "timezone": "UTC",
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "tcp_keepalives_idle": seconds,  # so that the server, too, sees when we are gone, and lets go of our locks
        "tcp_keepalives_interval": math.ceil(seconds / KEEPALIVES),
        "tcp_keepalives_count": KEEPALIVES,
        "tcp_user_timeout": milliseconds,
    }
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        isolation_level="READ COMMITTED",
        connect_args={
            "application_name": "shapwatch",
            "connect_timeout": seconds,
            "keepalives_idle": seconds,
            "keepalives_interval": math.ceil(seconds / KEEPALIVES),
            "keepalives_count": KEEPALIVES,
            "tcp_user_timeout": milliseconds,
            "options": " ".join(f"-c {key}={value}" for key, value in session.items()),
        },
        pool_pre_ping=True,
        pool_size=CONNECTIONS,
        max_overflow=CONNECTIONS,
        pool_timeout=busy_seconds,
    )


def problem(error: BaseException | None, busy_seconds: float) -> str:
    """Return what PostgreSQL refuses as a sentence."""
    told = " ".join(str(error).split())
    state = getattr(error, "sqlstate", None)
    if sentence := PROBLEMS.get(state or ""):
        return sentence.format(busy=busy_seconds, told=told)
    remedy = "PostgreSQL refuses" if state else "it cannot be reached"
    return f"{remedy}: {told}"
