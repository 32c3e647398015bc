"""The ledger: what schedules, executions and daemons have to do with each other is told in one place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, exists, select, text, update

from runner.scheduling.ledger import rows
from runner.scheduling.ledger.executions import TERMINAL, UNDER_WAY, Entries, in_status
from runner.scheduling.ledger.schedules import Schedules
from runner.scheduling.ledger.tables import daemons, executions, schedules, snapshots

LONG_GONE = timedelta(days=1)
"""A daemon that was not heard for so long is no longer told of."""
AT_ONCE = 5_000
"""Executions that are forgotten in one transaction, so that nobody waits long for it."""


@dataclass(frozen=True)
class Daemon:
    """A process that leads, or waits to lead.

    Attributes:
        owner: the name under which it claims executions.
        host, pid: where it runs, and its number there.
        since: when it was first heard, and heartbeat when last.
        leading: whether it decides what is executed.
    """

    owner: str
    host: str
    pid: int
    since: datetime
    heartbeat: datetime
    leading: bool


class Ledger(Schedules, Entries):
    """Everything that outlives a process. Every method may raise LedgerError; all times are UTC.

    It may be used from several threads. Nothing is opened before it is needed, and a database that was away is used
    again as soon as it is back.
    """

    def keep_alive(self, owner: str, now: datetime) -> None:
        """Write down that what a process executes is still being executed."""
        with self.writing() as connection:
            _keep_alive(connection, owner, now)

    def beat(self, owner: str, now: datetime, leading: bool, host: str, pid: int) -> None:
        """Write down that a daemon is there, and that what it executes is still being executed."""
        row = {"owner": owner, "host": host, "pid": pid, "since": now, "heartbeat": now, "leading": leading}
        with self.writing() as connection:
            heard = rows.inserting(connection)(daemons).values(row)
            again = heard.on_conflict_do_update(index_elements=["owner"], set_={"heartbeat": now, "leading": leading})
            connection.execute(again)
            _keep_alive(connection, owner, now)
            connection.execute(delete(daemons).where(daemons.c.heartbeat < now - LONG_GONE))

    def retire(self, owner: str) -> None:
        """Write down that a daemon has ended."""
        with self.writing() as connection:
            connection.execute(delete(daemons).where(daemons.c.owner == owner))

    def daemons(self) -> list[Daemon]:
        """Return the daemons that are there, or were a day ago, those that lead first."""
        wanted = select(daemons).order_by(daemons.c.leading.desc(), daemons.c.since, daemons.c.owner)
        with self.reading() as connection:
            return [Daemon(**row._asdict()) for row in connection.execute(wanted)]

    def forget(self, before: datetime) -> int:
        """Remove the executions that ended before some time, and settings nobody needs.

        Returns:
            How many executions were removed.
        """
        removed = last = self._forget_some(before)
        while last == AT_ONCE:
            removed += (last := self._forget_some(before))
        return removed

    def _forget_some(self, before: datetime) -> int:
        old = select(executions.c.id).where(executions.c.ended < before, in_status(TERMINAL)).limit(AT_ONCE)
        with self.writing() as connection:
            _alone_with_snapshots(connection)
            removed = connection.execute(
                delete(executions).where(executions.c.id.in_(old), in_status(TERMINAL)).returning(executions.c.id)
            ).all()
            used = [exists().where(table.c.snapshot == snapshots.c.digest) for table in (schedules, executions)]
            connection.execute(delete(snapshots).where(~used[0], ~used[1]))
            return len(removed)


def _keep_alive(connection: Connection, owner: str, now: datetime) -> None:
    ours = (executions.c.owner == owner) & in_status(UNDER_WAY)
    connection.execute(update(executions).where(rows.in_order(ours)).values(heartbeat=now))


def _alone_with_snapshots(connection: Connection) -> None:
    """Keep others from inserting settings that they are about to refer to; on SQLite nobody else writes anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE snapshots IN SHARE ROW EXCLUSIVE MODE"))
