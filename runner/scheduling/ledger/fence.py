"""Fence: the claim of an execution, as its own process checks it before it writes and publishes the result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self, TypeVar

import orjson

from runner.domain.executions import Execution
from runner.domain.schedules import Claim, ExecutionRecord
from runner.errors import ClaimLost, LedgerError
from runner.scheduling.ledger import Ledger

RETRY_SECONDS = 1.0
"""Seconds between two attempts to reach the ledger; the maximum duration of the execution limits them."""

Answer = TypeVar("Answer")

logger = logging.getLogger("shapwatch.ledger")


@dataclass(frozen=True)
class Fence:
    """The claim of an execution, which another process may have taken over meanwhile.

    Attributes:
        ledger: ledger with the execution.
        claim: claim under which this process was started.
        is_recorded: whether the result is recorded already, and remains to be published.
        clock: function that returns the current time in UTC.
        sleep: function that pauses for a number of seconds.
    """

    ledger: Ledger
    claim: Claim
    is_recorded: bool = False
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], object] = time.sleep

    @classmethod
    def load(cls, text: str) -> Self:
        """Return the fence in an environment variable."""
        fields = orjson.loads(text)
        return cls(Ledger(fields["url"], fields["busy_seconds"]), Claim(**fields["claim"]), fields["is_recorded"])

    def dump(self) -> str:
        """Return the fence as a string for an environment variable; it contains no secret."""
        url, busy_seconds = self.ledger.url, self.ledger.busy_seconds
        fields = {"url": url, "busy_seconds": busy_seconds, "claim": asdict(self.claim)}
        return orjson.dumps({**fields, "is_recorded": self.is_recorded}).decode()

    def check(self) -> None:
        """Check that no other process has claimed the execution; wait while the ledger does not answer.

        Raises:
            ClaimLost: if another process has claimed it, or its end is recorded.
        """
        if not self._answer(lambda: self.ledger.executions.is_valid(self.claim, self.is_recorded)):
            raise ClaimLost(self.claim.execution_id)

    def record(self, result: Execution) -> None:
        """Record the result, which remains to be published; wait while the ledger does not answer.

        If a result is recorded already, only check the claim.

        Raises:
            ClaimLost: if another process has claimed the execution.
        """
        if self.is_recorded:
            self.check()
        elif not self._answer(lambda: self.ledger.executions.record(self.claim, result, self.clock())):
            raise ClaimLost(self.claim.execution_id)

    def correct(self, result: Execution) -> None:
        """Record the result that a process had written before it died, in place of its death.

        Raises:
            ClaimLost: if another process has claimed the execution.
        """
        if not self._answer(lambda: self.ledger.executions.correct(self.claim, result, self.clock())):
            raise ClaimLost(self.claim.execution_id)

    def recorded(self) -> ExecutionRecord:
        """Return the recorded execution; wait while the ledger does not answer."""
        return self._answer(lambda: self.ledger.executions.get(self.claim.execution_id))

    def _answer(self, ask: Callable[[], Answer]) -> Answer:
        while True:
            try:
                return ask()
            except LedgerError as error:
                logger.warning("%s; trying again", error)
                self.sleep(RETRY_SECONDS)
