"""APScheduler as an alarm clock: it says whose time has come; what is due is then read from the ledger.

Nothing is kept in it: schedules and history are the ledger's, and a daemon sets its alarms anew when it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger


class Alarms:
    """An alarm for each schedule."""

    def __init__(self, ring: Callable[[str], object]) -> None:
        """Prepare.

        Args:
            ring: is called with the name of a schedule, from another thread, when its time has come.
        """
        self._ring = ring
        late: dict[str, Any] = {"misfire_grace_time": None, "coalesce": True}  # late is better than never
        self._scheduler = BackgroundScheduler(timezone=UTC, job_defaults=late)
        self._triggers: dict[str, str] = {}

    def start(self) -> None:
        """Begin to ring."""
        self._scheduler.start()

    def stop(self) -> None:
        """Ring no more."""
        if self._scheduler.running:
            self._scheduler.shutdown()

    def set(self, triggers: Mapping[str, BaseTrigger]) -> None:
        """Have these alarms and no others; those that are as they were go on."""
        wanted = {name: str(trigger) for name, trigger in triggers.items()}
        for name in self._triggers.keys() - wanted.keys():
            if self._scheduler.get_job(name):
                self._scheduler.remove_job(name)
        for name, text in wanted.items():
            if self._triggers.get(name) != text:
                self._scheduler.add_job(self._ring, triggers[name], [name], id=name, replace_existing=True)
        self._triggers = wanted
